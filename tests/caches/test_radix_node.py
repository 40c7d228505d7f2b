"""Node: a run of tokens that says what it is; its beginning has its history, without children and pins."""

import dataclasses

import pytest

from helpers.caches import Node, RadixTree, packed


def node(tokens=(1, 256, 2**32 - 1), pages=(4, 5, 6), parent=None):
    return Node(bytearray(packed(tokens)), list(pages), parent, "salt", 3, 8, uses=2)


def test_tokens_are_the_packed_ones():
    assert node().tokens == (1, 256, 2**32 - 1)
    assert node((), ()).tokens == ()


def test_a_node_says_what_it_is():
    assert repr(node()) == "Node(3 tokens, pages=[4, 5, 6], pins=0, salt='salt')"


def test_a_new_node_has_nothing_below_it_and_waits_in_no_queue():
    new = node()
    assert (new.children, new.pins, new.own_pins, new.place) == ({}, 0, 0, -1)
    new.children["page"] = node()
    assert node().children == {}, "no two nodes share their children"


def test_a_beginning_has_the_history_and_nothing_else():
    above, below = node(), node()
    run = node(parent=above)
    run.children["page"], run.pins, run.own_pins, run.place = below, 3, 1, 7
    upper = run.beginning(run.text[:4], run.pages[:1])
    assert (upper.tokens, upper.pages, upper.parent, upper.salt) == ((1,), [4], above, "salt")
    assert (upper.created, upper.last_use, upper.uses) == (3, 8, 2)
    assert (upper.children, upper.pins, upper.own_pins, upper.place) == ({}, 0, 0, -1)
    assert (run.tokens, run.pages, run.children) == ((1, 256, 2**32 - 1), [4, 5, 6], {"page": below})


def test_alike_is_not_the_same():
    one, other = node(), node()
    assert one != other
    assert len({one, other}) == 2


def test_a_node_has_no_room_for_anything_else():
    with pytest.raises(AttributeError):
        node().text_of_the_day = 1
    assert {field.name for field in dataclasses.fields(Node)} == set(Node.__slots__)


def test_nodes_of_a_tree_know_their_neighbours():
    tree = RadixTree()
    tree.insert([1, 2, 3], [0, 1, 2])
    lower = tree.insert([1, 2, 9], [0, 1, 5]).node
    upper = lower.parent
    assert (upper.tokens, upper.parent, lower.tokens, lower.salt) == ((1, 2), tree.root, (9,), None)
    assert [child.tokens for child in upper.children.values()] == [(3,), (9,)]
