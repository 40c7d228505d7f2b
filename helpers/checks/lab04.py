"""Checks of lab 4, prefix reuse."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from helpers.checks.families.lab04.evict import EVICT
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
from helpers.checks.machinery.core import CheckFailed, describe, exercise, require_callable
from helpers.checks.machinery.family import Case, check_family, seed
from helpers.checks.machinery.limit import attempt

__all__ = ["LAB", "Server", "check_evict", "check_key", "check_match", "check_rate", "check_secret"]
LAB = "04_prefix_reuse"
Function = Callable[..., Any]
Text = tuple[tuple[int, ...], ...]


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
    asked = dict[str, list[list[int]]]()
    family = secret_family(lambda a, case: _recovered(a, case, asked), _secret_facts(asked))
    check_family(answer, family)
    _require_outside(answer, asked)


def _require_outside(answer: Function, asked: dict[str, list[list[int]]]) -> None:
    """Raise CheckFailed when a token that stands behind the tries stays the same in an alphabet that has it."""
    usual = secret_case([1, 2], [21, 20, 21], [20, 21], 0.02, 1e-3, 6)
    _recovered(answer, usual, asked)
    behind = {token for question in asked[repr(usual)] for token in question[3:]} - {1, 2, 20, 21}
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
    require_callable(answer)
    text: list[tuple[int, ...]] = [(1, 2), (3, 4), (5, 6)]
    name, same_name = "Petra", "".join(["Pet", "ra"])  # equal texts, two objects
    if _keys(answer, text[:1], name) != _keys(answer, text[:1], same_name):
        hint = "Is there chance in the key, or an object's identity?"
        raise CheckFailed("the same page of the same tenant has another key the second time", hint=hint)
    for broken, texts, page, hint in _PAIRS:
        one, other = (_keys(answer, list(pages), salt)[page[i]] for i, (salt, pages) in enumerate(texts))
        if one == other:
            raise CheckFailed(broken, got=describe(one), hint=hint)
    _require_apart(answer)
    _require_many(answer)
    _require_unforged(answer)


_A: Text = ((1, 2), (3, 4), (5, 6))
_B: Text = ((9, 9), (3, 4), (5, 6))
_GLUED = "Are texts glued together? Keep parts apart."
_PAIRS: tuple[tuple[str, tuple[tuple[str, Text], tuple[str, Text]], tuple[int, int], str], ...] = (
    ("texts with another first page share their second", (("Petra", _B), ("Petra", _A)), (1, 1), "Does the key depend on the page before?"),
    ("texts that differ only far before share a page", (("Petra", _B), ("Petra", _A)), (2, 2), "Does the key carry on everything before?"),
    ("pages with other tokens share a key", (("Petra", ((1, 3),)), ("Petra", _A)), (0, 0), "Do all tokens go into the key?"),
    ("pages with the same tokens in another order share a key", (("Petra", ((2, 1),)), ("Petra", _A)), (0, 0), "Does the order of the tokens count?"),
    ("pages with other tokens share a key", (("Petra", ((1, 2, 3, 4),)), ("Petra", ((1, 3, 2, 4),))), (0, 0), "Do all tokens go into the key, in their order?"),
    ("a longer page shares a shorter one's key", (("Petra", ((1, 2, 1, 2),)), ("Petra", ((1, 2),))), (0, 0), "Do all tokens go into the key?"),
    ("pages with other tokens behind a first one share a key", (("Petra", ((1, 2), (3, 5, 4))), ("Petra", ((1, 2), (3, 6, 4)))), (1, 1), "Do all tokens go into the key?"),
    ("two tenants share their first page", (("Anna", _A), ("Petra", _A)), (0, 0), "Is the salt in the first page's key?"),
    ("two tenants share a later page", (("Anna", _A), ("Petra", _A)), (2, 2), "Does the salt reach the pages behind the first?"),
    ("two tenants share a page: salt '1' with token 12, salt '11' with token 2", (("1", ((12,),)), ("11", ((2,),))), (0, 0), _GLUED),
    ("two pages share a key: tokens (1, 23) and (12, 3)", (("x", ((1, 23),)), ("x", ((12, 3),))), (0, 0), _GLUED),
    ("a tenant without a name shares with the tenant 'None'", (("None", _A), ("", _A)), (0, 0), "Are all salts kept apart, the empty one too?"),
    ("the tenants 'A' and 'a' share a page", (("A", _A), ("a", _A)), (0, 0), "Salts are compared letter by letter. Are they changed first?"),
    ("the tenants 'a' and ' a' share a page", (("a", _A), (" a", _A)), (0, 0), "Salts are compared letter by letter. Are they changed first?"),
    ("two tenants whose names begin alike share a page", (("tenant-000001", _A), ("tenant-000002", _A)), (0, 0), "Does all of the salt go into the key?"),
    ("two tenants whose names have the same letters share a page", (("ab", _A), ("ba", _A)), (0, 0), "Does all of the salt go into the key, in its order?"),
    ("a text's first page shares its second one's key", (("x", ((3, 4),)), ("x", _A)), (0, 1), "Does the key depend on the page before?"),
    ("a text of one page shares with a text of two", (("x", ((1, 2, 3, 4),)), ("x", _A)), (0, 1), _GLUED),
)  # fmt: skip


def _texts(draw: random.Random, named: list[str]) -> Iterator[tuple[str, Text]]:
    """Yield tenants and their texts, in which few tokens make many pages; `named` are words that the answer knows."""
    salts = [
        *named,
        "",
        "a",
        "b",
        "A",
        "ab",
        " ",
        "None",
        "0",
        "1",
        "11",
        "(1, 2)",
        "a|b",
        "ä",
        "x" * 40,
        "x" * 41,
    ]
    for _ in range(120):
        pages = draw.randrange(1, 5)
        width = draw.choice((1, 2, 3))
        yield (
            draw.choice(salts),
            tuple(tuple(draw.choice((0, 1, 2, 12, 500)) for _ in range(width)) for _ in range(pages)),
        )


def _words_of(answer: Function) -> list[str]:
    """Return the words that stand in an answer's code: any of them may be a tenant's name."""
    code = getattr(answer, "__code__", None)
    return [text for text in getattr(code, "co_consts", ()) if isinstance(text, str)][:20]


def _require_apart(answer: Function) -> None:
    """Raise CheckFailed unless pages share a key exactly when tenant and text up to their end are the same."""
    known = dict[Hashable, tuple[str, Text]]()
    keys = dict[tuple[str, Text], Hashable]()
    for salt, text in _texts(random.Random(seed()), _words_of(answer)):
        for i, key in enumerate(_keys(answer, text, salt)):
            page = (salt, text[: i + 1])
            if keys.setdefault(page, key) != key:
                raise CheckFailed("the same page of the same tenant has another key the second time", {"salt": salt, "pages": text[: i + 1]})  # fmt: skip
            if known.setdefault(key, page) != page:
                _report_shared(known[key], page, key)


def _require_many(answer: Function) -> None:
    """Raise CheckFailed when two of many tenants share a page, as with a salt cut down to a small number."""
    known = dict[Hashable, str]()
    for i in range(1000):
        salt = f"tenant {i}"
        key = _keys(answer, ((1, 2),), salt)[0]
        if known.setdefault(key, salt) != salt:
            _report_shared((known[key], ((1, 2),)), (salt, ((1, 2),)), key)


def _report_shared(one: tuple[str, Text], other: tuple[str, Text], key: Hashable) -> None:
    """Raise CheckFailed for two pages with one key, and say in what they differ."""
    same_salt, same_text = one[0] == other[0], one[1] == other[1]
    hint = "Two tenants, one text: does all of the salt reach this page?" if same_text else ""
    hint = "One tenant, two texts: do all tokens of all pages go into the key?" if same_salt else hint
    shown = {"salt": one[0], "pages": one[1], "other salt": other[0], "other pages": other[1]}
    raise CheckFailed("two pages share a key", shown, got=describe(key), hint=hint)


def _require_unforged(answer: Function) -> None:
    """Raise CheckFailed when a tenant can choose a name that gives it another tenant's pages."""
    for page, then in (((1, 2), (3, 4)), ((7,), (8,))):
        first, second = _keys(answer, (page, then), "a")
        names = _names(first, second, page, then) | _framed(answer, second, (page, then))
        mine = {(salt, one) for salt in names for one in (page, then)}
        for salt, one in sorted(mine):
            for theirs, pages in ((first, (page,)), (second, (page, then))):
                if (salt, (one,)) != ("a", pages) and _keys(answer, (one,), salt)[0] == theirs:
                    shown = {"salt": "a", "pages": pages, "other salt": salt, "other pages": (one,)}
                    raise CheckFailed(
                        "a tenant with a chosen name shares another tenant's page", shown, got=describe(theirs),
                        hint="A name may be any text. Are the parts of the key kept apart, as in a tuple?",
                    )  # fmt: skip


def _framed(answer: Function, wanted: Hashable, pages: Text) -> set[str]:
    """Return names that make a first page's key the text `wanted`: what stands there for the name of a tenant."""
    found, mark = set[str](), "tenant"
    for one in pages:
        key = _keys(answer, (one,), mark)[0]
        if isinstance(key, str) and isinstance(wanted, str) and key.count(mark) == 1:
            before, _, behind = key.partition(mark)
            if wanted.startswith(before) and wanted.endswith(behind):
                found.add(wanted[len(before) : len(wanted) - len(behind)])
    return found


def _names(first: Hashable, second: Hashable, page: tuple[int, ...], then: tuple[int, ...]) -> set[str]:
    """Return names that a tenant may choose to come by the pages of tenant 'a': what its keys are made of."""
    whole, part = str(second), str(first)
    names = {whole, part, repr(first), repr(second)}
    for tokens in (page, then):
        for shape in (str(tokens), ",".join(map(str, tokens)), "".join(map(str, tokens))):
            names |= {whole.replace(shape, "", 1), part.replace(shape, "", 1)}
            before, _, behind = whole.partition(shape)
            names |= {before, behind, before.removeprefix("None"), behind.removeprefix("None")}
    return {name.strip("None") for name in names} | names | {name.removeprefix("None") for name in names}


def _keys(answer: Function, text: Sequence[tuple[int, ...]], salt: str) -> list[Hashable]:
    """Return the keys of a text's pages, as a server computes them."""
    keys: list[Hashable] = []
    for tokens in text:
        given = {"before": keys[-1] if keys else None, "tokens": tokens, "salt": salt}
        key = attempt(answer, **given)
        if key is None:
            raise CheckFailed("there is no key", given, hint="Is a return missing?")
        try:
            hash(key)
        except TypeError:
            raise CheckFailed(
                "a key must be hashable", given, got=describe(key), hint="Is it a list? A tuple will do."
            ) from None
        keys.append(key)
    return keys
