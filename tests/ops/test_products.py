"""Layouts are chosen by measuring once; what was asked for overrides."""

import json

import pytest
import torch

from helpers.ops import packed_from, products

SHAPES = {(32, 64): 3, (16, 32): 1}
NEVER = products.NEVER


@pytest.fixture(autouse=True)
def a_cache_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.delenv("COURSE_KERNELS", raising=False)
    return tmp_path


@pytest.mark.parametrize(("wish", "rows"), [("plain", NEVER), ("packed", 1), ("native", 1)])
def test_a_wish_is_not_measured(monkeypatch, wish, rows):
    monkeypatch.setenv("COURSE_KERNELS", wish)
    monkeypatch.setattr(products, "fastest", None)
    assert packed_from(SHAPES, torch.float32) == rows


def test_another_word_is_refused(monkeypatch):
    monkeypatch.setenv("COURSE_KERNELS", "quick")
    with pytest.raises(
        ValueError, match="COURSE_KERNELS is one of plain, packed, native, or unset; got 'quick'"
    ):
        packed_from(SHAPES, torch.float32)


@pytest.mark.parametrize(
    ("ours", "others", "rows"),
    [
        ([1, 1, 1], [2, 2, 2], 1),
        ([3, 1, 1], [2, 2, 2], 4),
        ([1, 3, 1], [2, 2, 2], 16),
        ([1, 1, 3], [2, 2, 2], NEVER),
        ([2.05, 2, 2], [2, 2, 2], 1),
    ],
)
def test_the_rows_from_which_on_it_is_never_slower(ours, others, rows):
    assert products.crossing((1, 4, 16), ours, others) == rows


def test_it_is_measured_once_for_a_type_and_its_shapes(monkeypatch, a_cache_folder_of_its_own):
    asked = []

    def fastest(ways, runs=0):
        asked.append(len(ways))
        assert all(all(isinstance(y, torch.Tensor) for y in way()) for way in ways)
        return [1.0, 2.0]  # plain is faster

    monkeypatch.setattr(products, "fastest", fastest)
    for _ in range(2):
        assert packed_from(SHAPES, torch.float32) == NEVER
    assert asked == [2] * len(SHAPES) * len(products.ROWS)
    packed_from(SHAPES, torch.bfloat16)
    assert len(asked) == 2 * len(SHAPES) * len(products.ROWS)
    kept = [json.loads(path.read_text()) for path in (a_cache_folder_of_its_own / "measured").iterdir()]
    assert len(kept) == 2
    assert all(packed > plain for times in kept for plain, packed in zip(*times, strict=True))


def test_a_damaged_record_is_measured_again(a_cache_folder_of_its_own):
    for _ in range(2):
        assert products.remembered("x", 1, lambda: [[1.0]]) == [[1.0]]
        for path in (a_cache_folder_of_its_own / "measured").iterdir():
            path.write_text("[[")


def test_a_folder_that_cannot_be_written_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "file"))
    assert products.remembered("x", 1, lambda: [[2.0]]) == [[2.0]]


def test_the_fastest_run_counts_and_a_slow_way_runs_once(monkeypatch):
    now = iter([0, 1, 1, 11, 20, 20.5])  # 1 s, 10 s, then 0.5 s
    monkeypatch.setattr(products.time, "perf_counter", lambda: next(now))
    assert products.fastest([lambda: None, lambda: None], 2) == [0.5, 10]
