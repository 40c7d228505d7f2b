"""The program: its options, its address, its end by a signal, and what stands in its way. And no process is left."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest

from helpers.serving import bind, main, make_service, parse
from tests.serving.service import HTTP, ROOM, alone, model, reference, tokenizer, until
from tools.notebooks import ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny model as a checkpoint."""
    path = tmp_path_factory.mktemp("checkpoint") / "tiny"
    reference().save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


class Program:
    """The server in a process of its own; its first two lines say that it is ready."""

    def __init__(self, folder, *words, module="helpers.serving", **variables):
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "--device", "cpu", *words], cwd=ROOT, text=True,
            env={**os.environ, "COURSE_MODEL": str(folder), "OMP_NUM_THREADS": "1", **variables},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.greeting = [self.process.stdout.readline() for _ in range(2)]
        self.url = self.greeting[0].split(" at ")[1].split("/v1")[0] if self.greeting[0] else None

    def end(self, sig=signal.SIGTERM):
        """Send a signal; return the exit status and what the program said last."""
        self.process.send_signal(sig)
        try:
            out, err = self.process.communicate(timeout=120)
        finally:
            self.process.kill()
        return self.process.returncode, out, err


@pytest.fixture(scope="module")
def program(folder):
    started = Program(folder, "--port", "0", "--grace", "120", "--pages", "64", COURSE_API_KEY="k")
    yield started
    if started.process.poll() is None:
        started.process.kill()
    started.process.wait(60)


KEY = {"Authorization": "Bearer k"}


def test_it_greets_with_its_address_and_a_command_that_works(program):
    assert program.greeting[0].startswith("serving tiny at http://127.0.0.1:")
    command = program.greeting[1].removeprefix("try: ").strip()
    assert "$COURSE_API_KEY" in command
    words = command.split(" -d '")
    body = json.loads(words[1].rstrip("'"))
    url = words[0].split()[1]
    answer = HTTP.post(url, headers=KEY, json={**body, "max_tokens": 3}, timeout=120)
    assert answer.json()["usage"]["completion_tokens"] == 3


@pytest.fixture
def own_signals():
    """Leave this process's signals as they were."""
    before = {sig: signal.getsignal(sig) for sig in (signal.SIGTERM, signal.SIGINT)}
    yield
    for sig, handler in before.items():
        signal.signal(sig, handler)


def test_a_second_one_says_that_the_port_is_taken(program, capsys, own_signals):
    port = program.url.rsplit(":", 1)[1]
    assert main(["--port", port]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert f"serve: cannot listen on 127.0.0.1:{port} (Address already in use)" in said.err
    assert "take another --port" in said.err


def test_a_model_that_is_not_there_is_said_in_one_sentence(tmp_path, monkeypatch, capsys, own_signals):
    monkeypatch.setenv("COURSE_MODEL", str(tmp_path))
    assert main(["--port", "0", "--device", "cpu"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("serve: ")
    assert said.err.count("\n") == 1


def test_a_signal_ends_it_when_what_runs_is_answered(program):
    body = {"prompt": "The rivers", "max_tokens": 200, "temperature": 0, "stream": True, "ignore_eos": True}
    lines = []

    def read():
        with HTTP.stream(
            "POST", program.url + "/v1/completions", headers=KEY, json=body, timeout=120
        ) as answer:
            for line in answer.iter_lines():
                lines.append(line)

    reader = threading.Thread(target=read)
    idle = socket.create_connection(("127.0.0.1", int(program.url.rsplit(":", 1)[1])))
    reader.start()
    until(lambda: lines)  # the answer has begun
    status, out, err = program.end()
    reader.join(120)
    idle.close()
    assert (status, out, err) == (0, "", "")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    text = "".join(event["choices"][0]["text"] for event in events)
    assert text == alone("The rivers", 200, ignore_eos=True).answer
    assert lines[-2] == "data: [DONE]"
    with pytest.raises(httpx.ConnectError):
        HTTP.get(program.url + "/health")


def test_options():
    options = parse([])
    assert (options.host, options.port, options.api_key) == ("127.0.0.1", 8000, None)
    assert parse(["--host", "0.0.0.0", "--api-key", "k"]).api_key == "k"


def test_a_key_has_no_white_space_around(monkeypatch):
    assert parse(["--api-key", " k "]).api_key == "k"
    monkeypatch.setenv("COURSE_API_KEY", "from a file\n")
    assert parse([]).api_key == "from a file"
    assert parse(["--api-key", "k"]).api_key == "k"


@pytest.mark.parametrize(("words", "variable"), [([], "\n"), ([], ""), (["--api-key", " "], "k")])
def test_an_empty_key_is_refused(words, variable, capsys, monkeypatch):
    monkeypatch.setenv("COURSE_API_KEY", variable)
    with pytest.raises(SystemExit) as stopped:
        parse(words)
    assert stopped.value.code == 2
    assert "the API key is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 lets other machines in, so it needs --api-key"),
        (["--port", "70000"], "ports are 0 to 65535, got 70000"),
        (["--pages", "0"], "expected 1 or more, got 0"),
        (["--policy", "lottery"], "invalid choice: 'lottery'"),
        (["--replicas", "2"], "unrecognized arguments: --replicas 2"),
    ],
)
def test_options_that_are_not_understood(words, sentence, capsys, monkeypatch):
    monkeypatch.delenv("COURSE_API_KEY", raising=False)
    with pytest.raises(SystemExit) as stopped:
        parse(words)
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err


def test_an_address_that_is_not_here():
    with pytest.raises(OSError, match=r"cannot listen on 203.0.113.1:80"):
        bind("203.0.113.1", 80)


def test_room_is_what_pages_and_positions_hold():
    for pages, room in ((4, 32), (1000, ROOM)):
        service = make_service(model(), tokenizer(), "m", num_pages=pages, page_size=8)
        service.loop.close()
        assert service.serves.room == room
