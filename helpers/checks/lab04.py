"""Checks of lab 4, prefix reuse."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from helpers.checks.machinery.core import CheckFailed, describe, exercise, require_callable, require_number
from helpers.checks.machinery.limit import attempt

LAB = "04_prefix_reuse"
Function = Callable[..., Any]
Nodes = dict[str, dict[str, Any]]
_LAST = "Of a prompt that is stored from end to end, what must be computed all the same?"
_PAGES = "Only whole pages are kept. Is the answer a multiple of the page size?"


@exercise(LAB, 1, "the longest match")
def check_match(answer: Function) -> None:
    """`answer(prompt, stored, page_size)` -> tokens of the prompt that need not be computed."""
    require_callable(answer)
    abc = list(range(1, 13))
    cases: list[tuple[list[int], list[list[int]], int]] = [
        ([1, 2, 3, 4, 5], [[1, 2, 8], [1, 2, 3, 7, 7, 7], [1, 2, 9]], 1),
        (abc, [[*abc[:7], 50, 51]], 4),
        (abc, [[7, 3, 3, 4, 5, 6, 7, 8], [*abc[:5], 60, 7, 8, 9, 10, 11, 12]], 1),
        (abc, [[0, *abc], [*abc[:3], 99]], 1),
        (abc, [[*abc, 70, 71, 72, 73]], 4),
        ([5, 6, 7], [[5, 6, 7]], 1),
        ([5, 6, 7], [[5, 6]], 1),
        ([5], [[5]], 1),
        (abc, [], 2),
        (abc, [[1, 2], []], 4),
    ]
    for prompt, stored, page_size in cases:
        given = {"prompt": prompt, "stored": stored, "page_size": page_size}
        got, right = attempt(answer, **given), _match(prompt, stored, page_size)
        require_number(got, right, given, mistakes=_match_mistakes(prompt, stored, page_size, right))


def _same(a: Sequence[int], b: Sequence[int]) -> int:
    """Tokens in which two texts agree from the start."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _match(prompt: Sequence[int], stored: Sequence[Sequence[int]], page_size: int) -> int:
    """The reference."""
    return max((_same(prompt[:-1], text) // page_size * page_size for text in stored), default=0)


def _match_mistakes(
    prompt: Sequence[int], stored: Sequence[Sequence[int]], size: int, right: int
) -> dict[str, tuple[float, ...]]:
    """Wrong values by the question that explains them, where they are wrong at all."""
    agree = [_same(prompt, text) for text in stored]
    best = max(agree, default=0)
    whole = max((len(text) for text in stored if list(prompt[: len(text)]) == list(text)), default=0)
    explained: dict[str, tuple[float, ...]] = {
        _LAST: (best // size * size,),
        _PAGES: (best, min(best, len(prompt) - 1), -(-best // size) * size),
        "Is that counted in pages? Tokens were asked for.": (right // size,),
        "Does the longest one count, or the first, the last, or all together?": (
            *(n // size * size for n in (agree[:1] + agree[-1:])), sum(agree),
        ),
        "Must a stored text be in the prompt as a whole? A common beginning is enough.": (
            whole, len(prompt) if list(prompt) in [list(t) for t in stored] else 0,
        ),
        "Keys and values depend on everything before. Does agreement end at the first difference?": tuple(
            count
            for text in stored
            for count in _common(prompt, text)
        ),
    }  # fmt: skip
    return {words: tuple(v for v in values if v != right) for words, values in explained.items()}


def _common(prompt: Sequence[int], text: Sequence[int]) -> list[int]:
    """Tokens that two texts have in common wherever they stand, of all the prompt and of what is looked up."""
    pairs = [x == y for x, y in zip(prompt, text, strict=False)]
    return [sum(pairs), sum(pairs[: len(prompt) - 1]), len({*prompt} & {*text})]


@exercise(LAB, 2, "evict without sawing off branches")
def check_evict(answer: Function) -> None:
    """`answer(nodes, wanted)` -> names of the nodes that go, in order."""
    require_callable(answer)
    for nodes, wanted in _trees():
        given: dict[str, Any] = {"nodes": nodes, "wanted": wanted}
        got, right = attempt(answer, **given), _evict(nodes, wanted)
        if got is None:
            raise CheckFailed("nothing was returned", given, hint="Is a return missing?")
        if not isinstance(got, list | tuple) or any(
            not isinstance(name, str) or name not in nodes for name in got
        ):
            raise CheckFailed("expected a list of names, in order", given, got=describe(got))
        if list(got) != right:
            hint = _evict_hint(nodes, wanted, list(got))
            raise CheckFailed(
                "these are not the nodes to go", _drawn(given), expected=right, got=got, hint=hint
            )


def _drawn(given: dict[str, Any]) -> dict[str, Any]:
    """The tree in one short line for each node."""
    nodes = {
        name: f"{n['parent'] or 'root'}>{name} pages {n['pages']} last_use {n['last_use']} pins {n['pins']}"
        for name, n in given["nodes"].items()
    }
    return {**nodes, "wanted": given["wanted"]}


def _node(parent: str | None, pages: int, last_use: int, pins: int = 0) -> dict[str, Any]:
    """One entry of a tree."""
    return {"parent": parent, "pages": pages, "last_use": last_use, "pins": pins}


def _trees() -> list[tuple[Nodes, int]]:
    """Trees by hand, each for one mistake, and random ones."""
    leaves = {"a": _node(None, 3, 5), "b": _node(None, 1, 2), "c": _node(None, 2, 9)}
    chain = {"a": _node(None, 2, 1), "b": _node("a", 2, 2), "c": _node("b", 2, 3)}
    in_use = {"a": _node(None, 1, 1), "b": _node("a", 1, 2, pins=1), "c": _node("a", 1, 3)}
    trees: list[tuple[Nodes, int]] = [
        (leaves, 1), (leaves, 3), (leaves, 6), (leaves, 0), (chain, 1), (chain, 5), (in_use, 3), ({}, 4),
    ]  # fmt: skip
    rng = random.Random(4)
    for _ in range(20):
        names, nodes = "abcdefgh"[: rng.randrange(3, 9)], {}
        times = rng.sample(range(100), len(names))
        for i, name in enumerate(names):
            parent = rng.choice([None, *names[:i]])
            nodes[name] = _node(parent, rng.randrange(1, 5), times[i], rng.choice([0, 0, 0, 1, 2]))
        trees.append((nodes, rng.randrange(0, 12)))
    return trees


def _evict(
    nodes: Nodes, wanted: int, *, pick: Callable[..., Any] = min, by: str = "last_use",
    once: bool = False, count: bool = False, pinned: bool = False, inner: bool = False, first: bool = False,
) -> list[str]:  # fmt: skip
    """The reference, and with one of the options changed a mistake."""
    left, gone, freed = dict(nodes), list[str](), 0
    at_first = set(nodes) - {node["parent"] for node in nodes.values()}
    while freed < wanted or (first and not gone):
        parents = {node["parent"] for node in left.values()}
        may = [n for n in left if (inner or n not in parents) and (pinned or not left[n]["pins"])]
        may = [n for n in may if not once or n in at_first]
        if not may:
            break
        chosen = pick(may, key=lambda name: left[name][by])
        freed += 1 if count else left[chosen]["pages"]
        del left[chosen]
        gone.append(chosen)
    return gone


def _evict_hint(nodes: Nodes, wanted: int, got: list[str]) -> str:
    """The likely mistake, as a question."""
    variants: dict[str, dict[str, Any]] = {
        "Is the most recently used one going first?": {"pick": max},
        "When its last child has gone, is a node a leaf?": {"once": True},
        "Are pages counted, or nodes?": {"count": True},
        "Does something go although nothing was wanted?": {"first": True},
        "The oldest goes first, whatever its size. What is compared?": {"by": "pages"},
    }
    if len(set(got)) != len(got):
        return "Can a node go twice?"
    if any(nodes[name]["pins"] for name in got):
        return "Is a node going that somebody uses? Look at its pins."
    for i, name in enumerate(got):
        if any(node["parent"] == name for other, node in nodes.items() if other not in got[:i]):
            return f"{name!r} goes while something is below it. Who could still find that?"
    for words, options in variants.items():
        if got == _evict(nodes, wanted, **options):
            return words
    freed = sum(nodes[name]["pages"] for name in got)
    enough = [sum(nodes[name]["pages"] for name in got[:i]) >= wanted for i in range(len(got))]
    if any(enough):
        return "Is there enough before the last one goes?"
    if freed < wanted and len(got) < len(_evict(nodes, wanted)):
        return "More is wanted, and more may go. Why does it stop?"
    return "Who may go now? Of those, who was used longest ago? Then look again."


@exercise(LAB, 3, "predict a hit rate")
def check_rate(answer: Function) -> None:
    """`answer(prompts, page_size)` -> the reused share of all prompt tokens."""
    require_callable(answer)
    rng = random.Random(7)
    talk = [rng.randrange(50) for _ in range(40)]
    cases: list[tuple[list[list[int]], int]] = [
        ([talk[:8], talk[:20], talk[:33]], 1),
        ([[*talk[:12], i, i, i] for i in range(60, 65)], 4),
        ([talk[:10], [1, 1, 1], talk[:16]], 1),
        ([talk[:8], talk[:8], talk[:8]], 4),
        ([talk[:4], [80] * 30, [81] * 5, talk[:7]], 2),
        ([], 4),
    ]
    for prompts, page_size in cases:
        given = {"prompts": prompts, "page_size": page_size}
        got, right = attempt(answer, **given), _rate(prompts, page_size)
        wrong = _rate_mistakes(prompts, page_size) if prompts else {}
        mistakes = {words: tuple(v for v in values if v != right) for words, values in wrong.items()}
        require_number(got, right, given, mistakes=mistakes)


def _rate(prompts: Sequence[Sequence[int]], page_size: int) -> float:
    """The reference."""
    reused = sum(_match(p, prompts[:i], page_size) for i, p in enumerate(prompts))
    return reused / sum(map(len, prompts)) if prompts else 0.0


def _rate_mistakes(prompts: Sequence[Sequence[int]], size: int) -> dict[str, tuple[float, ...]]:
    """Wrong rates by the question that explains them."""
    total = sum(map(len, prompts))
    found = [_match(p, prompts[:i], size) for i, p in enumerate(prompts)]
    last = [_match(p, prompts[max(i - 1, 0) : i], size) for i, p in enumerate(prompts)]
    itself = [_match(p, prompts[: i + 1], size) for i, p in enumerate(prompts)]
    later = [_match(p, [q for j, q in enumerate(prompts) if j != i], size) for i, p in enumerate(prompts)]
    whole = [max((_same(p, q) // size * size for q in prompts[:i]), default=0) for i, p in enumerate(prompts)]
    return {
        _LAST: (sum(whole) / total,),
        "Do all prompts before it stay stored, or only the last?": (sum(last) / total,),
        "Tokens are counted, not prompts. Does a long prompt weigh more than a short one?": (
            sum(n / len(p) for n, p in zip(found, prompts, strict=True)) / len(prompts),
            sum(n > 0 for n in found) / len(prompts),
        ),
        "Is a prompt stored before it has come?": (sum(itself) / total, sum(later) / total),
        "The first prompt counts, too: it finds nothing. Is it among all tokens?": (
            sum(found) / max(1, total - len(prompts[0])),
        ),
        "A share lies between 0 and 1. Is it a share of all tokens?": (sum(found), 100 * sum(found) / total),
    }


class Server:
    """A server that shares prefixes in pages of one token. Its seconds are made up: a bit, and one millisecond a token."""

    def __init__(self, page_key: Callable[[Any, tuple[int, ...], str], Hashable]):
        self._key, self._stored = page_key, set[Hashable]()
        self._noise, self.questions = random.Random(1), 0

    def ask(self, prompt: Sequence[int], salt: str = "") -> float:
        """Stores a prompt and gives the seconds to its first token."""
        self.questions += 1
        keys: list[Hashable] = []
        for token in prompt:
            keys.append(self._key(keys[-1] if keys else None, (token,), salt))
        known = next((i for i, key in enumerate(keys) if key not in self._stored), len(keys))
        self._stored.update(keys)
        computed = len(keys) - min(known, max(len(keys) - 1, 0))
        return 0.02 + 1e-3 * computed + 1e-4 * self._noise.random()


@exercise(LAB, 4, "read what you cannot see")
def check_secret(answer: Function) -> None:
    """`answer(ask, known, alphabet, length)` -> the secret tokens."""
    require_callable(answer)
    for known, secret, alphabet in (
        ([11, 12, 13], [7, 3, 9, 1], list(range(10))),
        ([40], [5, 5, 5], [3, 4, 5]),
        ([1, 2], [22, 21, 20, 22, 21], [20, 21, 22, 23]),
    ):
        given: dict[str, Any] = {"known": known, "alphabet": alphabet, "length": len(secret)}
        allowed = 3 * len(secret) * len(alphabet) + 10
        got, questions = _recovered(answer, given, secret, allowed)
        if got is None:
            raise CheckFailed("nothing was returned", given, hint="Is a return missing?")
        if not isinstance(got, list | tuple) or len(got) != len(secret):
            raise CheckFailed("expected a list of length tokens", given, got=describe(got))
        if list(got) != secret:
            hint = _secret_hint(list(got), given, secret, questions)
            raise CheckFailed("that is not the secret", given, got=got, hint=hint)


def _recovered(
    answer: Function, given: dict[str, Any], secret: list[int], allowed: int
) -> tuple[Any, list[list[int]]]:
    """What the learner found, and what was asked for it."""
    server, questions = Server(lambda before, tokens, _: (before, tokens)), list[list[int]]()
    server.ask([*given["known"], *secret, 99, 98])

    def ask(prompt: Sequence[int]) -> float:
        questions.append(list(prompt))
        if len(questions) > allowed:
            raise RuntimeError(f"the server has had enough after {allowed} questions")
        return server.ask(prompt)

    try:
        return attempt(lambda **rest: answer(ask=ask, **rest), **given), questions
    except CheckFailed as failure:
        if "had enough" not in str(failure):
            raise
        raise CheckFailed(
            f"more than {allowed} questions were asked", given,
            hint="Are whole secrets tried? Each token can be found by itself, from the left.",
        ) from None  # fmt: skip


def _secret_hint(got: list[int], given: dict[str, Any], secret: list[int], questions: list[list[int]]) -> str:
    """The likely mistake, as a question."""
    if not questions:
        return "The server was not asked anything. What does its time tell?"
    place = len(given["known"])
    behind = {token for question in questions[: len(given["alphabet"])] for token in question[place + 1 :]}
    if not behind:
        return "A prompt's last token is always computed. Is there something behind the token that you try?"
    if len({len(question) for question in questions}) == 1:
        return "Does what is found already go into the next question?"
    if any(questions.count(question) > 1 for question in questions):
        return "The second time you ask, your own question is stored. Which time do you trust?"
    if got[0] != secret[0]:
        return "Whose prompt is known gets its first token sooner, not later. Which time is chosen?"
    if behind & set(given["alphabet"]):
        return "Your own tries are stored, too. Can what stands behind a try be taken for the next token?"
    return "Look at the times of one place: do they differ for one token only?"


@exercise(LAB, 5, "salt it")
def check_key(answer: Function) -> None:
    """`answer(before, tokens, salt)` -> something hashable that stands for a page."""
    require_callable(answer)
    text: list[tuple[int, ...]] = [(1, 2), (3, 4), (5, 6)]
    if _keys(answer, text[:1], "Petra") != _keys(answer, text[:1], "Petra"):
        hint = "Is there chance in the key, or an object's identity?"
        raise CheckFailed("the same page of the same tenant has another key the second time", hint=hint)
    mine = _keys(answer, text, "Petra")
    others = {
        "texts with another first page share their second":
            (_keys(answer, [(9, 9), *text[1:]], "Petra")[1], mine[1], "Does the key depend on the page before?"),
        "texts that differ only far before share a page":
            (_keys(answer, [(9, 9), *text[1:]], "Petra")[2], mine[2], "Does the key carry on everything before?"),
        "pages with other tokens share a key":
            (_keys(answer, [(1, 3)], "Petra")[0], mine[0], "Do all tokens go into the key?"),
        "pages with the same tokens in another order share a key":
            (_keys(answer, [(2, 1)], "Petra")[0], mine[0], "Does the order of the tokens count?"),
        "two tenants share their first page":
            (_keys(answer, text, "Anna")[0], mine[0], "Is the salt in the first page's key?"),
        "two tenants share a later page":
            (_keys(answer, text, "Anna")[2], mine[2], "Does the salt reach the pages behind the first?"),
        "two tenants share a page: salt '1' with token 12, salt '11' with token 2":
            (_keys(answer, [(12,)], "1")[0], _keys(answer, [(2,)], "11")[0], "Are texts glued together? Keep parts apart."),
        "two pages share a key: tokens (1, 23) and (12, 3)":
            (_keys(answer, [(1, 23)], "x")[0], _keys(answer, [(12, 3)], "x")[0], "Are texts glued together? Keep parts apart."),
        "a tenant without a name shares with the tenant 'None'":
            (_keys(answer, text, "None")[0], _keys(answer, text, "")[0], "Are all salts kept apart, the empty one too?"),
    }  # fmt: skip
    for broken, (one, other, hint) in others.items():
        if one == other:
            raise CheckFailed(broken, got=describe(one), hint=hint)
    if len(set(mine)) != len(mine):
        raise CheckFailed("pages of one text share a key", got=describe(mine))


def _keys(answer: Function, text: Sequence[tuple[int, ...]], salt: str) -> list[Hashable]:
    """The keys of a text's pages, as a server computes them."""
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
