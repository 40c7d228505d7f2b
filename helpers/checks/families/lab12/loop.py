"""Exercise 12.1: an engine loop's turns, with cancellation."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import is_whole, plain

Action = tuple[str, int, int]
Passes = list[list[int]]
_MOST = 400
"""Turns after which a wrong answer that never ends is given up."""


def passes(
    turns: Sequence[Sequence[Action]], seats: int, *, late: bool = False, waiting: bool = True, running: bool = True, freed: bool = True,
    static: bool = False, idle: str = "kept", every: bool = True, last: bool = True, stack: bool = False,
    seat_of: str = "oldest", shown: str = "seats", zero: bool = True,
) -> Passes:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    queue, seated, found = list[list[int]](), list[list[int]](), Passes()
    turn = 0
    while turn < len(turns) or queue or seated:
        actions = list(turns[turn]) if turn < len(turns) else []
        held = 0
        if not late:
            held = _do(actions, queue, seated, waiting, running, freed, every)
        if not (static and seated):
            while queue and len(seated) + held < seats:
                smallest = queue.index(min(queue)) if seat_of == "smallest" else 0
                seated.append(queue.pop(-1 if stack else smallest))
        if seated or idle == "kept" or (idle == "while" and turn < len(turns) - 1):
            names = [name for name, _ in seated if zero or name]
            found.append(sorted(names) if shown == "sorted" else names)
        for request in seated:
            request[1] -= 1
        seated = [request for request in seated if request[1] + (not last) > 0]
        if late:
            _do(actions, queue, seated, waiting, running, freed, every)
        turn += 1
        if turn > _MOST or (idle == "end" and not seated and not queue):
            break
    return found


def _do(
    actions: Sequence[Action], queue: list[list[int]], seated: list[list[int]], waiting: bool, running: bool, freed: bool, every: bool
) -> int:  # fmt: skip
    """Do what came; return the seats that a wrong answer keeps for one pass more."""
    kept = 0
    for what, name, tokens in actions if every else actions[:1]:
        if what == "begin":
            queue.append([name, tokens])
            continue
        before = len(seated)
        queue[:] = [one for one in queue if one[0] != name or not waiting]
        seated[:] = [one for one in seated if one[0] != name or not running]
        kept += 0 if freed else before - len(seated)
    return kept


def _passes(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda turns, seats: passes(turns, seats, **options)


def _cancels_first(turns: Sequence[Sequence[Action]], seats: int) -> Passes:
    """Do the cancellations of a turn before what began in the turn."""
    return passes([sorted(turn, key=lambda action: action[0] == "begin") for turn in turns], seats)


def _in_place(turns: Sequence[Sequence[Action]], seats: int) -> Passes:
    """Give a request the very place of the one that left."""
    queue, places, found = list[list[int]](), list[list[int] | None]([None] * seats), Passes()
    turn = 0
    while turn < len(turns) or queue or any(places):
        for what, name, tokens in turns[turn] if turn < len(turns) else ():
            if what == "begin":
                queue.append([name, tokens])
            else:
                queue = [one for one in queue if one[0] != name]
                places = [None if one and one[0] == name else one for one in places]
        places = [one or (queue.pop(0) if queue else None) for one in places]
        found.append([one[0] for one in places if one])
        places = [[one[0], one[1] - 1] if one and one[1] > 1 else None for one in places]
        turn += 1
    return found


def begin(name: int, tokens: int) -> Action:
    """Return the action of a call that comes."""
    return "begin", name, tokens


def cancel(name: int) -> Action:
    """Return the action of a client that leaves."""
    return "cancel", name, 0


def loop_cases(draw: random.Random) -> Iterator[Case]:
    """Yield turns: none, idle ones, one call, more calls than seats, cancellations of every kind, names that come again, large names and batches."""
    for turns, seats in (
        ([], 1), ([[]], 2), ([[begin(1, 2)]], 1), ([[begin(1, 1), begin(2, 3)]], 1), ([[begin(1, 3)], [], [cancel(1)]], 1),
        ([[begin(1, 3), begin(2, 2)], [cancel(2)]], 1), ([[begin(1, 2), begin(2, 2)], [cancel(1)]], 1), ([[begin(1, 1)], [], [cancel(1)]], 1),
        ([[], [], [begin(1, 1)]], 2), ([[begin(1, 4), cancel(1), begin(2, 1)]], 1), ([[cancel(7)], [begin(1, 1)], [], [], [begin(2, 1)]], 1),
        ([[begin(1, 3), begin(2, 1), begin(3, 1)]], 2), ([[begin(1, 2)], [cancel(1), begin(2, 2), begin(3, 1)]], 1),
        ([[begin(0, 2), begin(5, 1)]], 1), ([[begin(8, 2), begin(3, 2), begin(5, 1)]], 2), ([[begin(4, 3), begin(9, 1)], [begin(2, 1), begin(6, 1)]], 2),
        ([[begin(1, 1), begin(2, 3), begin(3, 2)]], 2), ([[begin(0, 3), begin(2, 1)], [cancel(0)]], 1), ([[begin(1, 1), begin(0, 2)], [cancel(0)]], 1),
        ([[begin(1, 3), begin(257, 3), begin(65537, 3)], [cancel(1)], [cancel(257)]], 2), ([[begin(name, 2) for name in range(12)], [cancel(3)]], 9),
        ([[begin(name, 3) for name in range(1, 9)], [cancel(2)], [cancel(8)]], 2),
    ):  # fmt: skip
        yield {"turns": [list(turn) for turn in turns], "seats": seats}
    while True:
        names, drawn = 0, list[list[Action]]()
        for _ in range(draw.randrange(1, 9)):
            turn = list[Action]()
            for _ in range(draw.choice((0, 0, 1, 2, 3))):
                if names and draw.random() < 0.4:
                    turn.append(cancel(draw.randrange(1, names + 2)))
                else:
                    names += 1
                    turn.append(begin(names, draw.randrange(1, 6)))
            drawn.append(turn)
        yield {
            "turns": _renamed(drawn, draw) if draw.random() < 0.3 else drawn,
            "seats": draw.choice((1, 1, 2, 3)),
        }


def _renamed(turns: Sequence[Sequence[Action]], draw: random.Random) -> list[list[Action]]:
    """Return the same turns with large names in no order; equal names are not the same object."""
    names = draw.sample(range(10_000), 40)
    return [[(what, int(str(names[name])), tokens) for what, name, tokens in turn] for turn in turns]


def loop_kind(got: Any, case: Case) -> tuple[Passes]:
    """Return the passes. Raises CheckFailed when they are something else."""
    got = plain(got)
    if got is None:
        raise CheckFailed("there is no list yet", case, got=got, hint="Is a return missing?")
    lists = isinstance(got, list | tuple) and all(isinstance(one, list | tuple) for one in got)
    if not lists or not all(is_whole(name) for one in got for name in one):
        raise CheckFailed(
            "expected a list with a list of names, whole numbers, for each turn", case, got=describe(got)
        )
    return ([list(one) for one in got],)


def _is_story(turns: Sequence[Sequence[Action]], seats: int) -> bool:
    """Return whether names begin once, and each action has the right form."""
    if any(len(one) != 3 or one[0] not in ("begin", "cancel") for turn in turns for one in turn):
        return False
    begun = [name for turn in turns for what, name, _ in turn if what == "begin"]
    sizes = [tokens for turn in turns for what, _, tokens in turn if what == "begin"]
    return seats >= 1 and len({*begun}) == len(begun) and all(size >= 1 for size in sizes)


LOOP = Family(
    passes,
    loop_cases,
    (Part(mistakes={
        "What came since the last pass is done before the next one. Is it done after the pass?": _passes(late=True),
        "A client may leave while its request waits. Does cancellation look at the queue?": _passes(waiting=False),
        "A client may leave while its request runs. Does cancellation look at the seats?": _passes(running=False),
        "Does cancellation do anything?": _passes(waiting=False, running=False),
        "A cancelled request leaves a seat before the pass. Is the seat free for this pass already?": _passes(freed=False),
        "Requests join between passes. Does the loop wait until all seats are empty?": _passes(static=True),
        "Turns without a running request have an empty list. Are they left out?": (_passes(idle="skipped"), _passes(idle="while")),
        "The loop sleeps when there is nothing to do, and more may come. Does it end there?": _passes(idle="end"),
        "Several actions may come between two passes. Is only the first one done?": _passes(every=False),
        "A request leaves after its last token. Does it take one pass more?": _passes(last=False),
        "The request that waits longest is first. Is the queue a stack?": _passes(stack=True),
        "The request that waits longest is first. Is it the one with the smallest name?": _passes(seat_of="smallest"),
        "Names come in the order in which they got their seats. Are they sorted?": _passes(shown="sorted"),
        "A name may be any whole number. Is 0 taken for none?": _passes(zero=False),
        "A request that gets a seat stands behind those that have one. Does it get the place of the one that left?": _in_place,
        "Actions are done in their order. Do cancellations of the turn come first?": _cancels_first,
    }),),
    kind=loop_kind,
    valid=_is_story,
)  # fmt: skip
