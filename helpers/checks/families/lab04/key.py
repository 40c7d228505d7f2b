"""Exercise 4.5: keys of pages, which are the same exactly when tenant and text up to the page's end are the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from helpers.checks.machinery.core import CheckFailed, describe, require_callable
from helpers.checks.machinery.failure import Words
from helpers.checks.machinery.family import seed
from helpers.checks.machinery.limit import attempt

Function = Callable[..., Any]
Text = tuple[tuple[int, ...], ...]


def require_keys(answer: Any) -> None:
    """Raise CheckFailed unless equal keys mean equal tenants and equal texts from the start."""
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
    _require_salts_apart(answer)
    _require_pages_apart(answer)
    _require_deep(answer)
    _require_apart(answer)
    _require_many(answer)
    _require_unforged(answer)
    _require_wide(answer)


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


_LETTERS = "Salts are compared letter by letter. Are they changed first?"
_WHOLE = "Does all of the salt go into the key?"
_SALTS = (
    ("é", "e\u0301", _LETTERS), ("\ufb01", "fi", _LETTERS), ("ä", "", _LETTERS), ("ä", "ö", _LETTERS), ("a", "a ", _LETTERS),
    ("a", "a\n", _LETTERS), ("ß", "ss", _LETTERS), ("1", "01", _LETTERS), ("1", "1.0", _LETTERS), ("1", "+1", _LETTERS), ("", "0", _LETTERS),
    ("a-b", "a_b", _LETTERS), ("x" * 300 + "1", "x" * 300 + "2", _WHOLE), ("1" + "x" * 300, "2" + "x" * 300, _WHOLE),
)  # fmt: skip
"""Pairs of salts that are alike, and different."""
_LARGE = "A vocabulary may have any number of tokens. Do large numbers go into the key as they are?"
_LONG = "A page may have any number of tokens. Do all of them go into the key?"
_MIXED = "Are a page's tokens one number in the key? Then two pages may come to the same number. Keep the tokens apart."
_PAGES: tuple[tuple[tuple[int, ...], tuple[int, ...], str], ...] = (
    *(((5,), (5 + 2**bits,), _LARGE) for bits in (7, 8, 15, 16, 17, 20, 31, 32)),
    *(((1, 0), (0, base), _MIXED) for base in (31, 256, 1000, 10_000, 32_000, 50_257, 65_536, 10**5, 128_256, 151_936, 10**6, 2**20, 2**32)),
    ((*range(400), 1), (*range(400), 2), _LONG), ((1, *range(400)), (2, *range(400)), _LONG), ((*range(200), 1, *range(200)), (*range(200), 2, *range(200)), _LONG),
    ((0,), (0, 0), _LONG),
)  # fmt: skip
"""Pairs of pages that are alike, and different."""
_DEEP = 9
"""Pages of a long text: a key of nested tuples must also pass between the two processes that grade a lab."""


def _require_salts_apart(answer: Function) -> None:
    """Raise CheckFailed when tenants whose salts are alike share a page."""
    for one, other, hint in _SALTS:
        for page in (0, 2):
            keys = [_keys(answer, _A, salt)[page] for salt in (one, other)]
            if keys[0] == keys[1]:
                shown = {"salt": _spelled(one), "other salt": _spelled(other), "page": page}
                broken = "two tenants with salts that are alike share a page"
                raise CheckFailed(broken, shown, got=describe(keys[0]), hint=hint)


def _require_pages_apart(answer: Function) -> None:
    """Raise CheckFailed when pages that are alike share a key."""
    for one, other, hint in _PAGES:
        a, b = (_keys(answer, [page], "a")[0] for page in (one, other))
        if a == b:
            lengths = f"{len(one)} and {len(other)}"
            shown = {"tokens": one[-4:], "other tokens": other[-4:], "tokens in a page": lengths}
            raise CheckFailed("two pages of one tenant share a key", shown, got=describe(a), hint=hint)


def _require_deep(answer: Function) -> None:
    """Raise CheckFailed when a late page has the same key for two tenants, or behind another first page."""
    same = [(i, i) for i in range(1, _DEEP)]
    for what, salts, firsts in (("tenants", "ab", (0, 0)), ("texts with another first page", "aa", (0, 9))):
        a, b = (_keys(answer, [(first,), *same], salt)[-1] for salt, first in zip(salts, firsts, strict=True))
        if a == b:
            hint = "Does the key carry on everything before, however long the text is?"
            raise CheckFailed(f"two {what} share page {_DEEP}", got=describe(a), hint=hint)


def _spelled(salt: str) -> Words:
    """Return a salt letter by letter, or the ends of a long one."""
    return Words(ascii(salt) if len(salt) < 20 else f"{salt[:4]!r}...{salt[-4:]!r}, {len(salt)} letters")


def _require_wide(answer: Function) -> None:
    """Raise CheckFailed when pages have one short number or word each, and two of very many pages have the same."""
    draw = random.Random(seed())
    pages = (tuple(draw.randrange(50_000) for _ in range(4)) for _ in range(_MANY))
    first, second = (_leaves(_keys(answer, [next(pages)], "a")[0]) for _ in range(2))
    differing = [one for one, other in zip(first, second, strict=False) if one != other]
    if len(differing) != 1 or len(first) != len(second) or not _is_short(differing[0]):
        return
    known = dict[Hashable, tuple[int, ...]]()
    for page in pages:
        key = answer(before=None, tokens=page, salt="a")
        if known.setdefault(key, page) != page:
            raise CheckFailed(
                "two pages of one tenant share a key", {"tokens": page, "other tokens": known[key]}, got=describe(key),
                hint="Short numbers and words come twice among some hundred thousand pages. Is the key cut, or is it a checksum?",
            )  # fmt: skip


_MANY = 300_000
"""Pages among which a number of 32 bits comes twice, but for one case in ten thousand."""


def _leaves(key: Any) -> list[Any]:
    """Return the parts of a key that are no tuples."""
    return [leaf for part in key for leaf in _leaves(part)] if isinstance(key, tuple) else [key]


def _is_short(part: Any) -> bool:
    """Return whether there are few such numbers, or such words."""
    if isinstance(part, str | bytes):
        return len(part) <= 8
    return isinstance(part, int) and part.bit_length() <= 40


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
