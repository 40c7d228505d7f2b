"""The choice of a device, its name and its memory, on a machine without an accelerator or with a pretended one."""

import importlib.util

import pytest
import torch

from helpers.machine import (
    choose_device,
    describe,
    is_emulated,
    repeats,
    synchronize,
    total_memory,
    where_it_ran,
)

CPU = torch.device("cpu")


def test_the_environment_chooses(monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    assert choose_device() == CPU
    monkeypatch.setenv("COURSE_DEVICE", "tpu")
    with pytest.raises(
        ValueError, match="unknown device 'tpu'; COURSE_DEVICE may be one of npu, cuda, cpu, emulated-npu"
    ):
        choose_device()
    assert choose_device("cpu") == CPU, "an argument wins over the environment"


@pytest.fixture
def without_npu(monkeypatch):
    """A machine on which torch_npu is not installed."""
    monkeypatch.delenv("COURSE_DEVICE", raising=False)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == "torch_npu" else find(name)
    )


@pytest.mark.parametrize(("has_cuda", "chosen"), [(True, "cuda"), (False, "cpu")])
def test_without_a_wish_the_best_device_here_is_chosen(without_npu, monkeypatch, has_cuda, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert choose_device() == torch.device(chosen)


@pytest.mark.parametrize("name", ["npu:1", "cuda:0"])
def test_an_absent_device_is_refused(without_npu, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=f"'{name}' was asked for"):
        choose_device(name)


def test_an_index_is_kept(without_npu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("cuda:1") == torch.device("cuda", 1)


def test_the_machine_is_described():
    assert total_memory(CPU) > 2**28
    assert describe(CPU).startswith("CPU")
    assert describe(CPU).endswith("GiB")


@pytest.mark.parametrize(("threads", "words"), [(1, "CPU, 1 thread, "), (2, "CPU, 2 threads, ")])
def test_threads_are_counted_in_words(monkeypatch, threads, words):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert describe(CPU).startswith(words)


def test_a_cpu_is_real_and_is_timed_as_often_as_wanted():
    synchronize(CPU)
    assert not is_emulated(CPU)
    assert repeats(CPU, 7) == 7


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_no_result_is_said_to_come_from_an_npu(kind):
    sentence = where_it_ran(torch.device(kind))
    assert sentence.startswith(f"This ran on a {kind.upper()};")
    assert "nothing in this chapter has run on real Ascend hardware yet" in sentence
