"""Exercise 4.4: servers with a secret."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, Words, describe
from helpers.checks.machinery.family import Case, Family, Part
from helpers.checks.machinery.values import equal, is_number, plain

OWN_TRIES = "Your own tries are stored, too. Can what stands behind a try be taken for the next token?"


class Server:
    """A server that shares prefixes in pages of one token. Its seconds are made up: some, and a bit for each token."""

    def __init__(
        self, page_key: Callable[[Any, tuple[int, ...], str], Any], start: float = 0.02, each: float = 1e-3,
        noise: float = 0.1, seed: int = 1,
    ):  # fmt: skip
        """Keep `start` seconds and `each` per computed token; `noise` is a share of `each`."""
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

    def __call__(self, prompt: Sequence[Any]) -> float:
        """Return the seconds to the first token.

        Raises RuntimeError after too many questions, CheckFailed for a token that is no whole number.
        """
        for token in prompt:
            if not isinstance(token, Integral):
                raise CheckFailed("a prompt has a token that is not a whole number", got=describe(token))
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
    """Return the right answer; with one of the options changed, a wrong one."""
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
    yield secret_case([3], [7, 0, 7, 7, 0, 0], [0, 7], 0.02, 1e-3, 6)
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
        raise CheckFailed("expected a list of `length` tokens", shown, got=describe(got))
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
    OWN_TRIES: (
        _recover(behind="inside"), _recover(behind="last"),
    ),
    "An alphabet may have gaps, and any order. Is a token counted up from the first one?": _recover(index=True),
}  # fmt: skip


def _secret_broken(got: list[Any], right: list[int], case: Case) -> str:
    """Return what is wrong."""
    return "that is not the secret" if len(got) == len(right) else "expected a list of `length` tokens"


def secret_family(call: Callable[[Any, Case], Any], facts: Callable[[Any, Any, Case], str]) -> Family:
    """Return the family; `call` asks a learner's answer, `facts` says what its questions tell."""
    part = Part(broken=_secret_broken, mistakes=SECRET_MISTAKES, facts=facts, same=equal)
    return Family(recover_case(recover), secret_cases, (part,), secret_kind, _is_secret, shown=secret_shown,
                  call=call, count=120)  # fmt: skip
