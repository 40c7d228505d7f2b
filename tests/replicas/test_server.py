"""The program with several engines: its options, one address for all engines, its end by a signal."""

import sys

import pytest

from helpers.replicas import main, replica_command_line
from helpers.serving import parse
from tests.serving.service import HTTP, alone
from tests.serving.test_server import Program, folder, own_signals

__all__ = ["folder", "own_signals"]


def test_threads_of_one_process_behind_one_address(folder):
    words = ("--port", "0", "--replicas", "2", "--in-process", "--router", "round-robin", "--pages", "64")
    program = Program(folder, *words, module="helpers.replicas")
    try:
        assert program.greeting[0].startswith("serving tiny at http://127.0.0.1:")
        body = {"prompt": ["One", "Two"], "max_tokens": 6, "temperature": 0}
        answer = HTTP.post(program.url + "/v1/completions", json=body).json()
        assert [choice["text"] for choice in answer["choices"]] == [
            alone(p, 6).answer for p in ("One", "Two")
        ]
        page = HTTP.get(program.url + "/metrics").text
        counted = [line for line in page.splitlines() if line.startswith("vllm:generation_tokens_total{")]
        assert [line.rsplit(" ", 1)[1] for line in counted] == ["6.0", "6.0"]
    finally:
        ended = program.end()
    assert ended == (0, "", "")


def test_without_ray_one_sentence_says_what_makes_it(capsys, own_signals, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in [name for name in sys.modules if name.startswith("helpers.replicas.on_ray")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["--port", "0", "--replicas", "2"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "course.py serve --replicas 2 makes an environment with Ray; --in-process needs none" in said.err


def test_options():
    options = parse(["--replicas", "3", "--resources", '{"NPU": 1}'], replica_command_line())
    assert (options.replicas, options.router, options.resources) == (3, "bounded-prefix", {"NPU": 1})
    assert (options.in_process, options.ray_address, options.port) == (False, None, 8000)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--replicas", "0"], "expected 1 or more, got 0"),
        (["--router", "lottery"], "invalid choice: 'lottery'"),
        (["--resources", "NPU"], "expected names and numbers"),
        (["--resources", '{"NPU": -1}'], "expected names and numbers"),
        (["--resources", "[1]"], "expected names and numbers"),
    ],
)
def test_options_that_are_not_understood(words, sentence, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(words, replica_command_line())
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err
