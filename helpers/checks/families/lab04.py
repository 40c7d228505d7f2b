"""Lab 4, prefix reuse: prompts and stores, radix trees, streams of prompts, servers with a secret."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, Words, describe
from helpers.checks.machinery.family import Case, Family, Part
from helpers.checks.machinery.values import equal, is_number, plain

Nodes = dict[str, dict[str, Any]]
Texts = Sequence[Sequence[int]]
_LAST = "Of a prompt that is stored from end to end, what must be computed all the same?"
_PAGES = "Only whole pages are kept. Is the answer a multiple of the page size?"


# 1: the longest match


def same(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens of two texts agree from the start."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))))


def _anywhere(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens agree at all."""
    return sum(x == y for x, y in zip(a, b, strict=False))


def _inside(prompt: Sequence[int], text: Sequence[int]) -> int:
    """Return a text's length if the prompt begins with all of it."""
    return len(text) if list(prompt[: len(text)]) == list(text) else 0


def match(
    prompt: Sequence[int], stored: Texts, page_size: int, *, last: bool = True, unit: str = "down",
    which: Callable[[list[int]], int] = max, count: Callable[[Sequence[int], Sequence[int]], int] = same,
    each: bool = True,
) -> int:  # fmt: skip
    """The reference; with one of the options changed a wrong answer."""
    asked = prompt[: max(len(prompt) - 1, 0)] if last else prompt
    found = which([count(asked, text) // (page_size if each else 1) * (page_size if each else 1)
                   for text in stored] or [0])  # fmt: skip
    if unit == "pages":
        return found // page_size
    return found if unit == "none" else (found + (page_size - 1) * (unit == "up")) // page_size * page_size


def _match(**options: Any) -> Callable[..., int]:
    """Return a wrong answer."""
    return lambda prompt, stored, page_size: match(prompt, stored, page_size, **options)


def _whole(prompt: Sequence[int], stored: Texts, page_size: int) -> int:
    """Finds a prompt only if all of it is stored."""
    return len(prompt) if list(prompt) in [list(text) for text in stored] else 0


def _text(draw: random.Random, most: int, tokens: int) -> list[int]:
    """Return a text over few different tokens, so that beginnings and parts agree by chance."""
    return [draw.randrange(tokens) for _ in range(draw.randrange(most + 1))]


def match_cases(draw: random.Random) -> Iterator[Case]:
    """Yield prompts and what is stored: nothing, the prompt itself, longer texts, parts that agree further behind."""
    abc = list(range(1, 13))
    for prompt, stored, page_size in (
        ([], [], 1), ([], [[1, 2]], 1), ([5], [[5]], 1), ([5, 6, 7], [[5, 6, 7]], 1), ([5, 6, 7], [[5, 6]], 1),
        (abc, [], 2), (abc, [[1, 2], []], 4), (abc, [[*abc, 70, 71, 72, 73]], 4), (abc, [[*abc[:7], 50, 51]], 4),
        (abc, [[0, *abc], [*abc[:3], 99]], 1), ([1, 2, 3], [[1, 2, 3]], 16), (list(range(3000)), [list(range(2500))], 128),
        (abc, [[*abc[:5], 60, *abc[6:]], [7, 3, *abc[2:8]]], 1),
    ):  # fmt: skip
        yield {"prompt": prompt, "stored": stored, "page_size": page_size}
    while True:
        tokens, page_size = draw.choice((2, 3, 10, 50_000)), draw.choice((1, 1, 2, 3, 4, 7, 16))
        prompt = _text(draw, 24, tokens)
        stored = [_text(draw, 12, tokens) for _ in range(draw.randrange(draw.choice((4, 4, 4, 40))))]
        for _ in range(draw.randrange(4)):  # what begins as the prompt does
            stored.append(prompt[: draw.randrange(len(prompt) + 1)] + _text(draw, 6, tokens))
        draw.shuffle(stored)
        yield {"prompt": prompt, "stored": stored, "page_size": page_size}


MATCH = Family(
    match,
    match_cases,
    (Part(mistakes={
        _LAST: _match(last=False),
        _PAGES: (_match(each=False, unit="none"), _match(each=False, unit="up"), _match(each=False, unit="none", last=False)),
        "Is that counted in pages? Tokens were asked for.": (_match(unit="pages"), _match(unit="pages", last=False)),
        "Does the longest one count, or the first, the last, or all together?": (*tuple(_match(which=which, last=last) for which in (lambda n: n[0], lambda n: n[-1], sum, min) for last in (True, False)), _match(which=sum, each=False)),
        "Must a stored text be in the prompt as a whole? A common beginning is enough.": (
            _match(count=_inside, last=False, each=False, unit="none"), _match(count=_inside), _whole,
            _match(count=_inside, last=False), _match(count=_inside, each=False, unit="none"),
        ),
        "Keys and values depend on everything before. Does agreement end at the first difference?": (
            _match(count=_anywhere), _match(count=_anywhere, last=False),
            _match(count=lambda a, b: len({*a} & {*b})), _match(count=_anywhere, each=False),
        ),
    }),),
    valid=lambda prompt, stored, page_size: page_size >= 1,
)  # fmt: skip


# 2: evict


def evict(
    nodes: Nodes, wanted: int, *, pick: Callable[..., Any] = min, by: str = "last_use", once: bool = False,
    count: bool = False, pinned: bool = False, inner: bool = False, first: bool = False, beyond: bool = False,
    young: str = "", only: bool = False,
) -> list[str]:  # fmt: skip
    """The reference; with one of the options changed a wrong answer."""
    left, gone, freed = dict(nodes), list[str](), 0
    at_first = set(nodes) - {node["parent"] for node in nodes.values()}
    time = {name: node[by] for name, node in nodes.items()}
    while freed < wanted + beyond or (first and not gone):
        parents = {node["parent"] for node in left.values()}
        may = [n for n in left if (inner or n not in parents) and (pinned or not left[n]["pins"])]
        may = [n for n in may if not once or n in at_first]
        if only:
            may = [n for n in may if left[n]["pages"] <= wanted - freed]
        if not may:
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
    for tree, wanted in (
        ({}, 0), ({}, 4), (leaves, 0), (leaves, 1), (leaves, 3), (leaves, 6), (leaves, 7), (chain, 1), (chain, 5),
        (chain, 100), (in_use, 3), ({"x": node(None, 4, 0)}, 4), ({"x": node(None, 4, 0, 3)}, 1),
    ):  # fmt: skip
        yield {"nodes": tree, "wanted": wanted}
    while True:
        names = draw.sample("abcdefghijklmnop", draw.randrange(1, draw.choice((4, 9, 17))))
        times, nodes = draw.sample(range(100), len(names)), Nodes()
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
        "Only whole nodes go. May a node go that has more pages than are still wanted?": _evict(only=True),
        "Is a node going that some request uses? Look at its pins.": _evict(pinned=True),
    }),),
    kind=evict_kind,
    valid=_is_tree,
    shown=evict_shown,
)  # fmt: skip


# 3: the hit rate


def rate(
    prompts: Texts, page_size: int, *, seen: Callable[[int], range] = range, last: bool = True,
    unit: str = "tokens", total: str = "all",
) -> float:  # fmt: skip
    """The reference; `seen` gives the numbers of the prompts that the i-th is compared with."""
    found = [match(p, [prompts[j] for j in seen(i)], page_size, last=last) for i, p in enumerate(prompts)]
    if unit == "prompts":
        return sum(n > 0 for n in found) / len(prompts) if prompts else 0.0
    if unit == "mean":
        shares = [n / len(p) if p else 0.0 for n, p in zip(found, prompts, strict=True)]
        return sum(shares) / len(shares) if shares else 0.0
    lengths = [len(p) for p in prompts]
    tokens = {"all": sum(lengths), "later": sum(lengths[1:]), "none": 1, "percent": sum(lengths) / 100,
              "found": sum(n for n, hit in zip(lengths, found, strict=True) if hit)}[total]  # fmt: skip
    return sum(found) / tokens if tokens else 0.0


def _rate(**options: Any) -> Callable[..., float]:
    """Return a wrong answer."""
    return lambda prompts, page_size: rate(prompts, page_size, **options)


def _later(prompts: Texts, page_size: int) -> float:
    """Looks into all prompts but the one itself."""
    found = [match(p, [q for j, q in enumerate(prompts) if j != i], page_size) for i, p in enumerate(prompts)]
    tokens = sum(map(len, prompts))
    return sum(found) / tokens if tokens else 0.0


def rate_cases(draw: random.Random) -> Iterator[Case]:
    """Yield streams of prompts: none, empty ones, equal ones, talks that go on, old ones that come back after many others."""
    talk = [draw.randrange(50) for _ in range(40)]
    for prompts, page_size in (
        ([], 4), ([[]], 1), ([[], []], 2), ([[7]], 1), ([talk[:8]] * 3, 4), ([talk[:8], talk[:20], talk[:33]], 1),
        ([[*talk[:12], i, i, i] for i in range(60, 65)], 4), ([talk[:4], [80] * 30, [81] * 5, talk[:7]], 2),
        ([talk[:10], [1, 1, 1], talk[:16]], 1), ([talk, *([i] * 3 for i in range(60, 90)), talk], 4),
        ([[], talk[:5], talk[:6]], 1),
    ):  # fmt: skip
        yield {"prompts": prompts, "page_size": page_size}
    while True:
        tokens, page_size = draw.choice((2, 4, 100)), draw.choice((1, 1, 2, 3, 5))
        prompts = [_text(draw, 9, tokens) for _ in range(draw.randrange(draw.choice((3, 6, 16))))]
        for _ in range(draw.randrange(8) if prompts else 0):  # one that comes back, at the end
            old = draw.choice(prompts)
            prompts.append(old[: draw.randrange(len(old) + 1)] + _text(draw, 4, tokens))
        yield {"prompts": prompts, "page_size": page_size}


_STAY = "Do all prompts before it stay stored, or only the last?"
_FEW = "Do all prompts before it stay stored, or only the last few?"


def _window(count: int) -> Callable[[int], range]:
    """Return which prompts a store of so many knows."""
    return lambda i: range(max(0, i - count), i)


RATE = Family(
    rate,
    rate_cases,
    (Part(mistakes={
        _LAST: _rate(last=False),
        _STAY: _rate(seen=_window(1)),
        _FEW: tuple(_rate(seen=_window(count)) for count in range(2, 12)),
        "Does only the first prompt stay stored?": _rate(seen=lambda i: range(min(i, 1))),
        "Tokens are counted, not prompts. Does a long prompt weigh more than a short one?": (
            _rate(unit="mean"), _rate(unit="prompts"),
        ),
        "Is a prompt stored before it has come?": (_rate(seen=lambda i: range(i + 1)), _later),
        "The first prompt counts, too: it finds nothing. Is it among all tokens?": _rate(total="later"),
        "Are the tokens of prompts that find nothing among all tokens?": _rate(total="found"),
        "A share lies between 0 and 1. Is it a share of all tokens?": (_rate(total="none"), _rate(total="percent")),
    }),),
    valid=lambda prompts, page_size: page_size >= 1,
    count=220,
)  # fmt: skip


# 4: a secret


class Server:
    """A server that shares prefixes in pages of one token. Its seconds are made up: some, and a bit for each token."""

    def __init__(
        self, page_key: Callable[[Any, tuple[int, ...], str], Any], start: float = 0.02, each: float = 1e-3,
        noise: float = 0.1, seed: int = 1,
    ):  # fmt: skip
        """`start` seconds and `each` per computed token; `noise` is a share of `each`."""
        self._key, self._stored = page_key, set[Any]()
        self._noise, self.questions = random.Random(seed), 0
        self._start, self._each, self._share = start, each, noise

    def ask(self, prompt: Sequence[int], salt: str = "") -> float:
        """Store a prompt and return the seconds to its first token."""
        self.questions += 1
        keys: list[Any] = []
        for token in prompt:
            keys.append(self._key(keys[-1] if keys else None, (token,), salt))
        known = next((i for i, key in enumerate(keys) if key not in self._stored), len(keys))
        self._stored.update(keys)
        computed = len(keys) - min(known, max(len(keys) - 1, 0))
        return self._start + self._each * (computed + self._share * self._noise.random())


class Asked:
    """A server with a secret in it, and the questions that it was asked."""

    def __init__(self, case: Case):
        start, each = case["times"]
        self._server = Server(lambda before, tokens, _: (before, tokens), start, each, seed=case["seed"])
        self._server.ask([*case["known"], *case["secret"], -99, -98])
        self.allowed = 3 * len(case["secret"]) * len(case["alphabet"]) + 10
        self.questions = list[list[int]]()

    def __call__(self, prompt: Sequence[int]) -> float:
        """Return the seconds to the first token. Raises RuntimeError after too many questions."""
        self.questions.append(list(prompt))
        if len(self.questions) > self.allowed:
            raise RuntimeError(f"the server has had enough after {self.allowed} questions")
        return self._server.ask(prompt)

    def __repr__(self) -> str:
        return "a function"


def recover(
    ask: Callable[[Sequence[int]], float], known: list[int], alphabet: list[int], length: int, *,
    choose: Callable[..., Any] = min, grow: bool = True, behind: str = "outside", twice: bool = False,
    limit: float = 0.0, index: bool = False,
) -> list[int]:  # fmt: skip
    """The reference; with one of the options changed a wrong answer."""
    filler = {"outside": [max(alphabet) + 1], "none": [], "inside": [alphabet[0]], "last": [alphabet[-1]]}[
        behind
    ]
    secret = list[int]()
    for _ in range(length):
        times = dict[int, float]()
        for token in alphabet:
            prompt = [*known, *(secret if grow else []), token, *filler]
            times[token] = ask(prompt)
            if twice:
                times[token] = ask(prompt)
        secret.append(choose(times, key=times.__getitem__))
        if index:
            secret[-1] = alphabet[0] + list(times).index(secret[-1])
    return secret


def recover_case(solve: Callable[..., Any]) -> Callable[..., Any]:
    """Return an answer that takes a whole case, with a server of its own."""

    def solved(**case: Any) -> Any:
        given = {"known": case["known"], "alphabet": case["alphabet"], "length": len(case["secret"])}
        return solve(Asked(case), **given)

    return solved


def secret_case(
    known: list[int], secret: list[int], alphabet: list[int], start: float, each: float, seed: int
) -> Case:
    """Return one case."""
    return {"known": known, "secret": secret, "alphabet": alphabet, "times": (start, each), "seed": seed}


def secret_cases(draw: random.Random) -> Iterator[Case]:
    """Yield servers, fast and slow, with secrets of few or many tokens out of alphabets in any order."""
    yield secret_case([11, 12, 13], [7, 3, 9, 1], list(range(10)), 0.02, 1e-3, 1)
    yield secret_case([40], [5, 5, 5], [3, 4, 5], 0.02, 1e-3, 2)
    yield secret_case([1, 2], [22, 21, 20, 22, 21], [20, 21, 22, 23], 0.02, 1e-3, 3)
    yield secret_case([1], [9], [9], 0.02, 1e-3, 4)
    yield secret_case([1, 2], [], [3, 4], 0.02, 1e-3, 5)
    while True:
        alphabet = draw.sample(range(draw.choice((12, 400, 50_000))), draw.randrange(1, draw.choice((4, 10))))
        secret = [draw.choice(alphabet) for _ in range(draw.randrange(6))]
        known = [
            draw.choice((draw.choice(alphabet), draw.randrange(60_000))) for _ in range(draw.randrange(1, 5))
        ]
        start, each = draw.choice((0.0, 0.02, 0.5, 3.0)), draw.choice((1e-6, 1e-4, 1e-3, 0.04))
        yield secret_case(known, secret, alphabet, start, each, draw.randrange(10**6))


def secret_kind(got: Any, case: Case) -> tuple[list[Any]]:
    """Return the tokens. Raises CheckFailed when they are not a list of that length."""
    got, shown = plain(got), secret_shown(case)
    if got is None:
        raise CheckFailed("nothing was returned", shown, hint="Is a return missing?")
    if not isinstance(got, list | tuple) or not all(is_number(token) for token in got):
        raise CheckFailed("expected a list of length tokens", shown, got=describe(got))
    return (list(got),)


def secret_shown(case: Case) -> Mapping[str, Any]:
    """Return what the learner is given, and the server's times."""
    start, each = case["times"]
    given = {"known": case["known"], "alphabet": case["alphabet"], "length": len(case["secret"])}
    return {**given, "server": Words(f"{start:g} s and {each:g} s for each computed token")}


def _is_secret(
    known: list[int], secret: list[int], alphabet: list[int], times: tuple[float, float], seed: int
) -> bool:
    """Return whether a secret is one of the alphabet and the server's seconds tell."""
    told = len(times) == 2 and times[0] in (0.0, 0.02, 0.5, 3.0) and times[1] in (1e-6, 1e-4, 1e-3, 0.04)
    return (
        told
        and bool(known)
        and bool(alphabet)
        and {*secret} <= {*alphabet}
        and len({*alphabet}) == len(alphabet)
    )


def _recover(**options: Any) -> Callable[..., Any]:
    """Return a wrong answer."""
    return recover_case(lambda ask, known, alphabet, length: recover(ask, known, alphabet, length, **options))


SECRET_MISTAKES: Mapping[str, Callable[..., Any] | tuple[Callable[..., Any], ...]] = {
    "Whose prompt is known gets its first token sooner, not later. Which time is chosen?": (
        _recover(choose=max), _recover(choose=max, behind="none"),
    ),
    "A prompt's last token is always computed. Is there something behind the token that you try?": _recover(behind="none"),
    "Does what is found already go into the next question?": _recover(grow=False),
    "The second time you ask, your own question is stored. Which time do you trust?": _recover(twice=True),
    "Your own tries are stored, too. Can what stands behind a try be taken for the next token?": (
        _recover(behind="inside"), _recover(behind="last"),
    ),
    "An alphabet may have gaps, and any order. Is a token counted up from the first one?": _recover(index=True),
}  # fmt: skip


def _secret_broken(got: list[Any], right: list[int], case: Case) -> str:
    """Return what is wrong."""
    return "that is not the secret" if len(got) == len(right) else "expected a list of length tokens"


def secret_family(call: Callable[[Any, Case], Any], facts: Callable[[Any, Any, Case], str]) -> Family:
    """Return the family; `call` asks a learner's answer, `facts` says what its questions tell."""
    part = Part(broken=_secret_broken, mistakes=SECRET_MISTAKES, facts=facts, same=equal)
    return Family(recover_case(recover), secret_cases, (part,), secret_kind, _is_secret, shown=secret_shown,
                  call=call, count=120)  # fmt: skip
