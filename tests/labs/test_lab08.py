"""Lab 8: every wrong answer is refused with the message meant for it, every right one is accepted."""

import itertools
import math
import random
import statistics

import pytest

from helpers.checks import lab08
from helpers.checks.machinery import limit, rush
from helpers.engine import FirstComeFirstServed, Policy, Priority, RoundRobin
from tests.labs.answers import NO_NUMBER, accepts, endless, refuses, unwritten


@pytest.fixture(autouse=True)
def impatient(monkeypatch, request):
    simulates = request.node.name.startswith("test_5") and "endless" not in request.node.name
    monkeypatch.setattr(limit, "SECONDS", 30.0 if simulates else 2.0)


def mean_wait(seconds, *, own=False, total=False, first=True, before=slice(None), last=False, order=list):
    """The right answer, clock in hand, and with one of the options changed a wrong one."""
    now, waits, jobs = 0.0, [], order(seconds)
    for i, s in enumerate(jobs):
        now = sum(jobs[:i][before])
        waits.append(now + own * s)
    waits = waits if first else waits[1:]
    return waits[-1] if last else sum(waits) / (1 if total else max(1, len(waits)))


def test_1_right(capsys):
    accepts(lab08.check_wait, mean_wait, capsys)
    accepts(
        lab08.check_wait, lambda seconds: sum(itertools.accumulate([0, *seconds[:-1]])) / len(seconds), capsys
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"own": True}, "Is a job's own time a part of its wait?"),
        ({"total": True}, "That is the sum of all waits."),
        ({"first": False}, "The first one waits for 0 seconds."),
        ({"before": slice(-1, None)}, "Does one wait for the job before alone"),
        ({"last": True}, "That is the last one's wait."),
        ({"order": sorted}, "Were they sorted?"),
        ({"order": lambda seconds: seconds[::-1]}, "Is the first of the list served last?"),
    ],
)  # fmt: skip
def test_1_wrong(options, words):
    refuses(lab08.check_wait, lambda seconds: mean_wait(seconds, **options), words)


def test_1_the_mean_length_is_no_wait():
    refuses(lab08.check_wait, lambda seconds: statistics.fmean(seconds), "That is the mean length.")


@pytest.mark.parametrize(("answer", "words"), NO_NUMBER.values(), ids=NO_NUMBER)
def test_1_no_number(answer, words):
    refuses(lab08.check_wait, answer, words)


def by_urgency(waiting, now, ageing):
    """The right answer with the wait in it, and a sort in place of a minimum."""
    waited = {job["name"]: now - job["arrived"] for job in waiting}
    ordered = sorted(
        waiting, key=lambda job: (job["priority"] - waited[job["name"]] / ageing, job["arrived"])
    )
    return ordered[0]["name"]


def chosen(key):
    return lambda waiting, now, ageing: min(waiting, key=lambda job: key(job, now, ageing))["name"]


def test_2_right(capsys):
    accepts(lab08.check_first, by_urgency, capsys)
    accepts(
        lab08.check_first, chosen(lambda j, now, a: (j["arrived"] + a * j["priority"], j["arrived"])), capsys
    )
    accepts(lab08.check_first, chosen(lambda j, now, a: (a * j["priority"] - (now - j["arrived"]), -now + j["arrived"])), capsys)  # fmt: skip


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (lambda j, now, a: (j["priority"], j["arrived"]), "Priority alone. Where does the wait come in?"),
        # everybody ages by the age of the clock, not by their own
        (lambda j, now, a: j["priority"] - now / a, "Do all requests age alike?"),
        (lambda j, now, a: j["arrived"], "By arrival alone."),
        (lambda j, now, a: (j["priority"] + (now - j["arrived"]) / a, j["arrived"]), "Does the wait make the number larger?"),
        (lambda j, now, a: (-j["priority"], j["arrived"]), "Is it taken the other way round?"),
        (lambda j, now, a: -(j["priority"] - (now - j["arrived"]) / a), "Is the largest one taken in place of the smallest?"),
        (lambda j, now, a: (j["arrived"] - a * j["priority"], j["arrived"]), "Does it put one forward?"),
        (lambda j, now, a: (j["priority"] - (now - j["arrived"]) * a, j["arrived"]), "Is the wait divided by it, or multiplied?"),
        (lambda j, now, a: (j["priority"] - int((now - j["arrived"]) / a), j["arrived"]), "Are steps cut to whole ones?"),
        (lambda j, now, a: (max(j["priority"] - (now - j["arrived"]) / a, 0), j["arrived"]), "Does urgency end at 0?"),
        (lambda j, now, a: j["priority"] - (now - j["arrived"]) / a, "Does the place in the list decide?"),
        (lambda j, now, a: (j["priority"] - (now - j["arrived"]) / a, j["priority"]), "Does the priority decide?"),
        (lambda j, now, a: -j["arrived"], "The last to come is served first."),
    ],
)  # fmt: skip
def test_2_wrong(key, words):
    refuses(lab08.check_first, chosen(key), words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (unwritten, "not done yet"),
        (lambda waiting, now, ageing: None, "Is a return missing?"),
        (lambda waiting, now, ageing: waiting[0], "expected the name of a request that waits"),
        (lambda waiting, now, ageing: "nobody", "expected the name of a request that waits"),
        (lambda waiting, now, ageing: 0, "expected the name of a request that waits"),
        (lambda waiting, now, ageing: waiting.pop(0)["name"], "it changed its input"),
        (lambda waiting, now, ageing: waiting[9]["name"], "it raised IndexError"),
        (endless, "Is there a loop that never ends?"),
        ("a", "expected a function"),
    ],
)
def test_2_wrong_in_kind(answer, words):
    refuses(lab08.check_first, answer, words)


def test_2_at_one_seat_the_patient_one_waits_as_long_as_ageing_says():
    stream = [{"name": str(i), "priority": 0, "arrived": float(i), "seconds": 1.0} for i in range(20)]
    patient = {"name": "patient", "priority": 2, "arrived": 0.5, "seconds": 1.0}
    assert rush.one_seat(by_urgency, [*stream, patient], 4.0)["patient"] == 8.5
    assert rush.one_seat(by_urgency, [*stream, patient], 1e9)["patient"] == 19.5


def passes(request, ended, budget, *, mean=statistics.fmean, what="answer", own=True, cap=True, unknown="cap", prompt="up",
           start=-1, known=True, whole=False):  # fmt: skip
    """The right answer, and with one of the options changed a wrong one."""
    lengths = [e[what] for e in ended if not own or e["client"] == request["client"]]
    answer = request["cap"] if unknown == "cap" else unknown
    if lengths and known:
        answer = mean(lengths)
    answer = min(answer, request["cap"]) if cap else answer
    answer = int(answer) if whole else answer
    full, rest = divmod(request["prompt"], budget)
    reading = {"up": full + (rest > 0), "down": full, "tokens": request["prompt"], "none": 0}[prompt]
    return reading + answer + start


def test_3_right(capsys):
    accepts(lab08.check_passes, passes, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt": "tokens"}, "Do they count one by one?"),
        ({"start": 0}, "Is a pass counted twice?"),
        ({"prompt": "none"}, "Does the prompt take passes, too?"),
        ({"prompt": "down"}, "Is the prompt's last pass a whole one"),
        ({"unknown": 0}, "Of this client no request has ended yet."),
        ({"unknown": 1}, "Of this client no request has ended yet."),
        ({"own": False}, "Does each client have a mean of its own?"),
        ({"cap": False}, "Can an answer be longer than the request allows?"),
        ({"known": False}, "What have this client's answers been like?"),
        ({"what": "cap"}, "What have this client's answers been like?"),
        ({"what": "cap", "cap": False}, "That is what ended requests allowed."),
        ({"mean": statistics.median}, "or the median?"),
        ({"mean": lambda lengths: lengths[-1]}, "or the last one?"),
        ({"mean": max}, "or the longest one?"),
        ({"whole": True}, "Was it rounded?"),
    ],
)
def test_3_wrong(options, words):
    refuses(
        lab08.check_passes, lambda request, ended, budget: passes(request, ended, budget, **options), words
    )


def test_3_the_prompt_alone_is_the_articles_length():
    refuses(
        lab08.check_passes, lambda request, ended, budget: request["prompt"], "That is the prompt's length."
    )


@pytest.mark.parametrize(("answer", "words"), NO_NUMBER.values(), ids=NO_NUMBER)
def test_3_no_number(answer, words):
    refuses(lab08.check_passes, answer, words)


def test_3_a_learners_prediction_is_asked_once_and_learns():
    told = []

    def spy(request, ended, budget):
        told.append((request["client"], request["cap"], len(ended)))
        return passes(request, ended, budget)

    report = rush.serve(rush.letters(), lambda: rush.Learning(spy))
    assert len(told) == len(report.outcomes) == len(rush.letters())
    assert told[0][1:] == (512, 0)
    assert told[-1][2] > 0


def begins(
    free, short, long, gap, ageing=None, *, here=lambda at, now: at <= now, endless=True, overtakes=None
):
    """The right answer, with a queue of those who have come, and with one of the options changed a wrong one."""
    rank = (lambda length: length) if ageing is None else (lambda length: ageing * length)
    overtakes = overtakes or (lambda at: ageing is None or at + rank(short) < rank(long))
    if endless and ageing is None and short >= gap and here(gap, free):
        return math.inf
    now = free
    for k in itertools.count(1):
        bounded = not endless or overtakes(10**9) or ageing is None
        if not here(k * gap, now) or not overtakes(k * gap) or (bounded and short >= gap and k > 999):
            return now
        now += short


def test_4_right(capsys):
    accepts(lab08.check_begin, begins, capsys)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda free, **_: free, "Do they go first?"),
        (lambda free, short, gap, **_: free + short * (free // gap), "Do these go first, too?"),
        (lambda **given: begins(**given) + given["long"], "That is when it ends."),
        (lambda **given: begins(**given) - given["free"], "At which moment does it begin?"),
        (lambda **given: begins(**given, here=lambda at, now: at < now), "is there. Does it wait?"),
        (lambda **given: begins(**given, endless=False), "When one is done, the next is there already."),
        (lambda short, gap, **given: math.inf if short >= gap and given["free"] > gap else begins(short=short, gap=gap, **given),
         "Is there always an end?"),
        (lambda ageing, **given: begins(**given), "Is ageing taken into account?"),
        (lambda **given: begins(**given, overtakes=None if given["ageing"] is None else lambda at: at < given["ageing"] * given["long"]),
         "A short one has a length, too"),
        (lambda **given: begins(**given, overtakes=None if given["ageing"] is None else
                                lambda at: at < (given["long"] - given["short"]) / given["ageing"]), "Does it divide?"),
        (lambda **given: begins(**given, overtakes=None if given["ageing"] is None else
                                lambda at: at + given["ageing"] * given["short"] <= given["ageing"] * given["long"]), "Of equals, the one that came first"),
        (lambda **given: math.inf, "Is there always an end?"),
        (lambda short, gap, **given: math.inf if short >= gap else begins(short=short, gap=gap, **given), "Is there always an end?"),
        (lambda short, gap, ageing, **given: math.inf if ageing is None and short >= gap else begins(short=short, gap=gap, ageing=ageing, **given), "Is any short one there"),
        (lambda **given: -1.0 if begins(**given) == math.inf else begins(**given), "it never begins"),
    ],
)  # fmt: skip
def test_4_wrong(answer, words):
    refuses(lab08.check_begin, answer, words)


@pytest.mark.parametrize(
    ("answer", "words"), [pair for name, pair in NO_NUMBER.items() if name != "infinite"]
)
def test_4_no_number(answer, words):
    refuses(lab08.check_begin, answer, words)


def by_deadline():
    """A policy that is right, written as a priority that ages."""
    return Priority(ageing=8.0)


class Slack(Policy):
    """A policy that is right by the seconds that are left at the moment 0, prompts taken into account."""

    def rank(self, state):
        promise = {"chat": 2, "document": 10}[state.request.client]
        return promise + state.arrived - 1e-4 * len(state.request.prompt_ids)


def test_5_right(capsys):
    accepts(lab08.check_both, by_deadline, capsys)
    accepts(lab08.check_both, Slack, capsys)


def ranked(rank):
    return type("Ranked", (Policy,), {"rank": lambda self, state: rank(state)})


class Growing(Policy):
    """The rank is the wait so far, by a clock of its own."""

    now = 0.0

    def rank(self, state):
        Growing.now += 0.5
        return state.arrived - Growing.now


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (FirstComeFirstServed, "Chats are late."),
        (RoundRobin, "Chats are late."),
        (lambda: Priority(ageing=1.0), "Chats are late."),
        (Priority, "Documents are late."),
        (ranked(lambda state: len(state.request.prompt_ids)), "Documents are late."),  # the article's
        (ranked(lambda state: state.request.client == "document"), "Documents are late."),
        (lambda: Priority(ageing=30.0), "Documents are late."),
        (ranked(lambda state: -state.arrived), "Is the smaller rank the more urgent one"),
        (ranked(lambda state: -state.arrived - {"chat": 2, "document": 10}[state.request.client]), "Of two chats, the one that came later"),
        (Growing, "the rank changes while the request waits"),
        (ranked(lambda state: random.random()), "the rank changes while the request waits"),
        (ranked(lambda state: None), "Is a return missing?"),
        (ranked(lambda state: "urgent"), "expected a rank that is a number"),
        (ranked(lambda state: state.deadline), "it raised AttributeError"),
        (ranked(lambda state: unwritten()), "not done yet"),
        (lambda: 8.0, "expected a class made from Policy"),
        (Policy(), "expected a function"),
    ],
)  # fmt: skip
def test_5_wrong(answer, words):
    refuses(lab08.check_both, answer, words)


def test_5_an_endless_rank_is_stopped():
    refuses(lab08.check_both, ranked(lambda state: endless()), "Is there a loop that never ends?")
