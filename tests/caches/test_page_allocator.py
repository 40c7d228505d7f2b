"""PageAllocator: blank pages first, the last given back before the others; then kept ones, the oldest first."""

import random

import pytest

from helpers.caches import PageAllocator

KEEP, FORGET = [1] * 8, [None] * 8


def kept(pages=(0, 1, 2, 3)):
    """An allocator of 8 pages, of which 4 are kept, in this order, and 4 are blank."""
    allocator = PageAllocator(8)
    allocator.take(4)
    allocator.release(pages, KEEP)
    return allocator


def test_blank_pages_are_taken_in_order_from_page_0():
    allocator = PageAllocator(4)
    assert (allocator.num_free, allocator.num_kept, allocator.num_shared) == (4, 0, 0)
    assert allocator.take(0) == ([], [])
    assert allocator.take(3) == ([0, 1, 2], [])
    assert allocator.take(1) == ([3], [])
    assert (allocator.num_free, allocator.refs) == (0, [1, 1, 1, 1])


def test_the_page_that_was_given_back_last_is_taken_first():
    allocator = PageAllocator(6)
    allocator.take(4)
    allocator.release([2, 0, 3], FORGET)
    assert allocator.take(5) == ([3, 0, 2, 4, 5], [])


def test_kept_pages_are_taken_last_the_oldest_first():
    allocator = kept((3, 0, 2, 1))
    assert allocator.kept() == [3, 0, 2, 1]
    assert (allocator.num_free, allocator.num_kept) == (8, 4)
    assert allocator.take(6) == ([4, 5, 6, 7, 3, 0], [3, 0])
    assert allocator.kept() == [2, 1]
    assert allocator.refs == [1, 0, 0, 1, 1, 1, 1, 1]


def test_release_keeps_the_pages_that_it_is_told_to():
    allocator = PageAllocator(4)
    allocator.take(4)
    allocator.release([0, 1, 2, 3], [None, "text", None, b""])
    assert allocator.kept() == [1, 3], "what is kept is not None, even if it is empty"
    assert allocator.take(4) == ([2, 0, 1, 3], [1, 3])


@pytest.mark.parametrize("held", [0, 1, 2, 3])
def test_a_kept_page_leaves_the_queue_wherever_it_is(held):
    allocator = kept()
    allocator.hold([held])
    others = [page for page in range(4) if page != held]
    assert (allocator.kept(), allocator.refs[held], allocator.num_free) == (others, 1, 7)
    allocator.release([held], KEEP)
    assert allocator.kept() == [*others, held], "held and given back, the page is the youngest"


def test_all_kept_pages_may_be_held_at_once():
    allocator = kept()
    allocator.hold([2, 0, 3, 1])
    assert (allocator.kept(), allocator.num_kept, allocator.num_free) == ([], 0, 4)
    allocator.release([1], KEEP)
    assert allocator.kept() == [1]


def test_a_page_is_free_when_no_table_names_it_any_more():
    allocator = PageAllocator(2)
    allocator.take(1)
    for shared, refs in ((1, 2), (1, 3)):
        allocator.hold([0])
        assert (allocator.num_shared, allocator.refs[0]) == (shared, refs)
    for shared, free in ((1, 1), (0, 1), (0, 2)):
        allocator.release([0], KEEP)
        assert (allocator.num_shared, allocator.num_free) == (shared, free)
    assert allocator.kept() == [0]


def test_a_kept_page_that_two_tables_take_up_is_shared():
    allocator = kept()
    allocator.hold([1])
    assert allocator.num_shared == 0
    allocator.hold([1, 2])
    assert (allocator.num_shared, allocator.kept()) == (1, [0, 3])


@pytest.mark.parametrize("blank", [[0], [2], [3], [1, 2], [3, 0], [0, 1, 2, 3]])
def test_blank_pages_of_the_queue_are_taken_before_the_others(blank):
    allocator = kept()
    allocator.blank(blank)
    others = [page for page in range(4) if page not in blank]
    assert (allocator.kept(), allocator.num_kept, allocator.num_free) == (others, len(others), 8)
    assert allocator.take(8) == ([*reversed(blank), 4, 5, 6, 7, *others], others)


def test_any_sequence_equals_two_lists():
    """The model: a stack of blank pages and a list of kept ones."""
    rng, allocator = random.Random(0), PageAllocator(8)
    stack, queue, refs = list(range(7, -1, -1)), [], [0] * 8
    for _ in range(5_000):
        used = [page for page in range(8) if refs[page]]
        action = rng.choice(("take", "hold", "release", "release", "blank"))
        if action == "take":
            n = rng.randint(0, min(3, len(stack) + len(queue)))
            want = [stack.pop() for _ in range(min(n, len(stack)))]
            evicted = [queue.pop(0) for _ in range(n - len(want))]
            assert allocator.take(n) == (want + evicted, evicted)
            for page in want + evicted:
                refs[page] = 1
        elif action == "hold" and used + queue:
            page = rng.choice(used + queue)
            allocator.hold([page])
            refs[page] += 1
            queue = [other for other in queue if other != page]
        elif action == "release" and used:
            page, keep = rng.choice(used), [rng.choice((None, 1))] * 8
            allocator.release([page], keep)
            refs[page] -= 1
            if not refs[page]:
                (stack if keep[page] is None else queue).append(page)
        elif action == "blank" and queue:
            page = queue.pop(rng.randrange(len(queue)))
            allocator.blank([page])
            stack.append(page)
        assert (allocator.kept(), allocator.refs) == (queue, refs)
        assert allocator.num_free == len(stack) + len(queue)
        assert allocator.num_shared == sum(count > 1 for count in refs)
