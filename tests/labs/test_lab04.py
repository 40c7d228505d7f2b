"""Lab 4: every wrong answer is refused with the message meant for it, every right one is accepted."""

import itertools
import random
import statistics

import pytest

from helpers.caches import RadixTree
from helpers.checks import lab04
from helpers.checks.machinery import limit
from tests.labs.answers import NO_NUMBER, accepts, refuses, unwritten


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(limit, "SECONDS", 1.0)


def agree(a, b):
    """Tokens that agree from the start."""
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))))


def match(prompt, stored, page_size, *, last=True, unit="down", which=max, count=agree):
    """The right answer, and with one of the options changed a wrong one."""
    looked_up = prompt[:-1] if last else prompt
    same = which([count(looked_up, text) for text in stored] or [0])
    if unit == "pages":
        return same // page_size
    return same if unit == "none" else (same + (page_size - 1) * (unit == "up")) // page_size * page_size


def by_the_tree(prompt, stored, page_size):
    """Written differently: with the library's tree."""
    tree, pages = RadixTree(page_size), itertools.count()
    for text in stored:
        tree.insert(text, [next(pages) for _ in range(len(text) // page_size)])
    return tree.match(prompt[:-1]).num_tokens


def test_1_right(capsys):
    accepts(lab04.check_match, match, capsys)
    accepts(lab04.check_match, by_the_tree, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"last": False}, "what must be computed all the same?"),
        ({"unit": "none"}, "a multiple of the page size?"),
        ({"unit": "up"}, "a multiple of the page size?"),
        ({"unit": "pages"}, "Is that counted in pages?"),
        ({"which": lambda found: found[0]}, "Does the longest one count"),
        ({"which": lambda found: found[-1]}, "Does the longest one count"),
        ({"which": sum}, "Does the longest one count"),
        (  # the article's
            {"count": lambda prompt, text: len(text) if prompt[: len(text)] == text else 0},
            "A common beginning is enough.",
        ),
        (
            {"count": lambda prompt, text: sum(a == b for a, b in zip(prompt, text, strict=False))},
            "Does agreement end at the first difference?",
        ),
    ],
)
def test_1_wrong(options, words):
    def named(prompt, stored, page_size):
        return match(prompt, stored, page_size, **options)

    refuses(lab04.check_match, named, words)


def test_1_the_whole_prompt_only():
    def article(prompt, stored, page_size):
        return len(prompt) if prompt in stored else 0

    refuses(lab04.check_match, article, "A common beginning is enough.")


@pytest.mark.parametrize(("answer", "words"), NO_NUMBER.values(), ids=NO_NUMBER)
@pytest.mark.parametrize("check", [lab04.check_match, lab04.check_rate], ids=["match", "rate"])
def test_no_number(check, answer, words):
    refuses(check, answer, words)


def evict(nodes, wanted, *, pick=min, once=False, count=False, first=False, by="last_use", pinned=False,
          inner=False, young=False, only=False):  # fmt: skip
    """The right answer, round by round, and with one of the options changed a wrong one."""
    left, gone, freed, time = dict(nodes), [], 0, {n: node[by] for n, node in nodes.items()}
    begun = {n for n in nodes if n not in {node["parent"] for node in nodes.values()}}
    while freed < wanted or (first and not gone):
        may = []
        for name in left:
            leaf = inner or name not in {node["parent"] for node in left.values()}
            small = not only or left[name]["pages"] <= wanted - freed
            if leaf and small and (pinned or not left[name]["pins"]) and (not once or name in begun):
                may.append(name)
        if not may:
            return gone
        gone.append(pick(may, key=lambda name: time[name]))
        node = left.pop(gone[-1])
        freed += 1 if count else node["pages"]
        if young:
            time[node["parent"]] = time[gone[-1]]
    return gone


def by_recursion(nodes, wanted):
    """Written differently: one node at a time, oldest first, by recursion."""
    if wanted <= 0:
        return []
    for name in sorted(nodes, key=lambda n: nodes[n]["last_use"]):
        if not nodes[name]["pins"] and all(node["parent"] != name for node in nodes.values()):
            rest = {n: node for n, node in nodes.items() if n != name}
            return [name, *by_recursion(rest, wanted - nodes[name]["pages"])]
    return []


def test_2_right(capsys):
    accepts(lab04.check_evict, by_recursion, capsys)
    accepts(lab04.check_evict, lambda nodes, wanted: tuple(by_recursion(nodes, wanted)), capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pick": max}, "Is the most recently used one going first?"),
        ({"once": True}, "When its last child has gone, is a node a leaf?"),
        ({"count": True}, "Are pages counted, or nodes?"),
        ({"first": True}, "although nothing was wanted?"),
        ({"by": "pages"}, "What is compared?"),
        ({"pinned": True}, "Look at its pins."),
        ({"inner": True}, "while something is below it."),
        ({"young": True}, "Has it that of a child that has gone?"),
        ({"only": True}, "than are still wanted?"),
    ],
)
def test_2_wrong(options, words):
    refuses(lab04.check_evict, lambda nodes, wanted: evict(nodes, wanted, **options), words)


def impatient_evict(nodes, wanted):
    return by_recursion(nodes, wanted)[:1]


def generous(nodes, wanted):
    return by_recursion(nodes, wanted + 3 if wanted else 0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (unwritten, "not done yet"),
        (lambda **_: None, "Is a return missing?"),
        (lambda **_: 3, "expected a list of names"),
        (lambda **_: ["nobody"], "expected a list of names"),
        (lambda nodes, wanted: set(by_recursion(nodes, wanted)), "expected a list of names"),
        (lambda nodes, wanted: [nodes[n] for n in by_recursion(nodes, wanted)], "expected a list of names"),
        (lambda nodes, wanted: by_recursion(nodes, wanted) * 2, "Can a node go twice?"),
        (
            lambda nodes, wanted: [nodes.pop(n) and n for n in by_recursion(nodes, wanted)],
            "it changed its input",
        ),
        (impatient_evict, "Why does it stop?"),
        (generous, "Is there enough before the last one goes?"),
        ("evict", "expected a function"),
    ],
)
def test_2_wrong_in_kind(answer, words):
    refuses(lab04.check_evict, answer, words)


def test_2_a_loop_that_waits_for_more_than_there_is():
    def endless(nodes, wanted):
        while sum(nodes[n]["pages"] for n in by_recursion(nodes, wanted)) < wanted:
            pass
        return by_recursion(nodes, wanted)

    refuses(lab04.check_evict, endless, "Is there a loop that never ends?")


def rate(prompts, page_size, found=None, total=None, one=match):
    """The right answer; `found` tells where a prompt looks, by its number."""
    found = found or (lambda i: prompts[:i])
    reused = [one(p, found(i), page_size) for i, p in enumerate(prompts)]
    tokens = sum(map(len, prompts)) if total is None else total(prompts)
    return sum(reused) / tokens if tokens else 0


def test_3_right(capsys):
    accepts(lab04.check_rate, rate, capsys)

    def replayed(prompts, page_size):
        from helpers.caches import PrefixStore

        return PrefixStore(10_000, page_size).replay(prompts).hit_rate

    accepts(lab04.check_rate, replayed, capsys)


def mean_of_rates(prompts, page_size):
    return statistics.mean([match(p, prompts[:i], page_size) / len(p) for i, p in enumerate(prompts)] or [0])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            lambda prompts, page_size: rate(prompts, page_size, lambda i: prompts[max(i - 1, 0) : i]),
            "Do all prompts before it stay stored",
        ),
        (mean_of_rates, "Does a long prompt weigh more"),
        (
            lambda prompts, page_size: rate(prompts, page_size, lambda i: prompts[: i + 1]),
            "before it has come?",
        ),
        (
            lambda prompts, page_size: rate(prompts, page_size, lambda i: prompts[:i] + prompts[i + 1 :]),
            "before it has come?",
        ),
        (
            lambda prompts, page_size: rate(prompts, page_size, one=lambda *given: match(*given, last=False)),
            "what must be computed all the same?",
        ),
        (
            lambda prompts, page_size: rate(prompts, page_size, total=lambda p: sum(map(len, p[1:]))),
            "The first prompt counts, too",
        ),
        (
            lambda prompts, page_size: rate(prompts, page_size, total=lambda p: 1 if p else 0),
            "Is it a share of all tokens?",
        ),
        (lambda prompts, page_size: sum(map(len, prompts)) and 1 / 0, "it raised ZeroDivisionError"),
    ],
)
def test_3_wrong(answer, words):
    refuses(lab04.check_rate, answer, words)


def recover(ask, known, alphabet, length, *, choose=min, grow=True, behind=(-1,), twice=False):
    """The right answer, and with one of the options changed a wrong one."""
    secret = []
    for _ in range(length):
        times = {}
        for token in alphabet:
            prompt = [*known, *(secret if grow else []), token, *behind]
            times[token] = ask(prompt)
            if twice:
                times[token] = ask(prompt)
        secret.append(choose(times, key=times.get))
    return secret


def carefully(ask, known, alphabet, length):
    """Written differently: stops at the first guess that is as fast as a prompt that is known but for its end."""
    text = list(known)
    for _ in range(length):
        times = []
        shuffled = random.Random(3).sample(list(alphabet), len(alphabet))
        for token in shuffled:
            times.append(ask((*text, token, -77, -78, -79)))
        text.append(shuffled[times.index(min(times))])
    return tuple(text[len(known) :])


def test_4_right(capsys):
    accepts(lab04.check_secret, recover, capsys)
    accepts(lab04.check_secret, carefully, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"choose": max}, "gets its first token sooner, not later."),
        ({"grow": False}, "Does what is found already go into the next question?"),
        ({"behind": ()}, "Is there something behind the token that you try?"),
        ({"behind": (3,)}, "be taken for the next token?"),
        ({"twice": True}, "Which time do you trust?"),
    ],
)
def test_4_wrong(options, words):
    def named(ask, known, alphabet, length):
        return recover(ask, known, alphabet, length, **options)

    refuses(lab04.check_secret, named, words)


def brute_force(ask, known, alphabet, length):
    tries = {guess: ask([*known, *guess, 0]) for guess in itertools.product(alphabet, repeat=length)}
    return min(tries, key=tries.get)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (unwritten, "not done yet"),
        (brute_force, "Each token can be found by itself"),
        (lambda ask, known, alphabet, length: [7, 3, 9, 0][:length], "The server was not asked anything."),
        (lambda **_: None, "Is a return missing?"),
        (lambda **_: 7391, "expected a list of `length` tokens"),
        (
            lambda ask, known, alphabet, length: recover(ask, known, alphabet, length)[1:],
            "expected a list of `length`",
        ),
        (lambda ask, **_: ask(7), "it raised TypeError"),
        (7, "expected a function"),
    ],
)
def test_4_wrong_in_kind(answer, words):
    refuses(lab04.check_secret, answer, words)


def test_4_no_end():
    def endless(**_):
        while True:
            pass

    refuses(lab04.check_secret, endless, "Is there a loop that never ends?")


def nested(before, tokens, salt):
    return (before, tokens, salt)


def test_5_right(capsys):
    accepts(lab04.check_key, nested, capsys)
    accepts(lab04.check_key, lambda before, tokens, salt: hash((before, tokens, salt)), capsys)
    accepts(lab04.check_key, lambda before, tokens, salt: repr((before, tokens, salt)), capsys)
    accepts(lab04.check_key, lambda before, tokens, salt: (*(before or (salt,)), tokens), capsys)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda before, tokens, salt: (before, tokens), "Is the salt in the first page's key?"),
        (
            lambda before, tokens, salt: (before, tokens, before and salt),
            "Is the salt in the first page's key?",
        ),
        (lambda before, tokens, salt: (salt, tokens), "Does the key depend on the page before?"),
        (lambda before, tokens, salt: (before and before[1], tokens, salt), "carry on everything before?"),
        (
            lambda before, tokens, salt: (
                (before, tokens, salt) if before is None else ((before[0], before[1]), tokens)
            ),
            "Does the salt reach the pages behind the first?",
        ),
        (lambda before, tokens, salt: (before, tokens[0], salt), "Do all tokens go into the key?"),
        (lambda before, tokens, salt: (before, sum(tokens), salt), "Does the order of the tokens count?"),
        (
            lambda before, tokens, salt: (before, frozenset(tokens), salt),
            "Does the order of the tokens count?",
        ),
        (
            lambda before, tokens, salt: f"{before or salt}{''.join(map(str, tokens))}",
            "Are texts glued together?",
        ),
        (lambda before, tokens, salt: repr((before or salt, tokens)), "A name may be any text."),
        (lambda before, tokens, salt: (before or str(salt or None), tokens), "the empty one too?"),
        (lambda before, tokens, salt: (before, tokens, salt, random.random()), "Is there chance in the key"),
        (lambda before, tokens, salt: object(), "Is there chance in the key"),
        (lambda before, tokens, salt: [before, tokens, salt], "A tuple will do."),
        (lambda before, tokens, salt: None, "Is a return missing?"),
        (unwritten, "not done yet"),
        (lambda before, tokens: 0, "it raised TypeError"),
        ("key", "expected a function"),
    ],
)
def test_5_wrong(answer, words):
    refuses(lab04.check_key, answer, words)


def test_the_server_tells_what_it_computes():
    server = lab04.Server(nested)
    cold, warm = (server.ask([1, 2, 3, 4]) for _ in range(2))
    assert cold - warm == pytest.approx(3e-3, abs=2e-4)
    assert server.ask([1, 2, 3, 4], salt="other") == pytest.approx(cold, abs=2e-4)
    assert server.questions == 3
