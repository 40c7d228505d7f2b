"""A family of inputs: what an exercise allows, the right result for each, and wrong answers that have a name."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from helpers.checks.machinery.core import require_callable, require_finite
from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.limit import attempt_spending
from helpers.checks.machinery.shrink import smallest
from helpers.checks.machinery.values import REFUSED, copied, equal, plain

Case = dict[str, Any]
Wrong = Callable[..., Any]
Mistakes = Mapping[str, Wrong | tuple[Wrong, ...]]
COUNT = 200
"""Cases that an answer is tried on."""
_ENOUGH = 6
"""Cases after which an answer that always fails in the same way is tried no more."""


@dataclass
class Settings:
    """How checks go about it: `explain=False` stops at the first failure and looks for no mistake, as a gate does."""

    explain: bool = True


SETTINGS = Settings()


def seed() -> int:
    """Return the seed of all cases: 1, or what `COURSE_CHECK_SEED` says, where `fresh` means another one each time."""
    named = os.environ.get("COURSE_CHECK_SEED", "").strip()
    return random.SystemRandom().randrange(2**32) if named == "fresh" else int(named or 1)


def nothing(got: Any, right: Any, case: Case) -> str:
    """Say nothing about what came."""
    return ""


def as_number(got: Any, case: Case) -> Any:
    """Return the number that came, as one part. Raises CheckFailed when it is none."""
    return (require_finite(got, case),)


@dataclass(frozen=True)
class Part:
    """A part of a result: its name in messages, and the wrong answers that are known for it, each under its question.

    A wrong answer takes a case and returns this part alone. `facts` may return a question that follows from what came.
    """

    name: str = ""
    mistakes: Mistakes = field(default_factory=dict)
    facts: Callable[[Any, Any, Case], str] = nothing
    same: Callable[[Any, Any], bool] = equal
    shown: Callable[[Any], object] = describe
    broken: str | Callable[[Any, Any, Case], str] = "the value is wrong"


@dataclass(frozen=True)
class Family:
    """An exercise: `cases` draws what its docstring allows, `right` solves a case, `kind` turns a result into its parts.

    `right` returns one value, or a tuple where there are several parts. `valid` says whether a smaller case is allowed.
    `spent` names arguments that a call may use up; `together` lists that have one entry for each request. `joint` are wrong
    answers to all parts together, which are tried first. `tensors` says that a result holds tensors, which stay what they are.
    """

    right: Callable[..., Any]
    cases: Callable[[random.Random], Iterable[Case]]
    parts: tuple[Part, ...] = (Part(),)
    kind: Callable[[Any, Case], Any] = as_number
    valid: Callable[..., bool] | None = None
    together: tuple[str, ...] = ()
    spent: tuple[str, ...] = ()
    shown: Callable[[Case], Mapping[str, Any]] = dict
    call: Callable[[Wrong, Case], Any] | None = None
    refusals: tuple[str, str] = ("", "")
    tensors: bool = False
    joint: Mistakes = field(default_factory=dict)
    count: int = COUNT

    def solved(self, case: Case) -> tuple[Any, ...]:
        """Return the right result in its parts; REFUSED for each where ValueError is right."""
        try:
            right = self.right(**copied(case))
        except ValueError:
            return (REFUSED,) * len(self.parts)
        return right if len(self.parts) > 1 else (right,)


@dataclass
class Tried:
    """What became of an answer in one case: `wrong` is the number of the first wrong part, `failure` any other failure."""

    case: Case
    right: tuple[Any, ...]
    got: tuple[Any, ...] = ()
    failure: CheckFailed | None = None
    wrong: int | None = None

    @property
    def failed(self) -> bool:
        """Return whether the answer does not hold here."""
        return self.failure is not None or self.wrong is not None


def check_family(answer: Any, family: Family) -> None:
    """Raise CheckFailed unless the answer is right in all cases; the message shows the smallest case that was found."""
    require_callable(answer)
    draw = random.Random(seed())
    tried = list[Tried]()
    for case in itertools.islice(family.cases(draw), family.count):
        tried.append(_try(answer, family, case))
        if tried[-1].failed and (not SETTINGS.explain or _is_unwritten(tried[-1])):
            _report(tried[-1], family, "")
        if len(tried) == _ENOUGH and len({_sort(one) for one in tried if one.failure}) == 1 == _share(tried):
            break
    if any(one.failed for one in tried):
        _explain(answer, family, tried)
    if family.tensors:
        _require_lasting(family, tried)


def _require_lasting(family: Family, tried: list[Tried]) -> None:
    """Raise CheckFailed when a tensor that was right has changed since: a later call has written into its memory."""
    for one in tried:
        parts = zip(family.parts, one.got, one.right, strict=True)
        if not all(part.same(got, right) for part, got, right in parts):
            hint = "Is one buffer given back by every call? Each result needs memory of its own."
            raise CheckFailed("a later call changed an earlier result", family.shown(one.case), hint=hint)


def _share(tried: list[Tried]) -> float:
    """Return the share of cases in which there is nothing to compare."""
    return sum(one.failure is not None for one in tried) / len(tried)


def _is_unwritten(one: Tried) -> bool:
    """Return whether there is no answer yet."""
    return one.failure is not None and isinstance(one.failure.error, NotImplementedError)


def _try(answer: Any, family: Family, case: Case) -> Tried:
    """Return what becomes of the answer in one case."""
    one = Tried(case, family.solved(case))
    try:
        got = family.call(answer, case) if family.call else attempt_spending(family.spent, answer, **case)
        one.got = family.kind(got if family.tensors else plain(got), case)
    except CheckFailed as failure:
        if family.refusals[0] and isinstance(failure.error, ValueError):
            one.got = (REFUSED,) * len(family.parts)
        else:
            one.failure = failure
            return one
    pairs = zip(family.parts, one.got, one.right, strict=True)
    one.wrong = next((i for i, (part, a, b) in enumerate(pairs) if not part.same(a, b)), None)
    return one


def _explain(answer: Any, family: Family, tried: list[Tried]) -> None:
    """Raise CheckFailed for the smallest case, with the mistake that explains all results, where one does."""
    valued = [one for one in tried if one.failure is None]
    for number in sorted({one.wrong for one in valued if one.wrong is not None}):
        wrong = [one for one in valued if one.wrong == number]
        for mistakes, agrees in ((family.joint, _agrees_wholly), (family.parts[number].mistakes, _agrees)):
            words, mistake = _recognised(family, number, valued, mistakes, agrees)
            if mistake is not None:
                alike = _likewise(answer, family, number, mistake, agrees)
                _report(smallest(wrong, family.valid, family.together, alike), family, words)
    failed = smallest([one for one in tried if one.failed], None, (), lambda case: None)

    def fails(case: Case) -> Tried | None:
        one = _try(answer, family, case)
        same = one.failed and one.wrong == failed.wrong and _sort(one) == _sort(failed)
        return one if same else None

    _report(smallest([failed], family.valid, family.together, fails), family, "")


def _sort(one: Tried) -> str:
    """Return which sort of failure that is: a type of error, or words."""
    if one.failure is None:
        return ""
    return type(one.failure.error).__name__ if one.failure.error else one.failure.broken[:20]


Agrees = Callable[[Wrong, Family, int, Tried], bool]


def _likewise(
    answer: Any, family: Family, number: int, mistake: Wrong, agrees: Agrees
) -> Callable[[Case], Tried | None]:
    """Return what tries a smaller case, in which the answer must give what the same mistake gives."""

    def alike(case: Case) -> Tried | None:
        one = _try(answer, family, case)
        return one if one.wrong == number and agrees(mistake, family, number, one) else None

    return alike


def _recognised(
    family: Family, number: int, tried: list[Tried], mistakes: Mistakes, agrees: Agrees
) -> tuple[str, Wrong | None]:
    """Return the question and the wrong answer that gives this part's very values in all cases; ("", None) if none does."""
    part = family.parts[number]
    usable = sorted(tried, key=lambda one: part.same(one.got[number], one.right[number]))  # wrong ones first
    for words, several in mistakes.items():
        for mistake in several if isinstance(several, tuple) else (several,):
            if all(agrees(mistake, family, number, one) for one in usable):
                return words, mistake
    return "", None


def _given(mistake: Wrong, case: Case) -> Any:
    """Return what a wrong answer gives; an Ellipsis where it fails in a way of its own."""
    try:
        return mistake(**copied(case))
    except ValueError:
        return REFUSED
    except (TypeError, ArithmeticError, LookupError, RuntimeError, AttributeError):
        return Ellipsis


def _agrees(mistake: Wrong, family: Family, number: int, one: Tried) -> bool:
    """Return whether a wrong answer gives what the learner's gave for one part."""
    wrong = _given(mistake, one.case)
    return wrong is not Ellipsis and family.parts[number].same(one.got[number], wrong)


def _agrees_wholly(mistake: Wrong, family: Family, number: int, one: Tried) -> bool:
    """Return whether a wrong answer gives what the learner's gave for all parts."""
    wrong = _given(mistake, one.case)
    if wrong is Ellipsis or wrong is REFUSED:
        return False
    return all(part.same(a, b) for part, a, b in zip(family.parts, one.got, wrong, strict=True))


def _report(one: Tried, family: Family, words: str) -> None:
    """Raise CheckFailed for one case."""
    if one.failure is not None:
        _report_failure(one, family)
    number = one.wrong or 0
    part, got, right = family.parts[number], one.got[number], one.right[number]
    broken = part.broken if isinstance(part.broken, str) else part.broken(got, right, one.case)
    broken = f"{part.name}: {broken}" if part.name else broken
    if right is REFUSED:
        broken = family.refusals[0]
    elif got is REFUSED:
        broken = family.refusals[1]
    elif not words and SETTINGS.explain:
        words = part.facts(got, right, one.case)
    shown = family.shown(one.case)
    raise CheckFailed(broken, shown, expected=part.shown(right), got=part.shown(got), hint=words)


def _report_failure(one: Tried, family: Family) -> None:
    """Raise the failure of one case that has no result to compare."""
    failure = one.failure
    assert failure is not None
    if one.right and one.right[0] is REFUSED and failure.error is not None and not _is_unwritten(one):
        hint = "Whose error is it? Compare before anything is taken, and raise ValueError."
        raise CheckFailed(
            f"expected ValueError: {family.refusals[0]}",
            family.shown(one.case),
            got=failure.broken,
            hint=hint,
        )
    if failure.error is None or _is_unwritten(one):
        raise failure
    none = "Nothing is right here: None is to be returned, not an error." if one.right[0] is None else ""
    raise CheckFailed(failure.broken, family.shown(one.case), hint=none or failure.hint, error=failure.error)
