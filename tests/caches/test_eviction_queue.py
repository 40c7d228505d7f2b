"""EvictionQueue: always the node with the smallest key first, whatever enters, leaves and changes; no stale entries."""

import random

import pytest

from helpers.caches import POLICIES, EvictionQueue, Node, packed
from tests.caches.counted import Counted


def node(created=0, last_use=0, uses=0):
    return Node(bytearray(packed([1])), [0], None, None, created, last_use, uses)


def queue_of(*last_uses):
    """A queue of nodes that were last used at these ticks, and the nodes."""
    queue, nodes = EvictionQueue(POLICIES["lru"]), [node(last_use=tick) for tick in last_uses]
    for each in nodes:
        queue.put(each)
    return queue, nodes


def emptied(queue):
    """The nodes, in the order in which they come first."""
    order = []
    while queue.first is not None:
        order.append(queue.first)
        queue.drop(queue.first)
    return order


def test_an_empty_queue_has_no_first():
    queue = EvictionQueue(POLICIES["lru"])
    assert (len(queue), queue.first) == (0, None)


@pytest.mark.parametrize(("policy", "order"), [("lru", "bca"), ("lfu", "acb"), ("fifo", "cab")])
def test_a_policy_says_which_is_first(policy, order):
    nodes = {"a": node(2, 7, 1), "b": node(3, 5, 4), "c": node(1, 6, 3)}
    queue = EvictionQueue(POLICIES[policy])
    for each in nodes.values():
        queue.put(each)
    assert emptied(queue) == [nodes[name] for name in order]


def test_equally_often_used_goes_by_recency():
    older, newer = node(0, 1, 5), node(0, 2, 5)
    queue = EvictionQueue(POLICIES["lfu"])
    for each in (newer, older):
        queue.put(each)
    assert emptied(queue) == [older, newer]


def test_policies_cannot_be_changed():
    with pytest.raises(TypeError):
        POLICIES["mru"] = id


def test_a_node_that_is_put_again_moves():
    queue, (a, b, c) = queue_of(1, 2, 3)
    a.last_use = 9
    queue.put(a)
    assert (len(queue), queue.first) == (3, b)
    c.last_use = 0
    queue.put(c)
    assert emptied(queue) == [c, b, a]


@pytest.mark.parametrize("gone", range(7))
def test_any_node_may_leave(gone):
    queue, nodes = queue_of(1, 5, 2, 7, 6, 3, 4)
    queue.drop(nodes[gone])
    assert (nodes[gone].place, len(queue)) == (-1, 6)
    rest = [each for each in nodes if each is not nodes[gone]]
    assert emptied(queue) == sorted(rest, key=lambda each: each.last_use)


def test_the_last_node_put_may_leave():
    queue, (a, b) = queue_of(1, 2)
    queue.drop(b)
    queue.drop(a)
    assert (len(queue), a.place, b.place) == (0, -1, -1)


@pytest.mark.parametrize("which", range(5))
def test_a_node_of_equal_key_takes_the_place(which):
    queue, nodes = queue_of(3, 4, 5, 6, 7)
    old, new = nodes[which], node(last_use=which + 3)
    place = old.place
    queue.replace(old, new)
    assert (old.place, new.place, len(queue)) == (-1, place, 5)
    nodes[which] = new
    assert emptied(queue) == nodes


@pytest.mark.parametrize("seed", range(10))
def test_any_sequence_equals_a_search(seed):
    rng, queue, inside = random.Random(seed), EvictionQueue(POLICIES["lru"]), []
    for tick in range(1, 600):
        action = rng.choice(("enter", "enter", "touch", "age", "drop", "replace", "first"))
        if action == "enter":
            inside.append(node(last_use=tick))
            queue.put(inside[-1])
        elif inside and action in ("touch", "age"):
            each = rng.choice(inside)
            each.last_use = tick if action == "touch" else -tick
            queue.put(each)
        elif inside and action == "replace":
            old = inside.pop(rng.randrange(len(inside)))
            inside.append(node(last_use=old.last_use))
            queue.replace(old, inside[-1])
        elif inside:
            each = queue.first if action == "first" else rng.choice(inside)
            queue.drop(each)
            inside.remove(each)
        assert queue.first is min(inside, key=lambda each: each.last_use, default=None)
        assert sorted(each.place for each in inside) == list(range(len(queue)))
    assert emptied(queue) == sorted(inside, key=lambda each: each.last_use)


def test_the_queue_holds_what_may_go_and_nothing_else():
    """No stale entries: a node that was moved, or left and came back, is there once."""
    queue, nodes = queue_of(*range(50))
    rng = random.Random(0)
    for tick in range(50, 2_050):
        moved, back = rng.sample(nodes, 2)
        moved.last_use = tick
        queue.put(moved)
        queue.drop(back)
        queue.put(back)
    assert len(queue) == 50
    assert emptied(queue) == sorted(nodes, key=lambda each: each.last_use)


@pytest.mark.parametrize("size", [100, 1_000, 10_000])
def test_every_change_costs_a_logarithm_of_comparisons(size):
    rng, nodes = random.Random(size), [node(last_use=tick) for tick in range(size)]
    queue = EvictionQueue(lambda each: Counted(each.last_use))
    rng.shuffle(nodes)
    costs = []
    for i, each in enumerate([*nodes, *rng.sample(nodes, 100), *rng.sample(nodes, 50)]):
        before = Counted.comparisons
        if i < size + 100:
            each.last_use = each.last_use if i < size else size + i
            queue.put(each)
        else:
            queue.drop(each)
        costs.append(Counted.comparisons - before)
    assert 0 < max(costs) <= 2 * size.bit_length() + 2
