"""RadixTree: by hand, case by case; then any sequence of calls against a model that knows every cached beginning by itself."""

import functools
import random
import sys

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from helpers.caches import POLICIES, RadixTree, radix_tree
from tests.caches.counted import Counted

A, B, C = [1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]


def tree_of(*texts, page_size=1, policy="lru"):
    """A tree with these texts, inserted one after the other; their pages count up from 0."""
    tree, page = RadixTree(page_size, policy), 0
    for text in texts:
        count = len(text) // page_size
        tree.insert(text, range(page, page + count))
        page += count
    return tree


def shape(tree):
    """All that a tree's nodes say, with their places in the eviction queue, and its counters."""
    rows = [
        (
            *(node, node.tokens, tuple(node.pages), node.parent, node.salt, tuple(node.children.items())),
            *(node.created, node.last_use, node.uses, node.pins, node.own_pins, node.place),
        )
        for node in (tree.root, *tree.nodes())
    ]
    return rows, tree.stats(), (tree.num_pages, tree.evictable, tree.pinned)


def refused(tree, message, call, *args):
    before = shape(tree)
    with pytest.raises(ValueError, match=message):
        call(*args)
    assert shape(tree) == before, "a refusal changes nothing"


def runs(tree):
    return [(node.tokens, tuple(node.pages)) for node in tree.nodes()]


# Look-up


def test_an_empty_tree_finds_nothing():
    tree = RadixTree()
    assert tree.match(A) == (0, (), tree.root)
    assert tree.match([]) == (0, (), tree.root)
    assert tree.peek(A) == 0
    assert list(tree.nodes()) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (A + B, 8),
        (A + B + C, 8),
        (A + B[:3], 7),
        (A + B[:1], 5),
        (A, 4),
        (A[:1], 1),
        (A + C, 4),
        ([1, 2, 9, 4], 2),
        (B, 0),
        ([], 0),
    ],
)
def test_the_longest_beginning_is_found_wherever_it_ends(text, found):
    tree = tree_of(A + B)
    assert tree.peek(text) == found
    num_tokens, pages, node = tree.match(text)
    assert (num_tokens, pages) == (found, tuple(range(found)))
    assert text_of(node) == tuple(text[:found])
    assert tree.match(A + B).pages == tuple(range(8)), "splits lose nothing"


def text_of(node):
    """The tokens from the root to a node's end."""
    return (*text_of(node.parent), *node.tokens) if node.parent is not None else ()


@pytest.mark.parametrize(
    ("text", "pages"),
    [(A + B, (0, 1)), (A + B[:3], (0,)), (A[:3], ()), (A + B + [9, 9, 9], (0, 1)), ([1, 2, 3, 9], ())],
)
def test_only_whole_pages_are_found(text, pages):
    tree = tree_of(A + B + [13, 14], page_size=4)
    assert tree.num_pages == 2
    assert tree.match(text)[:2] == (4 * len(pages), pages)


@pytest.mark.parametrize("length", range(1, 18))
def test_a_match_may_end_at_any_page_of_a_run(length):
    text = [token % 3 for token in range(40)]
    for common in range(length + 1):
        tree = tree_of(text[: 2 * length], page_size=2)
        asked = [*text[: 2 * common], 7, 7]
        assert tree.peek(asked) == 2 * common
        assert tree.match(asked).pages == tuple(range(common))
        assert [len(node.pages) for node in tree.nodes()] == [n for n in (common, length - common) if n]


def test_tokens_that_share_bytes_are_not_confused():
    tree = tree_of([1, 256, 65536])
    assert tree.peek([0, 1]) == 0
    assert tree.peek([1, 1]) == 1
    assert tree.peek([1, 256, 65537]) == 2
    assert tree.match([1, 256, 65536]).num_tokens == 3
    assert next(tree.nodes()).tokens == (1, 256, 65536)


def test_equal_texts_under_different_salts_never_meet():
    tree = RadixTree()
    tree.insert(A, [0, 1, 2, 3], salt="a")
    assert [tree.peek(A, salt) for salt in ("a", "b", None, ("a",))] == [4, 0, 0, 0]
    assert tree.insert(A, [4, 5, 6, 7], salt="b").duplicates == ()
    assert tree.match(A, "a").pages == (0, 1, 2, 3)
    assert tree.match(A, "b").pages == (4, 5, 6, 7)
    tree.match(A[:2], "b")
    tree.insert(A + B, [4, 5, 6, 7, *range(8, 12)], salt="b")
    assert {(node.salt, node.tokens) for node in tree.nodes()} == {
        ("a", tuple(A)),
        ("b", tuple(A[:2])),
        ("b", tuple(A[2:])),
        ("b", tuple(B)),
    }
    assert tree.peek(A + B, "a") == 4


def test_a_salt_is_needed_only_at_the_start():
    """A tenant's salt is no token: a text below the root is not found under a salt that is part of it."""
    tree = tree_of(A)
    assert tree.match(A[:2]).node.children.keys() == {bytes([3, 0, 0, 0])}
    assert tree.peek(A[2:]) == 0


def test_peek_changes_nothing():
    tree = tree_of(A + B, A + C)
    before = shape(tree)
    assert [tree.peek(text) for text in (A + B, A[:2], C, A + C[:1] + A)] == [8, 2, 0, 5]
    assert shape(tree) == before


# Insertion


def test_insert_splits_where_texts_part():
    tree = tree_of(A + B)
    assert tree.insert(A + C, [0, 1, 2, 3, 20, 21, 22, 23])[:2] == ((0, 1, 2, 3, 20, 21, 22, 23), ())
    assert runs(tree) == [
        (tuple(A), (0, 1, 2, 3)),
        (tuple(B), (4, 5, 6, 7)),
        (tuple(C), (20, 21, 22, 23)),
    ]
    assert tree.num_pages == 12


def test_what_is_cached_already_stays_and_the_copies_go_back():
    tree = tree_of(A + B, page_size=2)
    pages, duplicates, node = tree.insert(A + B[:2] + C[:2] + [1], [0, 10, 11, 12])
    assert pages == (0, 1, 2, 12), "the canonical pages: old ones as far as they go, then the new"
    assert duplicates == (10, 11), "page 0 is the tree's own and stays"
    assert (node.tokens, node.pages) == (tuple(C[:2]), [12])
    assert tree.num_pages == 5
    again = tree.insert(A + B[:2] + C[:2], pages)
    assert again == (pages, (), node)


def test_insert_ends_at_its_text_even_inside_a_run():
    tree = tree_of(A + B)
    pages, duplicates, node = tree.insert(A, [20, 21, 22, 23])
    assert (pages, duplicates) == ((0, 1, 2, 3), (20, 21, 22, 23))
    assert text_of(node) == tuple(A)
    tree.pin(node)
    assert (tree.pinned, tree.evictable) == (4, 4)


def test_less_than_a_page_is_not_kept():
    tree = RadixTree(4)
    assert tree.insert([1, 2, 3], []) == ((), (), tree.root)
    assert tree.num_pages == 0


def test_the_caller_keeps_its_lists():
    tree, tokens, pages = RadixTree(), A[:], [0, 1, 2, 3]
    tree.insert(tokens, pages)
    tokens[0], pages[0] = 99, 99
    assert tree.match(A).pages == (0, 1, 2, 3)
    tree.evict(2)
    assert pages == [99, 1, 2, 3]


@pytest.mark.parametrize(
    ("tokens", "pages", "salt", "message"),
    [
        (A, [20], None, "4 tokens fill 2 pages of 2, got 1 pages"),
        (A, [20, 21, 22], None, "got 3 pages"),
        ([1, 2, 3], [20, 21], None, "3 tokens fill 1 pages of 2, got 2"),
        (C, [20, 20], None, r"given twice: \[20\]"),
        (A + C, [0, 1, 20, 0], None, r"given twice: \[0\]"),
        (C, [0, 20], None, r"other tokens in pages \[0\]"),
        (A, [1, 0], None, r"other tokens in pages \[0, 1\]"),
        (A + C, [0, 1, 20, 3], None, r"other tokens in pages \[3\]"),
        (A, [0, 1], "salt", r"other tokens in pages \[0, 1\]"),
        ([1, -2], [20], None, "whole numbers from 0"),
        ([1, 2**32], [20], None, "whole numbers from 0"),
        ([1, 2.0], [20], None, "must be a whole number, got 2.0"),
        (C, [20, 21], [], "hashable"),
    ],
)
def test_insert_refuses(tokens, pages, salt, message):
    tree = tree_of(A + B, page_size=2)
    refused(tree, message, tree.insert, tokens, pages, salt)


def test_look_ups_refuse():
    tree = tree_of(A)
    for call in (tree.match, tree.peek):
        refused(tree, "whole numbers", call, [-1])
        refused(tree, "hashable", call, A, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"page_size": 0}, "got page_size 0"),
        ({"page_size": -4}, "got page_size -4"),
        ({"policy": "mru"}, "lru, lfu, fifo; got 'mru'"),
    ],
)
def test_a_tree_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RadixTree(**options)


# Pins


def test_pins_count_from_the_node_to_the_root():
    tree = tree_of(A + B, A + C)
    below, above = tree.match(A + B).node, tree.match(A).node
    tree.pin(below)
    assert (tree.pinned, tree.evictable) == (8, 4)
    tree.pin(above)
    tree.pin(below)
    assert (tree.pinned, tree.evictable) == (8, 4)
    assert [(node.pins, node.own_pins) for node in (below, above, tree.root)] == [(2, 2), (3, 1), (3, 0)]
    tree.unpin(below)
    tree.unpin(below)
    assert (tree.pinned, tree.evictable) == (4, 8)
    tree.unpin(above)
    assert (tree.pinned, tree.evictable) == (0, 12)


def test_a_pin_holds_just_what_was_matched():
    tree = tree_of(A + B)
    node = tree.match(A + C).node
    tree.pin(node)
    assert (tree.pinned, tree.evictable) == (4, 4)
    assert tree.evict(8) == [7, 6, 5, 4]


def test_a_pin_survives_splits_above_its_end():
    tree = tree_of(A + B)
    node = tree.match(A + B).node
    tree.pin(node)
    for n in (6, 3, 5):
        tree.match((A + B)[:n])
    tree.insert(A + C, [0, 1, 2, 3, 20, 21, 22, 23])
    assert [each.pins for each in tree.nodes()] == [1, 1, 1, 1, 1, 0]
    assert [each.own_pins for each in tree.nodes()] == [0, 0, 0, 0, 1, 0]
    assert (tree.pinned, tree.evictable) == (8, 4)
    assert sorted(tree.evict(99)) == [20, 21, 22, 23]
    tree.unpin(node)
    assert (tree.pinned, tree.evictable) == (0, 8)


def test_no_more_unpins_than_pins():
    tree = tree_of(A + B, A + C)
    below, above = tree.match(A + B).node, tree.match(A).node
    refused(tree, "not pinned itself", tree.unpin, below)
    tree.pin(below)
    refused(tree, "not pinned itself", tree.unpin, above)
    tree.unpin(below)
    refused(tree, "not pinned itself", tree.unpin, below)
    refused(tree, "not pinned itself", tree.unpin, tree.root)


def test_a_match_of_nothing_may_be_pinned():
    tree = tree_of(A)
    node = tree.match(B).node
    tree.pin(node)
    assert (tree.pinned, tree.evictable) == (0, 4)
    assert len(tree.evict(9)) == 4
    assert tree.clear() == []
    tree.unpin(node)


def gone_nodes():
    """A tree that still has texts, and nodes by which none of them can be reached."""
    tree = tree_of(A)
    nodes = {"evicted": tree.match(A).node}
    tree.evict(4)
    tree.insert(B + C, range(4, 12))
    tree.insert(B + A, [*range(4, 8), *range(16, 20)])
    nodes["shortened"], nodes["below"] = tree.match(B + A).node, tree.match(B + C).node
    nodes["removed"] = tree.match(B).node
    nodes["other tree"] = tree_of(B).match(B).node
    nodes["other root"] = RadixTree().root
    assert tree.evict(1) == [19]
    tree.insert([30, 31], [40, 41])
    tree.remove(nodes["removed"])
    return tree, nodes


@pytest.mark.parametrize("which", ["evicted", "removed", "below", "shortened", "other tree", "other root"])
@pytest.mark.parametrize("call", ["pin", "unpin", "remove"])
def test_a_node_that_is_gone_is_refused(which, call):
    tree, nodes = gone_nodes()
    refused(tree, "not in the tree", getattr(tree, call), nodes[which])
    assert order(tree) == [41, 40]


def test_a_node_means_one_text_for_as_long_as_it_lives():
    tree = tree_of(A + B)
    node = tree.match(A + B).node
    tree.evict(1)
    refused(tree, "not in the tree", tree.pin, node)
    assert (node.place, node.pages, node.tokens) == (-1, [], ())
    rest = tree.match(A + B)
    assert (rest.num_tokens, text_of(rest.node)) == (7, (*A, *B[:3]))
    tree.match(A)
    assert text_of(rest.node) == (*A, *B[:3])


# Eviction


def test_no_more_is_evicted_than_asked_for():
    tree = tree_of(A + B)
    assert tree.evict(0) == []
    assert tree.evict(3) == [7, 6, 5]
    assert tree.match(A + B).pages == (0, 1, 2, 3, 4)
    assert tree.evict(1) == [4]
    assert tree.evict(9) == [3, 2, 1, 0], "all there are"
    assert tree.evict(1) == []
    assert (tree.num_pages, tree.evictable, list(tree.nodes())) == (0, 0, [])
    assert tree.stats().evicted_pages == 8


def test_a_parent_goes_after_its_children():
    tree = tree_of(A + B, A + C, page_size=4)
    assert tree.evict(1) == [1]
    assert tree.match(A).num_tokens == 4
    assert tree.evict(1) == [3]
    assert tree.evict(1) == [0]


def test_evicted_text_may_come_back():
    tree = tree_of(A + B, page_size=2)
    tree.evict(1)
    assert tree.insert(A + B, [0, 1, 2, 7]) == ((0, 1, 2, 7), (), tree.match(A + B).node)
    assert tree.match(A + B).pages == (0, 1, 2, 7)


def order(tree):
    """The pages in order of eviction."""
    return [page for _ in range(tree.num_pages) for page in tree.evict(1)]


def used(policy):
    """Three texts of one page, A B C inserted in this order; then B is matched twice, A once, and C is inserted again."""
    tree = tree_of(A, B, C, page_size=4, policy=policy)
    for text in (B, B, A):
        tree.match(text)
    tree.insert(C, [2])
    return tree


@pytest.mark.parametrize(
    ("policy", "expected"), [("lru", [1, 0, 2]), ("lfu", [2, 0, 1]), ("fifo", [0, 1, 2])]
)
def test_order_of_eviction(policy, expected):
    assert order(used(policy)) == expected
    assert used(policy).evict(2) == expected[:2]


def test_least_often_used_ties_go_by_recency():
    tree = tree_of(A, B, C, page_size=4, policy="lfu")
    for text in (B, A, C):
        tree.match(text)
    assert order(tree) == [1, 0, 2]


def test_first_in_first_out_goes_by_when_the_pages_came():
    """A shared beginning waits for what hangs on it, and then goes before all that came later."""
    tree = tree_of(A, B, A + C, [30] * 4, page_size=4, policy="fifo")
    tree.match(A)
    tree.insert(A, [0])
    assert order(tree) == [1, 3, 0, 4]


def test_both_parts_of_a_run_have_the_same_age():
    tree = tree_of(A + B, C, policy="fifo")
    tree.match(A)
    tree.insert(A[:2], [0, 1])
    assert order(tree) == [7, 6, 5, 4, 3, 2, 1, 0, 11, 10, 9, 8]


def test_the_matched_part_of_a_run_is_fresh_and_the_rest_is_not():
    """A split must not forget when the upper part was used, nor count the lower part as used."""
    tree = tree_of(A + B, C)
    tree.match(A + A)
    assert order(tree) == [7, 6, 5, 4, 11, 10, 9, 8, 3, 2, 1, 0]


def test_inserting_along_a_run_refreshes_the_part_it_shares():
    tree = tree_of(A + B, C)
    tree.insert([*A, 20], [0, 1, 2, 3, 20])
    assert order(tree) == [7, 6, 5, 4, 11, 10, 9, 8, 20, 3, 2, 1, 0]


def test_uses_of_a_run_are_those_of_each_part():
    tree = tree_of(A + B, C, policy="lfu")
    for text in (A + B, A, C, C, A):
        tree.match(text)
    assert [(node.tokens, node.uses) for node in tree.nodes()] == [
        (tuple(A), 3),
        (tuple(B), 1),
        (tuple(C), 2),
    ]
    assert order(tree) == [7, 6, 5, 4, 11, 10, 9, 8, 3, 2, 1, 0]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(1, 20))
def test_order_of_eviction_among_many(policy, seed):
    rng, tree = random.Random(seed), forest(3 * seed, policy=policy)
    pinned = rng.sample(list(tree.nodes()), 2 * seed)
    for node in pinned:
        tree.pin(node)
    for _ in range(4 * seed):
        tree.match([rng.randrange(3 * seed)] * rng.choice((16, 32)))
    for node in pinned:
        tree.unpin(node)
    while tree.num_pages:
        leaves = [node for node in tree.nodes() if not node.children]
        first = min(leaves, key=POLICIES[policy])
        assert tree.evict(len(first.pages)) == first.pages[::-1]


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_pinned_stays(policy):
    tree = tree_of(A, B, C, page_size=4, policy=policy)
    node = tree.match(B).node
    tree.pin(node)
    assert tree.evict(9) == [0, 2]
    assert tree.evict(1) == []
    tree.unpin(node)
    assert tree.evict(1) == [1]


def test_evict_refuses_a_negative_number():
    tree = tree_of(A)
    refused(tree, "cannot evict -1", tree.evict, -1)


# The rest


def test_remove_takes_a_node_and_all_below():
    tree = tree_of(A + B, A + C, [30, 31])
    assert sorted(tree.remove(tree.match(A + B).node)) == [4, 5, 6, 7]
    assert tree.match(A + B).num_tokens == 4
    assert sorted(tree.remove(tree.match(A).node)) == [0, 1, 2, 3, *range(12, 16)]
    assert runs(tree) == [((30, 31), (16, 17))]
    assert (tree.num_pages, tree.evictable, tree.stats().evicted_pages) == (2, 2, 0)
    assert order(tree) == [17, 16]


def test_a_parent_left_alone_may_be_evicted():
    tree = tree_of(A + B, page_size=4)
    above = tree.match(A).node
    assert tree.evict(0) == []
    tree.remove(tree.match(A + B).node)
    assert tree.evict(9) == [0]
    assert above.parent is None


def test_remove_refuses_what_is_pinned_and_the_root():
    tree = tree_of(A + B, A + C)
    node = tree.match(A + B).node
    tree.pin(node)
    refused(tree, "1 pins on it or below", tree.remove, tree.match(A).node)
    refused(tree, "1 pins on it or below", tree.remove, node)
    refused(tree, "the root has no pages", tree.remove, tree.root)
    refused(tree, "8 pages are pinned", tree.clear)
    tree.remove(tree.match(A + C).node)


def test_clear_gives_every_page_back():
    tree = tree_of(A + B, A + C, page_size=2)
    tree.insert(A, [20, 21], salt="b")
    assert sorted(tree.clear()) == [0, 1, 2, 3, 6, 7, 20, 21]
    assert (tree.num_pages, tree.evictable, tree.evict(1), list(tree.nodes())) == (0, 0, [], [])
    tree.insert(A, [0, 1])
    assert tree.match(A).pages == (0, 1)


def test_statistics():
    tree = tree_of(A + B, page_size=4)
    tree.match(A + B + [1])
    tree.match(C)
    tree.peek(A)
    tree.evict(1)
    assert tree.stats() == radix_tree.TreeStats(
        look_ups=2, looked_up_tokens=13, hit_tokens=8, evicted_pages=1
    )


def test_nodes_come_in_order_and_say_what_they_are():
    tree = tree_of(A + B, C, A + C)
    node = tree.match(A + B).node
    tree.pin(node)
    assert [each.tokens for each in tree.nodes()] == [tuple(text) for text in (A, B, C, C)]
    assert [len(each.children) for each in tree.nodes()] == [2, 0, 0, 0]
    assert [each.parent for each in tree.nodes()] == [tree.root, node.parent, node.parent, tree.root]
    assert repr(node) == "Node(4 tokens, pages=[4, 5, 6, 7], pins=1, salt=None)"


def test_results_cannot_be_changed():
    match = tree_of(A).match(A)
    with pytest.raises(AttributeError):
        match.num_tokens = 0


# Costs, counted and not timed


def lines_run(call):
    """How many lines of the module a call executes."""
    count = 0

    def local(frame, event, argument):
        nonlocal count
        count += event == "line"
        return local

    def trace(frame, event, argument):
        return local if frame.f_code.co_filename == radix_tree.__file__ else None

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(previous)
    return count


def forest(num_texts, page_size=4, policy="lru"):
    """A tree of so many texts of 32 tokens without a common beginning."""
    tree = RadixTree(page_size, policy)
    pages = 32 // page_size
    for i in range(num_texts):
        tree.insert([i] * 32, range(i * pages, (i + 1) * pages))
    return tree


def logarithm(n):
    return n.bit_length()


SIZES = (100, 1_000, 10_000)


@pytest.mark.parametrize("page_size", [1, 4, 16])
def test_a_look_up_costs_the_same_in_a_large_tree(page_size):
    trees = {n: forest(n, page_size) for n in SIZES}
    assert len({lines_run(lambda tree=tree: tree.peek([7] * 32)) for tree in trees.values()}) == 1
    for call in (
        lambda tree: tree.match([8] * 16 + [9] * 16),
        lambda tree: tree.match([7] * 32),
        lambda tree: tree.insert([9] * 16 + [8] * 16, range(-32 // page_size, 0)),
    ):
        cost = {n: lines_run(functools.partial(call, tree)) for n, tree in trees.items()}
        assert all(cost[n] <= cost[SIZES[0]] + 10 * logarithm(n) for n in SIZES), cost


def test_a_look_up_costs_a_few_steps_for_each_node_and_none_for_a_token():
    tree = tree_of(list(range(4096)))
    assert lines_run(lambda: tree.match(list(range(4096)))) < 60
    assert lines_run(lambda: tree.match(list(range(2500)))) < 60 + 5 * logarithm(4096)


@pytest.mark.parametrize("policy", POLICIES)
def test_eviction_costs_a_logarithm_even_after_everything_was_touched(policy, monkeypatch):
    """With stale entries in a heap, the first eviction after many look-ups would pay for them all at once."""
    key, worst = POLICIES[policy], {}
    monkeypatch.setattr(radix_tree, "POLICIES", {policy: lambda node: Counted(key(node))})
    for n in SIZES:
        tree = forest(n, policy=policy)
        for i in reversed(range(n)):
            tree.match([i] * 32)
        costs = []
        for _ in range(40):
            before = Counted.comparisons
            lines = lines_run(lambda tree=tree: tree.evict(1))
            costs.append((Counted.comparisons - before, lines))
        worst[n] = [max(column) for column in zip(*costs, strict=True)]
        assert 0 < worst[n][0] <= 2 * logarithm(n)
        assert worst[n][1] <= 60 + 10 * logarithm(n)
    assert worst[SIZES[-1]][1] - worst[SIZES[0]][1] <= 10 * logarithm(SIZES[-1] // SIZES[0])


def test_a_page_of_a_long_run_goes_without_a_step_for_each_other():
    tree = tree_of(list(range(20_000)))
    assert lines_run(lambda: tree.evict(1)) < 50
    assert lines_run(lambda: tree.evict(10_000)) < 50


def test_pins_cost_their_depth():
    costs = []
    for n in SIZES:
        tree = forest(n)
        node = tree.match([n // 2] * 32).node
        costs.append(lines_run(lambda tree=tree, node=node: tree.pin(node)))
        assert lines_run(lambda tree=tree, node=node: tree.unpin(node)) <= 40 + 10 * logarithm(n)
    assert costs[-1] <= costs[0] + 10 * logarithm(SIZES[-1])


def test_the_queue_holds_what_may_go_and_nothing_else():
    tree = forest(50)
    rng = random.Random(0)
    for _ in range(2_000):
        tree.match([rng.randrange(50)] * 32)
        node = tree.match([rng.randrange(50)] * 32).node
        tree.pin(node)
        tree.unpin(node)
    assert sorted(node.place for node in tree.nodes() if not node.children) == list(range(50))


# Any sequence of calls


class Page:
    """What the model knows of one page."""

    def __init__(self, page, tick):
        self.page, self.created, self.last_use, self.uses = page, tick, tick, 0


KEYS = {
    "lru": lambda page: page.last_use,
    "lfu": lambda page: (page.uses, page.last_use),
    "fifo": lambda page: page.created,
}


class Machine(RuleBasedStateMachine):
    """The model: every cached beginning in whole pages, `(salt, tokens)`, with its last page; no nodes at all."""

    page_size, vocabulary, longest = 1, 2, 8

    @initialize(policy=st.sampled_from(sorted(POLICIES)))
    def start(self, policy):
        self.tree, self.key = RadixTree(self.page_size, policy), KEYS[policy]
        self.cached = {}
        self.pins = []  # (salt, text, node)
        self.seen = [()]
        self.clock = self.next_page = self.look_ups = self.looked_up = self.hits = self.evicted = 0
        self.handles = []

    # The model

    def beginnings(self, salt, tokens):
        """The beginnings of a text in whole pages, the shortest first."""
        size = self.page_size
        return [(salt, tuple(tokens[:end])) for end in range(size, len(tokens) + 1, size)]

    def longest_cached(self, salt, tokens):
        known = self.beginnings(salt, tokens)
        while known and known[-1] not in self.cached:
            known.pop()
        return known

    def use(self, beginnings, uses):
        self.clock += 1
        for beginning in beginnings:
            page = self.cached[beginning]
            page.last_use, page.uses = self.clock, page.uses + uses

    def pinned_beginnings(self):
        return {each for salt, text, _ in self.pins for each in self.beginnings(salt, text)}

    def next_victim(self):
        pinned = self.pinned_beginnings()
        inner = {(salt, text[: -self.page_size]) for salt, text in self.cached}
        leaves = [each for each in self.cached if each not in inner and each not in pinned]
        return min(leaves, key=lambda each: self.key(self.cached[each]), default=None)

    def draw_text(self, data):
        """A text that was seen before, cut somewhere, and a few new tokens."""
        seen = data.draw(st.sampled_from(self.seen))
        keep = data.draw(st.integers(0, len(seen)) | st.just(len(seen)))
        more = data.draw(st.lists(st.integers(0, self.vocabulary - 1), max_size=self.longest))
        return (*seen[:keep], *more)[: 3 * self.longest]

    def new_pages(self, n):
        self.next_page += n
        return list(range(self.next_page - n, self.next_page))

    def refused(self, call, *args):
        refused(self.tree, None, call, *args)

    # What may happen

    salts = st.sampled_from((None, None, "a", 1))

    @rule(data=st.data(), salt=salts)
    def match(self, data, salt):
        tokens = self.draw_text(data)
        expected = self.longest_cached(salt, tokens)
        before = shape(self.tree)
        assert self.tree.peek(list(tokens), salt) == len(expected) * self.page_size
        assert shape(self.tree) == before
        num_tokens, pages, node = self.tree.match(list(tokens), salt)
        assert pages == tuple(self.cached[each].page for each in expected)
        assert num_tokens == len(pages) * self.page_size
        assert text_of(node) == tokens[:num_tokens], "the node ends where the match ends"
        self.use(expected, 1)
        self.look_ups, self.looked_up = self.look_ups + 1, self.looked_up + len(tokens)
        self.hits += num_tokens
        self.handles.append((salt, tokens[:num_tokens], node))

    @rule(data=st.data(), salt=salts)
    def insert(self, data, salt):
        tokens = self.draw_text(data)
        beginnings, known = self.beginnings(salt, tokens), self.longest_cached(salt, tokens)
        own = data.draw(
            st.integers(0, len(known))
        )  # the request has the tree's pages so far, then its own copies
        old = [self.cached[each].page for each in known]
        pages = old[:own] + self.new_pages(len(beginnings) - own)
        result = self.tree.insert(list(tokens), pages, salt)
        assert result.pages == (*old, *pages[len(old) :])
        assert result.duplicates == tuple(pages[own : len(old)])
        assert text_of(result.node) == tokens[: len(beginnings) * self.page_size]
        self.use(known, 0)
        for each, page in zip(beginnings[len(known) :], pages[len(known) :], strict=True):
            self.cached[each] = Page(page, self.clock)
        self.seen.append(tokens)
        self.handles.append((salt, tokens[: len(beginnings) * self.page_size], result.node))

    @precondition(lambda self: self.cached)
    @rule(data=st.data(), salt=salts)
    def insert_what_cannot_be(self, data, salt):
        tokens = self.draw_text(data)
        pages = self.new_pages(len(tokens) // self.page_size)
        known = self.longest_cached(salt, tokens)
        self.refused(self.tree.insert, tokens, [*pages, -1], salt)
        if pages:
            i = data.draw(st.integers(0, len(pages) - 1))
            right = self.cached[known[i]].page if i < len(known) else None
            foreign = data.draw(st.sampled_from(sorted(page.page for page in self.cached.values())))
            if foreign != right:
                self.refused(self.tree.insert, tokens, [*pages[:i], foreign, *pages[i + 1 :]], salt)
            self.refused(self.tree.insert, tokens, pages[:-1], salt)
        if len(pages) > 1:
            self.refused(self.tree.insert, tokens, [*pages[:-1], pages[0]], salt)

    @precondition(lambda self: self.handles)
    @rule(data=st.data(), latest=st.booleans())
    def pin(self, data, latest):
        salt, text, node = self.handles[-1] if latest else data.draw(st.sampled_from(self.handles))
        if text and (salt, text) not in self.cached:
            return self.refused(self.tree.pin, node)
        if self.path_top(node) is not self.tree.root:  # evicted, and the same text came back in another node
            return self.refused(self.tree.pin, node)
        self.tree.pin(node)
        self.pins.append((salt, text, node))

    def path_top(self, node):
        while node.parent is not None:
            node = node.parent
        return node

    @precondition(lambda self: self.handles)
    @rule(data=st.data())
    def unpin(self, data):
        if self.pins and data.draw(st.integers(0, 9)):
            pin = self.pins.pop(data.draw(st.integers(0, len(self.pins) - 1)))
            return self.tree.unpin(pin[2])
        node = data.draw(st.sampled_from(self.handles))[2]
        if all(pinned is not node for _, _, pinned in self.pins):
            self.refused(self.tree.unpin, node)

    @rule(n=st.integers(0, 6) | st.just(100))
    def evict(self, n):
        expected = self.victims(n)
        assert self.tree.evict(n) == expected
        self.evicted += len(expected)

    def victims(self, n):
        """Takes the next `n` pages out of the model, in order."""
        expected = []
        while len(expected) < n and (victim := self.next_victim()) is not None:
            expected.append(self.cached.pop(victim).page)
        return expected

    def teardown(self):
        """At the end everything that is not pinned goes in order, and every page that the tree had may come back."""
        assert self.tree.evict(10_000) == self.victims(10_000)
        for *_, node in self.pins:
            self.tree.unpin(node)
        self.tree.clear()
        text = list(range(self.next_page * self.page_size))
        assert self.tree.insert(text, range(self.next_page), "new").duplicates == ()
        assert self.tree.match(text, "new").pages == tuple(range(self.next_page))

    @precondition(lambda self: self.handles)
    @rule(data=st.data())
    def remove(self, data):
        salt, text, node = data.draw(st.sampled_from(self.handles))
        if not node.parent:
            return self.refused(self.tree.remove, node)
        gone = [
            each
            for each in self.cached
            if each[0] == salt
            and len(each[1]) > len(text) - len(node.tokens)
            and text_starts(each[1], text, node)
        ]
        if self.pinned_beginnings() & set(gone):
            return self.refused(self.tree.remove, node)
        assert sorted(self.tree.remove(node)) == sorted(self.cached.pop(each).page for each in gone)

    @rule(n=st.integers(0, 30))
    def clear(self, n):
        if self.pinned_beginnings():
            self.refused(self.tree.clear)
        elif n == 0:
            assert sorted(self.tree.clear()) == sorted(page.page for page in self.cached.values())
            self.cached = {}

    # What must always hold

    @invariant()
    def counters_are_a_recount(self):
        pinned = self.pinned_beginnings()
        assert self.tree.num_pages == len(self.cached)
        assert (self.tree.pinned, self.tree.evictable) == (len(pinned), len(self.cached) - len(pinned))
        stats = (self.look_ups, self.looked_up, self.hits, self.evicted)
        assert self.tree.stats() == radix_tree.TreeStats(*stats)

    @invariant()
    def the_tree_holds_the_cached_pages_and_their_history(self):
        held = {}
        for node in self.tree.nodes():
            text = text_of(node)
            start = len(text) - len(node.tokens)
            assert len(node.tokens) == len(node.pages) * self.page_size > 0
            for i, page in enumerate(node.pages):
                held[node.salt, text[: start + (i + 1) * self.page_size]] = (
                    *(page, node.created, node.last_use, node.uses),
                )
        assert held == {
            each: (page.page, page.created, page.last_use, page.uses) for each, page in self.cached.items()
        }
        pages = [row[0] for row in held.values()]
        assert len(set(pages)) == len(pages) == self.tree.num_pages, "no page twice"

    @invariant()
    def pins_add_up(self):
        for node in (self.tree.root, *self.tree.nodes()):
            own = sum(pinned is node for _, _, pinned in self.pins)
            assert node.own_pins == own
            assert node.pins == own + sum(child.pins for child in node.children.values())
            for child in node.children.values():
                assert child.parent is node

    @invariant()
    def the_queue_is_a_heap_of_unpinned_leaves(self):
        leaves = [node for node in self.tree.nodes() if not node.children and not node.pins]
        queue, key = sorted(leaves, key=lambda node: node.place), POLICIES[self.tree.policy]
        assert [node.place for node in queue] == list(range(len(leaves))), (
            "each leaf has a place, and no other has"
        )
        for place, node in enumerate(queue):
            assert not key(node) < key(queue[max(0, place - 1) // 2])
        assert all(node.place == -1 for node in self.tree.nodes() if node not in leaves)


def text_starts(text, beginning, node):
    """Whether a text goes through a node that ends with `beginning`, as far as into its run."""
    n = min(len(text), len(beginning))
    return text[:n] == beginning[:n]


class Machine4(Machine):
    page_size, longest = 4, 12


class Machine16(Machine):
    page_size, longest = 16, 34


for machine, examples in ((Machine, 200), (Machine4, 150), (Machine16, 60)):
    machine.TestCase.settings = settings(max_examples=examples, stateful_step_count=40, deadline=None)
TestPageSize1, TestPageSize4, TestPageSize16 = Machine.TestCase, Machine4.TestCase, Machine16.TestCase
