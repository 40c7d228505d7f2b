"""Checks of lab 4, prefix reuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from helpers.checks.families.lab04.evict import EVICT
from helpers.checks.families.lab04.key import require_keys
from helpers.checks.families.lab04.match import MATCH
from helpers.checks.families.lab04.rate import RATE
from helpers.checks.families.lab04.secret import (
    OWN_TRIES,
    Asked,
    Server,
    secret_case,
    secret_family,
    secret_shown,
)
from helpers.checks.machinery.core import CheckFailed, exercise
from helpers.checks.machinery.family import Case, check_family
from helpers.checks.machinery.limit import attempt
from helpers.checks.machinery.own_code import require_closed

__all__ = ["LAB", "Server", "check_evict", "check_key", "check_match", "check_rate", "check_secret"]
LAB = "04_prefix_reuse"
Function = Callable[..., Any]


@exercise(LAB, 1, "the longest match")
def check_match(answer: Any) -> None:
    """Check that `answer(prompt, stored, page_size)` returns how many tokens need not be computed."""
    check_family(answer, MATCH)


@exercise(LAB, 2, "evict without sawing off branches")
def check_evict(answer: Any) -> None:
    """Check that `answer(nodes, wanted)` returns the names of the nodes that go, in order."""
    check_family(answer, EVICT)


@exercise(LAB, 3, "predict a hit rate")
def check_rate(answer: Any) -> None:
    """Check that `answer(prompts, page_size)` returns the reused share of all prompt tokens."""
    check_family(answer, RATE)


@exercise(LAB, 4, "read what you cannot see")
def check_secret(answer: Any) -> None:
    """Check that `answer(ask, known, alphabet, length)` returns the secret tokens."""
    hidden = {name for kind in (Asked(_USUAL), Server(lambda *_: 0)) for name in vars(kind)} - {
        "questions",
        "allowed",
    }
    require_closed(
        answer, hidden | {"__dict__"}, "the time is all that you see, and the answer reads the server itself"
    )
    asked = dict[str, list[list[int]]]()
    family = secret_family(lambda a, case: _recovered(a, case, asked), _secret_facts(asked))
    check_family(answer, family)
    _require_outside(answer, asked)


_USUAL = secret_case([1, 2], [21, 20, 21], [20, 21], 0.02, 1e-3, 6)


def _require_outside(answer: Function, asked: dict[str, list[list[int]]]) -> None:
    """Raise CheckFailed when a token that stands behind the tries stays the same in an alphabet that has it."""
    _recovered(answer, _USUAL, asked)
    behind = {token for question in asked[repr(_USUAL)] for token in question[3:]} - {1, 2, 20, 21}
    for token in sorted(token for token in behind if token >= 0)[:3]:
        for round_ in range(4):  # a wrong answer guesses, and may be right by chance
            case = secret_case([1, 2], [21, 20, 20, 21, 21, 20], [20, 21, int(token)], 0.02, 1e-3, round_)
            got = _recovered(answer, case, asked)
            if list(got) != case["secret"]:
                raise CheckFailed("that is not the secret", secret_shown(case), expected=case["secret"],
                                  got=list(got), hint=OWN_TRIES)  # fmt: skip


def _recovered(answer: Function, case: Case, asked: dict[str, list[list[int]]]) -> Any:
    """Return what the learner found, and note in `asked` what was asked for it."""
    shown = secret_shown(case)
    given: dict[str, Any] = {
        "known": case["known"],
        "alphabet": case["alphabet"],
        "length": len(case["secret"]),
    }
    ask = Asked(case)
    try:
        return attempt(lambda **rest: answer(ask=ask, **rest), **given)
    except CheckFailed as failure:
        if "had enough" not in str(failure):
            raise
        raise CheckFailed(
            f"more than {ask.allowed} questions were asked", shown,
            hint="Are whole secrets tried? Each token can be found by itself, from the left.",
        ) from None  # fmt: skip
    finally:
        asked[repr(case)] = ask.questions


def _secret_facts(asked: dict[str, list[list[int]]]) -> Callable[[Any, Any, Case], str]:
    """Return what the questions of a case tell, as a question."""

    def facts(got: Any, right: Any, case: Case) -> str:
        questions = asked.get(repr(case), [])
        if got == [*case["known"], *right]:
            return "Only the secret is asked for. Is `known` a part of what is returned?"
        if not right:
            return ""
        if not questions:
            return "The server was not asked anything. What does its time tell?"
        place = len(case["known"])
        if not any(question[:place] == case["known"] for question in questions):
            return "The secret stands behind `known`. Does a question begin with it?"
        if all(len(question) <= place + 1 for question in questions[: len(case["alphabet"])]):
            return (
                "A prompt's last token is always computed. Is there something behind the token that you try?"
            )
        behind = {token for question in questions[: len(case["alphabet"])] for token in question[place + 1 :]}
        if len(got) < len(right):
            return "For some token no time was small enough. Servers differ: is a number of seconds fixed in the code?"
        if got[:1] == right[:1] and behind & {*case["alphabet"]}:
            return OWN_TRIES
        if len({tuple(question) for question in questions}) < len(questions):
            return "A question was asked twice. The second time, your own first one is stored: what does its time tell?"
        if not {*got} <= {*case["alphabet"]}:
            return "A token that is not in `alphabet` was returned. Is an index taken for a token?"
        return ""

    return facts


@exercise(LAB, 5, "salt it")
def check_key(answer: Any) -> None:
    """Check that `answer(before, tokens, salt)` returns something hashable that stands for a page."""
    require_keys(answer)
