"""Lab 12: every wrong answer is refused with the message meant for it, every right one is accepted."""

import itertools
import re
from collections import deque

import pytest

from helpers.checks import lab12
from helpers.checks.machinery import limit
from tests.labs.answers import accepts, endless, refuses, unwritten


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(limit, "SECONDS", 2.0)


class Loop:
    """The right answer with dictionaries and a deque; each method may be replaced by a wrong one."""

    def __init__(self, seats):
        self.seats, self.queue, self.seated = seats, deque(), {}

    def begin(self, name, tokens):
        self.queue.append((name, tokens))

    def cancel(self, name):
        self.seated.pop(name, None)
        self.queue = deque(one for one in self.queue if one[0] != name)

    def admit(self):
        while self.queue and len(self.seated) < self.seats:
            name, tokens = self.queue.popleft()
            self.seated[name] = tokens

    def step(self):
        names = list(self.seated)
        self.seated = {name: left - 1 for name, left in self.seated.items() if left > 1}
        return names

    def act(self, actions):
        for what, name, tokens in actions:
            if what == "begin":
                self.begin(name, tokens)
            else:
                self.cancel(name)

    def turn(self, actions):
        self.act(actions)
        self.admit()
        return self.step()

    @classmethod
    def run(cls, turns, seats):
        loop, found = cls(seats), []
        for actions in itertools.chain(turns, itertools.repeat(())):
            if len(found) >= len(turns) and not loop.queue and not loop.seated:
                return found
            found.append(loop.turn(actions))
            if len(found) > 300:
                return found


class Late(Loop):
    def turn(self, actions):
        self.admit()
        names = self.step()
        self.act(actions)
        return names


class NotWaiting(Loop):
    def cancel(self, name):
        self.seated.pop(name, None)


class NotRunning(Loop):
    def cancel(self, name):
        self.queue = deque(one for one in self.queue if one[0] != name)


class Never(Loop):
    def cancel(self, name):
        pass


class Kept(Loop):
    def turn(self, actions):
        before, seats = len(self.seated), self.seats
        self.act(actions)
        self.seats -= before - len(self.seated)
        self.admit()
        self.seats = seats
        return self.step()


class Static(Loop):
    def admit(self):
        if not self.seated:
            super().admit()


class First(Loop):
    def act(self, actions):
        super().act(actions[:1])


class Long(Loop):
    def step(self):
        names = list(self.seated)
        self.seated = {name: left - 1 for name, left in self.seated.items() if left > 0}
        return names


class Stack(Loop):
    def admit(self):
        while self.queue and len(self.seated) < self.seats:
            name, tokens = self.queue.pop()
            self.seated[name] = tokens


class CancelsFirst(Loop):
    def act(self, actions):
        super().act(sorted(actions, key=lambda action: action[0] == "begin"))


def test_1_right(capsys):
    accepts(lab12.check_loop, Loop.run, capsys)
    accepts(
        lab12.check_loop, lambda turns, seats: tuple(tuple(one) for one in Loop.run(turns, seats)), capsys
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Late.run, "Is it done after the pass?"),
        (NotWaiting.run, "Does cancellation look at the queue?"),
        (NotRunning.run, "Does cancellation look at the seats?"),
        (Never.run, "Does cancellation do anything?"),
        (Kept.run, "Is the seat free for this pass already?"),
        (Static.run, "Does the loop wait until all seats are empty?"),
        (First.run, "Is only the first one done?"),
        (Long.run, "Does it take one pass more?"),
        (Stack.run, "Is the queue a stack?"),
        (CancelsFirst.run, "Do cancellations of the turn come first?"),
        (lambda turns, seats: [one for one in Loop.run(turns, seats) if one], "Are they left out?"),
        (lambda turns, seats: Loop.run(turns, seats)[: len(turns)], "the value is wrong"),
        (lambda turns, seats: None, "Is a return missing?"),
        (lambda turns, seats: [1], "expected a list with a list of names"),
        (lambda turns, seats: turns.clear() or [], "it changed its input"),
        (endless, "Is there a loop that never ends?"),
        (unwritten, "not done yet"),
    ],
)
def test_1_wrong(answer, words):
    refuses(lab12.check_loop, answer, words)


def events(pieces):
    """The right answer, block by block, with regular expressions."""
    text = re.sub(r"\r\n", "\n", b"".join(pieces).decode())
    *blocks, _ = re.split(r"(?<=\n)\n|^\n", text, flags=0)
    found = []
    for block in blocks:
        data = re.findall(r"(?m)^data: ?(.*)$", block)
        if data == ["[DONE]"]:
            break
        found += ["\n".join(data)] if data else []
    return found


def naive(text):
    """Each line an event."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return [line[5:].removeprefix(" ") for line in lines if line.startswith("data:")]


def test_2_right(capsys):
    accepts(lab12.check_events, events, capsys)


def line_by_line(pieces, *, value=lambda text: text.removeprefix(" "), rest=False, done="cut", text=None, crlf=True, data_only=True, empty=False, join="\n".join):  # fmt: skip
    """The right answer line by line; with one of the options changed, a wrong one."""
    text = b"".join(pieces).decode() if text is None else text(pieces)
    found, data = [], []
    *lines, last = (text.replace("\r\n", "\n") if crlf else text).split("\n")
    for line in [*lines, *([last, ""] if rest else [])]:
        if not line and (data or empty):
            found.append(join(data))
            data = []
        elif line.startswith("data:") or (not data_only and ":" in line):
            data.append(value(line.partition(":")[2]))
    if "[DONE]" in found and done != "kept":
        place = found.index("[DONE]")
        found = found[:place] if done == "cut" else found[: place + 1] if done == "with" else [f for f in found if f != "[DONE]"]  # fmt: skip
    return found


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda pieces: [one for piece in pieces for one in line_by_line([piece], rest=True, text=lambda p: p[0].decode(errors="replace"))],
         "Is each piece taken for whole events?"),
        (lambda pieces: line_by_line(pieces, text=lambda p: "".join(one.decode(errors="replace") for one in p)), "Is each piece decoded by itself?"),
        (lambda pieces: line_by_line(pieces, rest=True), "Is one returned that has not ended?"),
        (lambda pieces: line_by_line(pieces, value=str.strip), "Are all spaces?"),
        (lambda pieces: line_by_line(pieces, value=str.lstrip), "Are all spaces?"),
        (lambda pieces: line_by_line(pieces, value=str), "Is it kept?"),
        (lambda pieces: line_by_line(pieces, join="".join), "Are they joined by something else?"),
        (lambda pieces: line_by_line(pieces, join=lambda data: data[-1]), "Is only one kept?"),
        (lambda pieces: line_by_line(pieces, data_only=False), "Are they taken for data?"),
        (lambda pieces: line_by_line(pieces, done="with"), "Is it returned?"),
        (lambda pieces: line_by_line(pieces, done="kept"), "Is it returned?"),
        (lambda pieces: line_by_line(pieces, done="skipped"), "Is something behind it returned?"),
        (lambda pieces: line_by_line(pieces, crlf=False), "Is the empty line found?"),
        (lambda pieces: line_by_line(pieces, empty=True), "Is an empty one returned?"),
        (lambda pieces: list(itertools.takewhile(lambda one: one != "[DONE]", naive(b"".join(pieces).decode().rpartition("\n")[0]))),
         "Is each line an event?"),
        (lambda pieces: None, "Is a return missing?"),
        (lambda pieces: "".join(events(pieces)), "expected a list of texts"),
        (lambda pieces: [one.encode() for one in events(pieces)] or [b""], "expected a list of texts"),
        (lambda pieces: pieces.clear() or [], "it changed its input"),
        (unwritten, "not done yet"),
    ],
)  # fmt: skip
def test_2_wrong(answer, words):
    refuses(lab12.check_events, answer, words)


def places(requests, engines, slack, *, limit=lambda loads: min(loads), fits=lambda load, most: load <= most, add=lambda tokens: tokens,
           moves=True, fresh=None, pick=lambda loads: loads.index(min(loads)), own=0):  # fmt: skip
    """The right answer; with one of the options changed, a wrong one."""
    loads, homes, found = [0] * engines, {}, []
    for number, (talk, tokens) in enumerate(requests):
        stays = talk in homes and fits(loads[homes[talk]] + own * tokens, limit(loads) + slack)
        if stays:
            chosen = homes[talk]
        elif talk not in homes and fresh:
            chosen = fresh(number, engines)
        else:
            chosen = pick(loads)
        if moves or talk not in homes:
            homes[talk] = chosen
        loads[chosen] += add(tokens)
        found.append(chosen)
    return found


def test_3_right(capsys):
    accepts(lab12.check_route, places, capsys)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda **case: places(**case, fits=lambda load, most: True), "Is there a bound at all?"),
        (lambda **case: places(**case, limit=lambda loads: sum(loads) / len(loads)), "Is it above the mean?"),
        (lambda **case: places(**case, limit=lambda loads: 0), "Is the slack compared with the load itself?"),
        (lambda **case: places(**case, fits=lambda load, most: load < most), "Is it refused?"),
        (lambda **case: places(**case, own=1), "Is the request counted already?"),
        (lambda **case: places(**case, fits=lambda load, most: False), "Does a conversation go back to its engine?"),
        (lambda **case: places(**case, moves=False), "Is its home still the first one?"),
        (lambda **case: places(**case, fresh=lambda number, engines: number % engines), "Do these go in turn?"),
        (lambda **case: places(**case, pick=lambda loads: len(loads) - 1 - loads[::-1].index(min(loads))), "Is it the last?"),
        (lambda **case: places(**case, add=lambda tokens: 1), "Are requests counted?"),
        (lambda requests, engines, slack: [i % engines for i in range(len(requests))], "the value is wrong"),
        (lambda **case: places(**case)[:-1], "engines for"),
        (lambda **case: [str(i) for i in places(**case)], "expected a list of whole numbers"),
        (lambda **case: None, "Is a return missing?"),
        (lambda requests, **case: requests.clear() or [], "it changed its input"),
        (unwritten, "not done yet"),
    ],
)  # fmt: skip
def test_3_wrong(answer, words):
    refuses(lab12.check_route, answer, words)


def plan(choices, ttft, tpot, share, *, well=lambda a, b: a and b, count=len, within=lambda a, b: a <= b, refused=0, enough=lambda a, b: a >= b,
         rank=lambda one, met, place: (one["replicas"], -met, place)):  # fmt: skip
    """The right answer; with one of the options changed, a wrong one."""
    found = []
    for place, one in enumerate(choices):
        hits = sum(
            refused if r is None else well(within(r[0], ttft), within(r[1], tpot)) for r in one["requests"]
        )
        met = hits / max(1, count(one["requests"]))
        if enough(met, share):
            found.append((rank(one, met, place), one["replicas"], one["router"]))
    return min(found)[1:] if found else None


def served(requests):
    return sum(one is not None for one in requests)


def test_4_right(capsys):
    accepts(lab12.check_plan, plan, capsys)
    accepts(lab12.check_plan, lambda **case: list(got) if (got := plan(**case)) else None, capsys)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda **case: plan(**case, well=lambda a, b: a or b), "Is one enough?"),
        (lambda **case: plan(**case, well=lambda a, b: a), "Does the time per token count?"),
        (lambda **case: plan(**case, well=lambda a, b: b), "Does the time to the first token count?"),
        (lambda **case: plan(**case, count=served), "Is it left out of the share?"),
        (lambda **case: plan(**case, refused=1), "Is it counted as if it were?"),
        (lambda **case: plan(**case, within=lambda a, b: a < b), "A time on the bound is within it."),
        (lambda **case: plan(**case, enough=lambda a, b: a > b), "Is more asked for?"),
        (lambda **case: plan(**case, enough=lambda a, b: True), "Does the share decide"),
        (lambda **case: plan(**case, rank=lambda one, met, place: (-met, one["replicas"], place)), "Is it the one that serves best?"),
        (lambda **case: plan(**case, rank=lambda one, met, place: place), "Is it the first choice that is good enough?"),
        (lambda **case: plan(**case, rank=lambda one, met, place: (-one["replicas"], -met, place)), "Are these the most?"),
        (lambda **case: plan(**case, rank=lambda one, met, place: (one["replicas"], place)), "Is the first one taken?"),
        (lambda **case: plan(**case, rank=lambda one, met, place: (one["replicas"], met, place)), "Is it the one that serves fewer?"),
        (lambda **case: plan(**case, rank=lambda one, met, place: (one["replicas"], -met, -place)), "Is it the last?"),
        (lambda **case: (plan(**case) or ("x",))[0], "expected a pair, replicas and router, or None"),
        (lambda choices, **case: choices.clear(), "it changed its input"),
        (unwritten, "not done yet"),
    ],
)  # fmt: skip
def test_4_wrong(answer, words):
    refuses(lab12.check_plan, answer, words)


def test_4_percentiles_apart_are_named():
    def apart(choices, ttft, tpot, share):
        good = []
        for place, one in enumerate(choices):
            n = len(one["requests"])
            times = [r for r in one["requests"] if r is not None]
            met = min(sum(a <= ttft for a, _ in times), sum(b <= tpot for _, b in times)) / n
            if met >= share:
                good.append((one["replicas"], -met, place, one["router"]))
        return (min(good)[0], min(good)[3]) if good else None

    refuses(lab12.check_plan, apart, "Are the two counted apart?")


def test_4_means_are_named():
    def means(choices, ttft, tpot, share):
        good = []
        for place, one in enumerate(choices):
            times = [r for r in one["requests"] if r is not None]
            if times and all(
                sum(r[i] for r in times) / len(times) <= most for i, most in ((0, ttft), (1, tpot))
            ):
                good.append((one["replicas"], place, one["router"]))
        return (min(good)[0], min(good)[2]) if good else None

    refuses(lab12.check_plan, means, "A mean hides those that waited.")
