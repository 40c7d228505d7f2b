"""Shared by the tests of traffic: runs, outcomes and reports written by hand, and a tokenizer."""

from helpers.engine import Part, Request, RequestState, Step
from helpers.traffic import Outcome, Report


def words(text):
    """A tokenizer that counts words."""
    return {"input_ids": text.split()}


class Log:
    """A run written by hand."""

    def __init__(self, steps, states):
        self.steps, self.finished = steps, {state.name: state for state in states}


def state(name, arrived, times, prompt=4, computed=7):
    made = RequestState(Request(name, [1] * prompt, 9), arrived, tokens_computed=computed)
    made.token_times, made.token_ids = list(times), [1] * len(times)
    return made


def step(begin, end, *parts, preempted=()):
    return Step(begin, end, tuple(Part(*part) for part in parts), preempted, 0)


def run():
    """Time starts at 10. B is preempted once and computed again; A's last pass is padding."""
    return Log(
        [
            step(10.5, 11, ("a", 0, 2, False)),
            step(11, 12, ("a", 2, 2, False), ("b", 0, 4, False)),
            step(12, 13, ("a", 4, 1, True), ("b", 4, 1, True)),
            step(13, 14, ("a", 5, 1, True), preempted=("b",)),
            step(14, 16, ("b", 0, 6, False)),
            step(16, 17, ("b", 6, 1, True), ("a", 6, 1, True)),
        ],
        [state("b", 10.25, [12, 13, 16, 17], computed=12), state("a", 10.0, [12, 13, 14])],
    )


def outcome(name, arrived=0.0, times=(1.0, 2.0), reason="length", **rest):
    first, last = (times[0], times[-1]) if times else (None, None)
    options = dict(client=None, priority=0, prompt_tokens=10, admitted=arrived + 0.5) | rest
    return Outcome(
        name=name, new_tokens=len(times), arrived=arrived, ended=last if times else arrived + 3,
        reason=reason, first_token=first, last_token=last, **options,
    )  # fmt: skip


def report(*outcomes):
    return Report.summed(outcomes, busy=4.0, passes=5, computed=60, row_seconds=12.0)
