"""Exercise 4.2: radix trees in which room is needed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, Words, describe
from helpers.checks.machinery.family import Case, Family, Part

Nodes = dict[str, dict[str, Any]]


def evict(
    nodes: Nodes, wanted: int, *, pick: Callable[..., Any] = min, by: str = "last_use", once: bool = False,
    count: bool = False, pinned: bool = False, inner: bool = False, first: bool = False, beyond: bool = False,
    young: str = "", only: bool = False, read: Callable[[float], Any] = float, nothing: bool = False, family: bool = False,
) -> list[str]:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    left, gone, freed = dict(nodes), list[str](), 0
    at_first = set(nodes) - {node["parent"] for node in nodes.values()}
    time = {name: read(node[by]) for name, node in nodes.items()}
    pinned_parents = {node["parent"] for node in nodes.values() if node["pins"]}
    while freed < wanted + beyond or (first and not gone):
        parents = {node["parent"] for node in left.values()}
        may = [n for n in left if (inner or n not in parents) and (pinned or not left[n]["pins"])]
        may = [n for n in may if not once or n in at_first]
        if only:
            may = [n for n in may if left[n]["pages"] <= wanted - freed]
        if family:
            may = [n for n in may if left[n]["parent"] is None or left[n]["parent"] not in pinned_parents]
        if not may:
            if nothing:
                return []
            break
        chosen = pick(may, key=time.__getitem__)
        freed += 1 if count else left[chosen]["pages"]
        parent = left.pop(chosen)["parent"]
        if young and parent is not None:
            time[parent] = time[chosen] if young == "kept" else nodes[chosen][by]
        gone.append(chosen)
    return gone


def _evict(**options: Any) -> Callable[..., list[str]]:
    """Return a wrong answer."""
    return lambda nodes, wanted: evict(nodes, wanted, **options)


def node(parent: str | None, pages: int, last_use: float, pins: int = 0) -> dict[str, Any]:
    """Return one entry of a tree."""
    return {"parent": parent, "pages": pages, "last_use": last_use, "pins": pins}


def evict_cases(draw: random.Random) -> Iterator[Case]:
    """Yield trees: none, leaves alone, chains, pinned ones, random ones whose parents may be older than their children."""
    leaves = {"a": node(None, 3, 5), "b": node(None, 1, 2), "c": node(None, 2, 9)}
    chain = {"a": node(None, 2, 1), "b": node("a", 2, 2), "c": node("b", 2, 3)}
    in_use = {"a": node(None, 1, 1), "b": node("a", 1, 2, pins=1), "c": node("a", 1, 3)}
    clock = {
        "a": node(None, 1, 0.5),
        "b": node(None, 1, 0),
        "c": node(None, 1, 0.25),
        "d": node("a", 1, 1_764_000_000.5),
    }
    for tree, wanted in (
        ({}, 0), ({}, 4), (leaves, 0), (leaves, 1), (leaves, 3), (leaves, 6), (leaves, 7), (chain, 1), (chain, 5),
        (chain, 100), (in_use, 3), (clock, 1), (clock, 2), (clock, 4), ({"x": node(None, 4, 0)}, 4), ({"x": node(None, 4, 0, 3)}, 1),
    ):  # fmt: skip
        yield {"nodes": tree, "wanted": wanted}
    while True:
        names = draw.sample("abcdefghijklmnop", draw.randrange(1, draw.choice((4, 9, 17))))
        # times are whole or not, from 0 on, or those of a clock that counts since long ago
        begin, unit = draw.choice(((0, 1), (0, 1), (0, 0.25), (1_764_000_000, 1), (1_764_000_000, 0.125)))
        times, nodes = [begin + unit * n for n in draw.sample(range(100), len(names))], Nodes()
        deep = draw.random()
        for i, name in enumerate(names):
            parent = draw.choice([None, *names[:i]]) if draw.random() > deep else ([None, *names[:i]])[-1]
            nodes[name] = node(parent, draw.randrange(1, 6), times[i], draw.choice([0, 0, 0, 0, 1, 2]))
        order = draw.sample(names, len(names))
        yield {"nodes": {name: nodes[name] for name in order}, "wanted": draw.choice((0, 1, 2, 5, 9, 14, 40))}


def evict_kind(got: Any, case: Case) -> tuple[list[str]]:
    """Return the names. Raises CheckFailed when it is no list of names."""
    if got is None:
        raise CheckFailed("nothing was returned", case, hint="Is a return missing?")
    if not isinstance(got, list | tuple) or any(
        not isinstance(name, str) or name not in case["nodes"] for name in got
    ):
        raise CheckFailed("expected a list of names, in order", case, got=describe(got))
    return (list(got),)


def evict_facts(got: list[str], right: list[str], case: Case) -> str:
    """Return the rule that these names break, as a question."""
    nodes, wanted = case["nodes"], case["wanted"]
    if len(set(got)) != len(got):
        return "Can a node go twice?"
    if any(nodes[name]["pins"] for name in got):
        return "Is a node going that some request uses? Look at its pins."
    for i, name in enumerate(got):
        if any(other["parent"] == name for key, other in nodes.items() if key not in got[:i]):
            return f"{name!r} goes while something is below it. Who could still find that?"
    enough = [sum(nodes[name]["pages"] for name in got[:i]) >= wanted for i in range(len(got))]
    if any(enough):
        return "Is there enough before the last one goes?"
    freed = sum(nodes[name]["pages"] for name in got)
    if freed < wanted and len(got) < len(right):
        return "More is wanted, and more may go. Why does it stop?"
    return ""


def evict_shown(case: Case) -> Mapping[str, Any]:
    """Return the tree in one short line for each node."""
    nodes = {
        name: Words(
            f"{n['parent'] or 'root'}>{name} pages {n['pages']} last_use {n['last_use']} pins {n['pins']}"
        )
        for name, n in case["nodes"].items()
    }
    return {**nodes, "wanted": case["wanted"]}


def _is_tree(nodes: Nodes, wanted: int) -> bool:
    """Return whether every parent is there, no time is there twice, and each node has its four entries and a page."""
    times = [n["last_use"] for n in nodes.values()]
    whole = all(
        len(n) == 4 and n["pages"] >= 1 and (n["parent"] is None or n["parent"] in nodes)
        for n in nodes.values()
    )
    return whole and wanted >= 0 and len({*times}) == len(times)


EVICT = Family(
    evict,
    evict_cases,
    (Part(broken="these are not the nodes to go", facts=evict_facts, shown=Words, mistakes={
        "Is the most recently used one going first?": _evict(pick=max),
        "When its last child has gone, is a node a leaf?": _evict(once=True),
        "Are pages counted, or nodes?": _evict(count=True),
        "Does something go although nothing was wanted?": _evict(first=True),
        "The oldest goes first, whatever its size. What is compared?": (_evict(by="pages"), _evict(by="pages", pick=max)),
        "A node has its own last use. Has it that of a child that has gone?": (_evict(young="kept"), _evict(young="own")),
        "Is there enough before the last one goes?": _evict(beyond=True),
        "A time of 0 is a time as any other. Is it taken for none?": (
            _evict(read=lambda time: time or math.inf), _evict(read=lambda time: time or 1e9)),
        "A time may have a fraction. Is it cut?": (_evict(read=int), _evict(read=round)),
        "Times are numbers. Are they compared as text?": _evict(read=str),
        "There is less to free than is wanted. Do those that may go all go?": _evict(nothing=True),
        "A pin keeps a node and what is above it. Does it keep that node's siblings?": _evict(family=True),
        "Only whole nodes go. May a node go that has more pages than are still wanted?": _evict(only=True),
        "Is a node going that some request uses? Look at its pins.": _evict(pinned=True),
    }),),
    kind=evict_kind,
    valid=_is_tree,
    shown=evict_shown,
)  # fmt: skip
