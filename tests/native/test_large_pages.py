"""Tensors that share regions of memory: theirs alone, aligned, and given back."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.native import large_pages

DTYPES = (torch.float32, torch.bfloat16, torch.uint8, torch.int8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 400), st.sampled_from(DTYPES)), max_size=20))
def test_tensors_do_not_overlap_and_begin_with_a_line(shapes):
    tensors = [large_pages.empty((a, b), dtype) for a, b, dtype in shapes]
    for i, tensor in enumerate(tensors):
        assert tensor.data_ptr() % 64 == 0
        assert tensor.is_contiguous()
        tensor.fill_(i)
    assert all(bool((tensor == i).all()) for i, tensor in enumerate(tensors))


def test_one_larger_than_a_region_has_its_own():
    large = large_pages.empty((40 << 20,), torch.uint8).fill_(7)
    assert int(large[-1]) == 7
    assert large.data_ptr() % (1 << 21) == 0


def test_a_copy_is_contiguous_and_its_own():
    source = torch.arange(12.0).reshape(3, 4).T
    copy = large_pages.copied(source)
    assert torch.equal(copy, source)
    assert copy.is_contiguous()
    copy.zero_()
    assert source.sum() == 66
    assert copy.untyped_storage().nbytes() == 48, "a copy of the copy takes no more than that"


def test_threads_get_places_of_their_own():
    with ThreadPoolExecutor(8) as pool:
        tensors = list(pool.map(lambda i: large_pages.empty((1000,), torch.float32).fill_(i), range(400)))
    assert all(bool((tensor == i).all()) for i, tensor in enumerate(tensors))


def test_a_region_is_given_back_with_its_last_tensor(monkeypatch):
    made = []

    class Memory(large_pages.mmap.mmap):
        def __init__(self, *_, **__):
            made.append(weakref.ref(self))

    monkeypatch.setattr(large_pages.mmap, "mmap", Memory)
    first = large_pages.empty((33 << 20,), torch.uint8)
    second = large_pages.empty((33 << 20,), torch.uint8)
    gc.collect()
    assert [memory() is not None for memory in made] == [True, True]
    del first
    gc.collect()
    assert [memory() is not None for memory in made] == [False, True]
    assert len(second) == 33 << 20


@pytest.mark.parametrize("error", [OSError, None])
def test_without_large_pages_memory_is_memory(monkeypatch, error):
    if error is None:
        monkeypatch.delattr(large_pages.mmap, "MADV_HUGEPAGE", raising=False)
    else:
        monkeypatch.setattr(
            large_pages.mmap, "MADV_HUGEPAGE", 12345, raising=False
        )  # no such advice: refused
    assert int(large_pages.empty((33 << 20,), torch.uint8).fill_(3)[-1]) == 3
