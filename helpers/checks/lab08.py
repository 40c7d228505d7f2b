"""Checks of lab 8, scheduling."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any

from helpers.checks.families.lab08.begin import BEGIN
from helpers.checks.families.lab08.first import FIRST
from helpers.checks.families.lab08.passes import PASSES
from helpers.checks.families.lab08.wait import WAIT
from helpers.checks.machinery.core import CheckFailed, describe, exercise, require_callable
from helpers.checks.machinery.family import SETTINGS, check_family
from helpers.checks.machinery.limit import attempt
from helpers.checks.machinery.rush import (
    PROMISES,
    RUSHES,
    SHARE,
    Learning,
    kept,
    letters,
    one_seat,
    promises,
    serve,
)
from helpers.checks.machinery.values import plain
from helpers.engine.policy import Policy
from helpers.engine.request import Request, RequestState

__all__ = ["LAB", "Learning", "check_begin", "check_both", "check_first", "check_passes", "check_wait", "letters",
           "one_seat", "promises", "serve"]  # fmt: skip
LAB = "08_scheduling"
CALLS = 120_000
"""Calls of `rank` for one request, among which it must not change."""


@exercise(LAB, 1, "predict the wait")
def check_wait(answer: Any) -> None:
    """Check that `answer(seconds)` returns the mean wait of jobs that are served one by one."""
    check_family(answer, WAIT)


@exercise(LAB, 2, "mend the ageing")
def check_first(answer: Any) -> None:
    """Check that `answer(waiting, now, ageing)` returns the name of the next one."""
    check_family(answer, FIRST)


@exercise(LAB, 3, "predict the length")
def check_passes(answer: Any) -> None:
    """Check that `answer(request, ended, budget)` returns how many passes the request will take."""
    check_family(answer, PASSES)


@exercise(LAB, 4, "when does the long one begin?")
def check_begin(answer: Any) -> None:
    """Check that `answer(free, short, long, gap, ageing)` returns the moment at which the long job begins, or
    infinity.
    """
    check_family(answer, BEGIN)


@exercise(LAB, 5, "keep two promises")
def check_both(answer: Callable[[], Policy]) -> None:
    """Check that `answer()` returns a policy that keeps both promises in three rushes."""
    require_callable(answer)
    _require_steady(answer)
    for number, trace in enumerate(RUSHES):
        report = attempt(lambda trace=trace: serve(trace, answer))
        if len(report.outcomes) != len(trace):
            raise CheckFailed(f"{len(trace)} requests came, {len(report.outcomes)} were served")
        shares = kept(report)
        if min(shares.values()) < SHARE:
            found = ", ".join(f"{share:.0%} of the {client}s" for client, share in shares.items())
            wanted = ", ".join(f"{client}s within {seconds:g} s" for client, seconds in PROMISES.items())
            raise CheckFailed(
                f"not both promises are kept: {wanted}, for {SHARE:.0%} of each",
                {"requests": len(trace)}, expected=f"{SHARE:.0%} of each or more", got=found,
                hint=_why_late(shares, answer(), number),
            )  # fmt: skip


def _why_late(shares: Mapping[str, float], policy: Policy, number: int) -> str:
    """Return a question about a policy that does not keep both; it has kept both in the rushes before `number`."""
    if policy.rank(_came("chat", 3.0)) > policy.rank(_came("chat", 30.0)):
        return "Of two chats, the one that came later goes first. Is the smaller rank the more urgent one?"
    if number == len(RUSHES) - 1 and policy.rank(_came("chat", 3.0)) != policy.rank(_came("chat", 3.0, 1000)):
        return "Here some chats have long prompts, and some documents short ones. What tells one kind from the other?"
    if shares["document"] >= SHARE:
        return "Chats are late. Does a document that could wait for longer go before a chat that cannot?"
    if shares["chat"] >= SHARE:
        return "Documents are late. When does one that waited for 9 seconds go before a new chat?"
    return "Both are late. How long can each still wait?"


def _came(client: str, arrived: float, prompt: int = 30) -> RequestState:
    """Return a request that waits."""
    request = Request(0, [1] * prompt, 200, client=client, priority=list(PROMISES).index(client))
    return RequestState(request, arrived, order=1)


def _require_steady(answer: Callable[[], Policy]) -> None:
    """Raise CheckFailed unless it makes policies whose ranks are numbers that stay."""
    policy = attempt(lambda: answer())
    if not isinstance(policy, Policy):
        raise CheckFailed(
            "expected a class made from Policy", got=describe(policy), hint="Is it class ...(Policy)?"
        )
    for client in PROMISES:
        state = _came(client, 3.0)
        given = {"state": f"a {client} that came at 3.0"}
        ranks = [plain(attempt(lambda state=state: policy.rank(state))) for _ in "ab"]
        if ranks[0] is None:
            raise CheckFailed("rank gives nothing", given, got=None, hint="Is a return missing?")
        if not isinstance(ranks[0], numbers.Real):
            raise CheckFailed("expected a rank that is a number", given, got=describe(ranks[0]))
        calls = CALLS if SETTINGS.explain and client == "chat" else 1000
        ranks.append(plain(attempt(lambda state=state, calls=calls: _after(policy, state, calls))))
        _require_same(ranks, given)
        _require_same([ranks[0], plain(attempt(lambda state=state: answer().rank(state)))], given)


def _after(policy: Policy, state: RequestState, calls: int) -> Any:
    """Return the rank after so many calls."""
    for _ in range(calls):
        policy.rank(state)
    return policy.rank(state)


def _require_same(ranks: list[Any], given: Mapping[str, Any]) -> None:
    """Raise CheckFailed unless the ranks of one request are the same."""
    if len({*ranks}) > 1:
        raise CheckFailed(
            "the rank changes while the request waits", given, got=", then ".join(map(describe, ranks)),
            hint="The queue is sorted once. Can the rank be a moment, which stays?",
        )  # fmt: skip
