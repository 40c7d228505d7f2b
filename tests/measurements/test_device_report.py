"""The report: every operator is tried and a wrong one is told; the file says what ran, and not whose machine it was."""

from __future__ import annotations

import getpass
import json
import socket
from pathlib import Path

import pytest
import torch

from helpers import ops
from helpers.measurements import (
    TOLERANCE,
    Trial,
    cann_version,
    device_report,
    failures,
    operator_trials,
    report,
    run_trial,
    scrub,
    summary,
    time_model,
    trials,
    try_operators,
    write,
)
from tests.tiny import reference, twin

CPU = torch.device("cpu")
OPERATORS = set(ops.__all__) - {"BlockTables"}


@pytest.fixture(scope="module")
def outcomes():
    return try_operators(CPU)


def test_every_operator_is_tried_in_every_type_and_passes(outcomes):
    assert {o.operator for o in outcomes} == OPERATORS
    for dtype in ("float32", "float16", "bfloat16"):
        assert {o.operator for o in outcomes if o.dtype == dtype} == OPERATORS
    assert [o for o in outcomes if not o.passed] == []
    assert all(o.problem is None and o.seconds > 0 and 0 <= o.max_error <= o.tolerance for o in outcomes)
    assert len({(o.operator, o.case, o.dtype) for o in outcomes}) == len(outcomes)


def test_trials_are_the_same_in_every_run():
    first, second = (list(trials(torch.float32)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert (a.operator, a.case) == (b.operator, b.case)
        for x, y in zip(a.arguments, b.arguments, strict=True):
            assert not isinstance(x, torch.Tensor) or torch.equal(x, y)


def test_trials_reach_what_operators_do_differently():
    cases = {(t.operator, t.case) for t in trials(torch.float32)}
    for operator in ("attention", "attention_rows", "attention_pages", "write_kv_pages"):
        own = " ".join(case for name, case in cases if name == operator)
        assert all(word in own for word in ("prompts", "chunks", "decode", "of 64", "of 128"))
    assert any("pages of 16" in case for _, case in cases)
    assert any("all keys" in case for _, case in cases)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", sorted(OPERATORS - {"pack_weight"}))
def test_a_wrong_operator_is_told(name, dtype, monkeypatch):
    """Off by a little more than rounding in one number, in what is returned or what is written."""
    right = getattr(ops, name)

    def wrong(first, *arguments):
        result = right(first, *arguments)
        spoilt = first if result is None else result[-1] if isinstance(result, tuple) else result
        last = (-1,) * spoilt.dim()
        spoilt[last] += 3 * TOLERANCE[dtype] * (1 + spoilt[last].abs())
        return result

    monkeypatch.setattr(ops, name, wrong)
    found = [run_trial(trial, dtype, CPU) for trial in trials(dtype) if trial.operator == name]
    assert found
    assert not any(o.passed for o in found)
    assert all(o.problem is None and o.max_error > o.tolerance for o in found)


def test_pack_weight_is_tried_through_a_product(monkeypatch):
    monkeypatch.setattr(ops, "pack_weight", lambda weight: weight * 1.1)
    (trial,) = (t for t in trials(torch.float32) if t.operator == "pack_weight")
    assert not run_trial(trial, torch.float32, CPU).passed


def _outcome(monkeypatch, answer):
    """The outcome of a trial of swiglu when it answers so."""
    monkeypatch.setattr(ops, "swiglu", answer)
    return run_trial(Trial("swiglu", "case", (torch.ones(2, 4),)), torch.float32, CPU)


def test_no_number_is_a_failure(monkeypatch):
    for value in (float("nan"), float("inf")):
        outcome = _outcome(monkeypatch, lambda x, value=value: torch.tensor([[value, 1], [1, 1]]))
        assert (outcome.passed, outcome.max_error) == (False, None)


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (lambda x: torch.ones(2, 3), "float32 [2, 3]"),
        (lambda x: torch.ones(2, 2).half(), "float16 [2, 2]"),
        (lambda x: (torch.ones(2, 2), torch.ones(1)), "float32 [2, 2], float32 [1]"),
    ],
)
def test_another_shape_type_or_count_is_a_failure(monkeypatch, answer, got):
    outcome = _outcome(monkeypatch, answer)
    assert (outcome.passed, outcome.problem) == (False, f"expected float32 [2, 2], got {got}")


def test_what_is_raised_is_an_outcome(monkeypatch):
    def broken(x):
        raise RuntimeError("aclnn error 561002")

    outcome = _outcome(monkeypatch, broken)
    assert (outcome.passed, outcome.problem) == (False, "RuntimeError: aclnn error 561002")
    assert outcome.max_error is outcome.seconds is None


def test_the_arguments_of_a_trial_are_not_spent():
    (trial,) = (t for t in trials(torch.float32) if t.operator == "add_rms_norm")
    before = [x.clone() for x in trial.arguments if isinstance(x, torch.Tensor)]
    assert run_trial(trial, torch.float32, CPU).passed
    after = [x for x in trial.arguments if isinstance(x, torch.Tensor)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


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
    monkeypatch.setattr(ops, "swiglu", lambda x: torch.zeros(5, 48))
    monkeypatch.setattr(ops, "rms_norm", lambda *_: (_ for _ in ()).throw(OSError("/opt/x/lib.so is broken")))
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
