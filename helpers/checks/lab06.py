"""Checks of lab 6, paged attention."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from helpers.checks.machinery.core import (
    CheckFailed,
    describe,
    exercise,
    require_callable,
    require_number,
    require_tensor,
)
from helpers.checks.machinery.limit import attempt
from helpers.checks.machinery.pool_story import PoolStory, random_story

LAB = "06_paged_attention"
Function = Callable[..., Any]
Cases = Sequence[tuple[list[int], int, int, int, int]]


@exercise(LAB, 1, "predict the pages")
def check_pages(answer: Any) -> None:
    """`answer`: pages of 16 slots in use, for a prompt of 100 tokens in three requests that write 30 tokens more each."""
    full, each = 100 // 16, -(-130 // 16)
    right = full + 3 * (each - full)
    mistakes: dict[str, float | tuple[float, ...]] = {
        "Is anything shared? The prompt's full pages are in all three tables.": 3 * each,
        "The last of the three to write into the shared page need not copy it. Whose is it then?": right + 1,
        "Some of the prompt's tokens lie in a page that is not full. Who needs them, and in which page?": (
            full + 3 * 2, full + 1 + 3 * 2,
        ),
        "That is the table of one request. There are three.": each,
        "Those are tokens divided by 16. Can two requests write into one page?": (
            -(-390 // 16), 390 / 16, 190 / 16,
        ),
    }  # fmt: skip
    require_number(answer, right, mistakes=mistakes, reveal=False)


_AMPLE: Cases = (  # table, length, new, page size, free pages
    ([7, 2, 9, 4, 12, 0, 5], 100, 50, 16, 6), ([], 0, 9, 4, 5), ([6], 4, 1, 4, 2), ([6, 3], 6, 2, 4, 3),
    ([6, 3], 5, 2, 4, 3), ([8, 1], 8, 8, 4, 4), ([5], 3, 0, 4, 2), ([], 0, 0, 4, 2), ([9, 4, 7], 3, 2, 4, 3),
    ([2], 1, 1, 1, 4),
)  # fmt: skip
_TIGHT: Cases = (([8, 1], 8, 8, 4, 2), ([4, 6], 6, 2, 4, 0), ([4], 3, 0, 4, 0), ([], 0, 5, 4, 2))
_SHORT: Cases = (([3], 4, 5, 4, 1), ([], 0, 1, 4, 0), ([3, 5], 7, 10, 4, 2))


@exercise(LAB, 2, "append without over-allocating")
def check_append(answer: Function) -> None:
    """`answer(table, length, new, page_size, free)` -> the table with room for the new tokens."""
    require_callable(answer)
    wrong = [case for given in map(_appending, _AMPLE) if (case := _appended_wrong(answer, given))]
    if wrong:
        given, got, right = wrong[0]
        pages, hint = f"{len(right)} pages", _append_hint(wrong)
        raise CheckFailed("this is not the request's table", given, expected=pages, got=got, hint=hint)
    for given in map(_appending, _TIGHT):
        _must_accept(answer, given)
    for given in map(_appending, _SHORT):
        _must_refuse(answer, given)


def _appending(case: tuple[list[int], int, int, int, int]) -> dict[str, Any]:
    """The arguments of one case; its last number says how many pages are free."""
    table, length, new, page_size, count = case
    free = [30 + (7 * i) % 10 for i in range(count)]
    return dict(table=table, length=length, new=new, page_size=page_size, free=free)


def _appended_wrong(
    answer: Function, given: dict[str, Any]
) -> tuple[dict[str, Any], list[int], list[int]] | None:
    """`(given, got, right)` when the table is wrong. CheckFailed when it is no table."""
    got, right = attempt(answer, **given), _appended(**given)
    if got is None:
        raise CheckFailed("nothing was returned", given, hint="Is a return missing?")
    if not isinstance(got, list | tuple) or any(type(page) is not int for page in got):
        raise CheckFailed("expected a list of pages", given, got=describe(got))
    return (given, list(got), right) if list(got) != right else None


def _appended(
    table: list[int], length: int, new: int, page_size: int, free: list[int], *,
    start: str = "token", rounding: str = "up", every: bool = False, keep: str = "all", never_less: bool = True,
) -> list[int]:  # fmt: skip
    """The reference, and with one of the options changed a mistake."""
    tokens = {"token": length, "page": len(table) * page_size, "nothing": 0}[start] + new
    pages = tokens // page_size + {"up": tokens % page_size > 0, "down": 0, "over": 1}[rounding]
    count = len(free) if every else pages - len(table)
    taken = free[: max(0, count) if never_less else count]
    return {"all": table + taken, "new": taken, "before": taken + table}[keep]


def _append_hint(wrong: list[tuple[dict[str, Any], list[int], list[int]]]) -> str:
    """The likely mistake, as a question: the one that explains all wrong answers."""
    variants: dict[str, dict[str, Any]] = {
        "Are the new tokens counted from the end of the last page? They follow the last token.": {"start": "page"},
        "Is a page taken although the one before is not full, or exactly full?": {"rounding": "over"},
        "A page that is only begun is needed, too. Is that rounded up?": {"rounding": "down"},
        "Are the old tokens counted, too?": {"start": "nothing"},
        "Are all free pages taken? Take what is needed.": {"every": True},
        "Those are the new pages. Where are the request's own?": {"keep": "new"},
        "Are the pages in the order of the tokens, the new ones at the end?": {"keep": "before"},
        "There is more room already than is needed. What does a negative number of pages take?": {"never_less": False},
    }  # fmt: skip
    for words, options in variants.items():
        if all(got == _appended(**given, **options) for given, got, _ in wrong):
            return words
    if any(len(set(got)) != len(got) for _, got, _ in wrong):
        return "Is one page in the table twice?"
    if all(sorted(got) == sorted(right) for _, got, right in wrong):
        return "Are the pages in the order of the tokens, the new ones at the end?"
    if all(
        len(got) == len(right) and got[: len(given["table"])] == given["table"] for given, got, right in wrong
    ):
        return "From which end of the free pages are they taken?"
    return "How many pages do all tokens need, old and new?"


def _must_accept(answer: Function, given: dict[str, Any]) -> None:
    """CheckFailed unless pages that are just enough do."""
    hint = "There are just as many pages as are needed. Are more asked for?"
    try:
        wrong = _appended_wrong(answer, given)
    except CheckFailed as failure:
        if "it raised ValueError" in failure.broken:
            raise CheckFailed("it refused what fits", given, got=failure.broken, hint=hint) from None
        raise
    if wrong:
        raise CheckFailed(
            "this is not the request's table", given, expected=wrong[2], got=wrong[1], hint=hint
        )


def _must_refuse(answer: Function, given: dict[str, Any]) -> None:
    """CheckFailed unless too few free pages are answered with ValueError."""
    try:
        got = attempt(answer, **given)
    except CheckFailed as failure:
        if "it raised ValueError" in failure.broken:
            return
        if "it raised" not in failure.broken:
            raise
        hint = "Whose error is it? Compare what is needed with what is free, and raise ValueError."
        raise CheckFailed(
            "too few free pages must be refused with ValueError", given, got=failure.broken, hint=hint
        ) from None
    hint = "A slice that is too long is cut silently. Who compares what is needed with what is free?"
    raise CheckFailed("too few free pages were not refused", given, got=describe(got), hint=hint)


@exercise(LAB, 3, "gather by block table")
def check_gather(answer: Function) -> None:
    """`answer(cache, table, length)` -> keys `[length, kv_heads, head_dim]` in the order of the tokens."""
    require_callable(answer)
    cases: list[tuple[int, list[int], int]] = [
        (4, [5, 2, 7], 10), (4, [6, 0], 8), (2, [3], 1), (3, [1, 2, 3], 7), (8, [4], 5), (1, [7, 1, 6, 2], 4),
    ]  # fmt: skip
    for page_size, table, length in cases:
        cache = torch.full((8, page_size, 2, 3), float("nan"))
        slots = [table[t // page_size] * page_size + t % page_size for t in range(length)]
        right = torch.randn(length, 2, 3, generator=torch.Generator().manual_seed(length))
        cache.view(-1, 2, 3)[slots] = right
        other = next(page for page in range(8) if page not in table)
        cache[other] = 1000.0  # another request's page
        got = attempt(answer, cache=cache, table=table, length=length)
        shown = {"page size": page_size, "table": table, "length": length}
        hint = _gather_hint(got, cache, table, length)
        require_tensor(got, right, shown, what="the keys", hint=hint)


def _gather_hint(got: Any, cache: Tensor, table: list[int], length: int) -> str:
    """The likely mistake, as a question."""
    size, flat = cache.shape[1], cache.flatten(0, 1)
    whole = cache[table]
    first = table[0] * size
    wrong = {
        "Are that whole pages? The unused slots of the last one would take part in the attention.": whole.flatten(0, 1),
        "Pages and their slots are two dimensions here. Which shape is asked for?": whole,
        "Is the table used? A request's pages do not lie at the beginning, and need not lie side by side.": flat[:length],
        "Do the request's pages lie side by side? Only its table says where the next one is.": flat[first : first + length],
        "The order of the table is the order of the tokens. Is it kept?": cache[sorted(table)].flatten(0, 1)[:length],
        "The order of the table is the order of the tokens. Is it reversed?": cache[table[::-1]].flatten(0, 1)[:length],
        "Is the table read as slots? Its entries are pages.": flat[table],
        "Is the first slot of every page taken, and the others not?": cache[table, 0],
    }  # fmt: skip
    for words, tensor in wrong.items():
        if (
            isinstance(got, Tensor)
            and got.shape == tensor.shape
            and torch.equal(got.nan_to_num(-1.5), tensor.nan_to_num(-1.5))
        ):
            return words
    return "In which page, and at which place of it, is token t?"


@exercise(LAB, 4, "copy on write")
def check_copy_on_write(answer: Function) -> None:
    """`answer(num_pages, page_size)` makes a pool with start, append, fork, read, free, `refs` and `tables`."""
    require_callable(answer)
    stories = [
        "start A|append A 6|fork A B|append B 1|append A 1|append B 4|free A|append B 1|free B",
        "start A|append A 4|fork A B|append A 1|append B 1|free B|append A 3|free A",
        "start A|append A 5|fork A B|free A|append B 2|free B",
        "start A|append A 2|fork A B|fork A C|fork B D|append D 1|append A 1|append C 1|append B 1|append D 3|free A|free C",
        "start A|append A 1|fork A B|append B 1|free B|start C|append C 6|append A 4",
        "start A|fork A B|append A 1|append B 2|free A|free B",
    ]
    for story in [*stories, *(random_story(seed) for seed in range(12))]:
        PoolStory(answer, story.split("|")).play()


@exercise(LAB, 5, "find the page size")
def check_page_size(answer: Function) -> None:
    """`answer(lengths, shared, sizes, most_wasted)` -> the largest size with an acceptable waste, or None."""
    require_callable(answer)
    rng = random.Random(5)
    cases: list[tuple[list[int], int, tuple[int, ...], float]] = [
        ([100, 37, 80, 150], 0, (8, 16, 32, 64), 0.15),
        ([12], 0, (4, 16), 0.25),
        ([96, 96, 192], 0, (16, 64, 48, 40), 0.01),
        ([33, 65, 17], 0, (64, 32), 0.05),
        ([130, 140, 150, 160], 100, (8, 16, 32, 64), 0.2),
        ([105, 110, 120, 101] * 5, 100, (8, 16, 32, 64), 0.3),
    ]
    for _ in range(60):
        shared = rng.choice((0, rng.randrange(1, 200), rng.randrange(1, 200)))
        lengths = [shared + rng.randrange(1, 300) for _ in range(rng.randrange(1, 9))]
        sizes = tuple(rng.sample((8, 16, 24, 32, 48, 64, 100, 128), 5))
        most = rng.choice((0.05, 0.1, 0.2, 0.35))
        if all(abs(_waste(lengths, shared, size) - most) > 1e-9 for size in sizes):  # else rounding decides
            cases.append((lengths, shared, sizes, most))
    wrong: list[tuple[dict[str, Any], Any, Any]] = []
    for lengths, shared, sizes, most in cases:
        given: dict[str, Any] = dict(lengths=lengths, shared=shared, sizes=sizes, most_wasted=most)
        got, right = attempt(answer, **given), _page_size(**given)
        if got is not None and (isinstance(got, bool) or not isinstance(got, int) or got not in sizes):
            raise CheckFailed("expected one of the sizes, or None", given, got=describe(got))
        if got != right:
            wrong.append((given, got, right))
    if wrong:
        given, got, right = wrong[0]
        hint = _size_hint(wrong)
        wastes = {
            size: f"{_waste(given['lengths'], given['shared'], size):.3f}" for size in (right, got) if size
        }
        shown = {**given, "waste": ", ".join(f"{value} of {size}" for size, value in wastes.items())}
        raise CheckFailed("this is not the page size", shown, expected=str(right), got=str(got), hint=hint)


def _page_size(
    lengths: list[int], shared: int, sizes: Sequence[int], most_wasted: float, *,
    pick: str = "largest", strict: bool = False, **options: Any,
) -> int | None:  # fmt: skip
    """The reference, and with one of the options changed a mistake."""
    ordered = list(sizes) if pick == "listed" else sorted(sizes)
    wasted = {size: _waste(lengths, shared, size, **options) for size in sizes}
    good = [
        size for size in ordered if wasted[size] < most_wasted or (not strict and wasted[size] == most_wasted)
    ]
    if pick == "until":
        good = list(itertools.takewhile(good.__contains__, ordered))
    if not good:
        return None
    return good[0] if pick == "smallest" else good[-1]


def _waste(
    lengths: list[int], shared: int, size: int, *,
    keep: str = "full", tokens: str = "once", over: str = "taken", half: bool = False,
) -> float:  # fmt: skip
    """The wasted share at one page size, and with one of the options changed a mistake."""
    common = {"full": shared // size * size, "all": shared, "none": 0}[keep]
    rest = [length - common for length in lengths]
    taken = size * (-(-common // size) + sum(-(-n // size) for n in rest))
    held = {
        "once": common + sum(rest), "each": sum(lengths), "different": shared + sum(lengths) - shared * len(lengths),
    }[tokens]  # fmt: skip
    empty = len(lengths) * size / 2 if half else taken - held
    return empty / (taken if over == "taken" else held)


def _size_hint(wrong: list[tuple[dict[str, Any], Any, Any]]) -> str:
    """The likely mistake, as a question: the one that explains all wrong answers."""
    if all(got is None for _, got, _ in wrong):
        return "Is a return missing, or is a size refused that would do?"
    if all(right is None for _, _, right in wrong):
        return "What is returned when every size wastes too much?"
    variants: dict[str, dict[str, Any]] = {
        "Is a waste of exactly most_wasted acceptable?": {"strict": True},
        "Is that the smallest one that will do? The largest is asked for.": {"pick": "smallest"},
        "The sizes come in any order. Is the largest one chosen, or the last?": {"pick": "listed"},
        "A larger size may waste less than a smaller one. Does the search stop too early?": {"pick": "until"},
        "Full pages of the beginning exist once. Has every request its own here?": {"keep": "none"},
        "What is left of the beginning lies in every request's own page. Does it fill a slot in each?": {
            "tokens": "different"
        },
        "Only *full* pages are shared. Where is the rest of the common beginning?": {"keep": "all"},
        "Shared tokens are held once, in shared pages. How often are they counted?": {"tokens": "each"},
        "A share of what? Of the slots in use, not of the tokens.": {"over": "held"},
        "Half a page each is an average. How much is it here, exactly?": {"half": True},
    }
    for words, options in variants.items():
        if all(got == _page_size(**given, **options) for given, got, _ in wrong):
            return words
    return "For one size: how many pages are there, and how many of their slots hold a token?"
