"""The report: the file says what ran, and not on whose machine; failures are named."""

from __future__ import annotations

import getpass
import json
import socket
from pathlib import Path

import pytest
import torch

from helpers.measurements import (
    cann_version,
    device_report,
    failures,
    operator_trials,
    report,
    scrub,
    summary,
    time_model,
    write,
)
from helpers.ops import by_device
from tests.tiny import reference, twin

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("E: /usr/local/Ascend/cann/lib64/libopapi.so: no", "E: <path>: no"),
        ('File "/home/jo/x y.py", line 3', 'File "<path> y.py", line 3'),
        (r"C:\Users\jo\x.py failed", "<path> failed"),
        ("~/course/a.py", "<path>"),
        ("shape [2/3] or 5 / 7, and/or", "shape [2/3] or 5 / 7, and/or"),
    ],
)
def test_paths_are_taken_out(text, clean):
    assert scrub(text) == clean


def test_names_are_taken_out(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "deep-thought.example.org")
    monkeypatch.setattr(getpass, "getuser", lambda: "zaphod")
    text = "zaphod on deep-thought.example.org, deep-thought: not zaphodic"
    assert scrub(text) == "<name> on <name>, <name>: not zaphodic"
    assert len(scrub("x" * 1000)) == 400


def test_a_user_without_a_name(monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert scrub("fine") == "fine"


@pytest.mark.parametrize(
    ("file", "text", "version"),
    [
        ("aarch64-linux/ascend_toolkit_install.info", "package_name=Ascend-cann\nversion=9.1.0\n", "9.1.0"),
        ("ascend_cann_install.info", "version=8.5.0.alpha001\n", "8.5.0.alpha001"),
        ("opp/version.info", "Version=8.0.RC3\nversion_dir=8.0.RC3\n", "8.0.RC3"),
        ("version.info", "runtime=1\n", None),
        ("nothing.txt", "version=1\n", None),
    ],
)
def test_the_version_of_cann(file, text, version, tmp_path, monkeypatch):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path))
    assert cann_version() == version
    monkeypatch.delenv("ASCEND_HOME_PATH")
    assert cann_version() is None


@pytest.fixture
def tiny(monkeypatch):
    """A model of a few thousand parameters in the place of the course's."""

    class Tokenizer:
        eos_token_id = None

        def __call__(self, text):
            return {"input_ids": [ord(c) % 97 for c in text]}

        def decode(self, ids, **_):
            return str(ids)

    models = reference("llama")
    monkeypatch.setattr(
        "helpers.model.checkpoint.load", lambda dtype, device: _Loaded(twin(models, dtype), Tokenizer())
    )


class _Loaded(tuple):
    def __new__(cls, model, tokenizer):
        self = super().__new__(cls, (model, tokenizer))
        self.model = model
        return self


def test_the_model_is_timed(tiny):
    timed = time_model(torch.float32, CPU, new_tokens=4)
    assert (timed["dtype"], timed["prompt_tokens"], timed["new_tokens"]) == ("float32", 128, 4)
    assert timed["prefill_seconds"] > 0
    assert timed["decode_seconds_per_token"] > 0
    assert timed["cpu_tokens"] is True
    assert timed["min_margin"] > 0
    assert "cpu_tokens" not in time_model(torch.bfloat16, CPU, new_tokens=2)


def test_a_model_that_fails_is_told(monkeypatch):
    def load(dtype, device):
        raise RuntimeError("out of memory in /home/jo/model")

    monkeypatch.setattr("helpers.model.checkpoint.load", load)
    timed = time_model(torch.float32, CPU)
    assert timed == {"dtype": "float32", "problem": "RuntimeError: out of memory in <path>"}


def test_the_file(tiny, tmp_path, monkeypatch, capsys, outcomes):
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    monkeypatch.setattr(device_report, "try_operators", lambda device: outcomes)
    path = tmp_path / "report.json"
    assert device_report.main([str(path)]) == 0
    text, found = path.read_text(), json.loads(path.read_text())
    assert list(found) == [
        "format", "date", "note", "versions", "cann", "driver", "platform", "device", "operators", "model",
    ]  # fmt: skip
    assert (found["format"], found["note"]) == (1, None)
    assert found["versions"]["torch"] == torch.__version__
    assert found["device"]["type"] == "cpu"
    assert found["device"]["emulated"] is False
    assert found["device"]["memory_bytes"] > 2**28
    assert len(found["operators"]) == len(outcomes)
    assert [m["dtype"] for m in found["model"]] == ["float32", "bfloat16"]
    assert str(Path.home()) not in text
    assert str(tmp_path) not in text
    assert socket.gethostname() not in text
    printed = capsys.readouterr().out
    assert f"all {len(outcomes)} trials passed" in printed
    assert "rms_norm" in printed
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_file_only_operators_are_tried(monkeypatch, capsys, outcomes):
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    monkeypatch.setattr(device_report, "try_operators", lambda device: outcomes)
    monkeypatch.setattr(device_report, "time_model", None)
    assert device_report.main([]) == 0
    assert "written" not in capsys.readouterr().out


def test_a_failure_is_named_and_fails_the_command(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    monkeypatch.setattr(operator_trials, "TOLERANCE", {torch.float32: 1e-4})
    monkeypatch.setattr(by_device, "swiglu", lambda x: torch.zeros(5, 48))
    monkeypatch.setattr(
        by_device, "rms_norm", lambda *_: (_ for _ in ()).throw(OSError("/opt/x/lib.so is broken"))
    )
    path = tmp_path / "report.json"
    assert device_report.main([str(path)]) == 1
    printed = capsys.readouterr().out
    assert "FAILED: rms_norm () in float32: OSError: <path> is broken" in printed
    assert "FAILED: swiglu () in float32: error " in printed
    assert ", allowed 1.0e-04" in printed
    entries = {(o["operator"], o["case"]): o for o in json.loads(path.read_text())["operators"]}
    assert entries["rms_norm", ""]["problem"] == "OSError: <path> is broken"
    assert entries["swiglu", ""]["passed"] is False


def test_other_tokens_than_the_cpus_are_a_failure():
    found = {"operators": [], "model": [{"dtype": "float32", "cpu_tokens": False}, {"dtype": "bfloat16"}]}
    assert failures(found) == ["FAILED: the model in float32 gives other tokens than on the CPU"]
    found = {"operators": [], "model": [{"dtype": "bfloat16", "problem": "MemoryError: x"}]}
    assert failures(found) == ["FAILED: the model in bfloat16: MemoryError: x"]


def test_no_number_is_named_so():
    outcome = dict(
        operator="x", case="c", dtype="float16", passed=False, problem=None, max_error=None, tolerance=1
    )
    found = {"operators": [outcome], "model": []}
    assert failures(found) == ["FAILED: x (c) in float16: a result is no number"]
    assert list(summary([outcome]).rows) == [("x", 1, 1, "", "none", "")]


@pytest.mark.parametrize("device", ["npu", "abacus"])
def test_a_device_that_is_not_there(device, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COURSE_DEVICE", device)
    assert device_report.main([str(tmp_path / "r.json")]) == 1
    assert capsys.readouterr().out.startswith("report: ")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "nowhere" / "r.json", {})


def test_the_report_without_the_model(monkeypatch, outcomes):
    monkeypatch.setattr(device_report, "try_operators", lambda device: outcomes[:1])
    assert report(CPU, with_model=False)["model"] == []
