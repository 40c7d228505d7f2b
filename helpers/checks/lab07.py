"""Checks of lab 7, flash attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from helpers.checks.machinery import flash_answers as answers
from helpers.checks.machinery.core import CheckFailed, describe, exercise, require_callable, require_number
from helpers.checks.machinery.flash_answers import NONE
from helpers.checks.machinery.limit import attempt

LAB = "07_flash_attention"
Function = Callable[..., Any]


@exercise(LAB, 1, "count the bytes")
def check_traffic(answer: Function) -> None:
    """`answer(q_len, kv_len, head_dim, query_block, element_bytes)` -> bytes between device memory and the core."""
    require_callable(answer)
    for numbers in (
        (100, 300, 64, 32, 2),
        (4096, 4096, 128, 256, 2),
        (1, 777, 64, 128, 4),
        (513, 600, 80, 128, 2),
    ):
        given: dict[str, Any] = dict(zip(("q_len", "kv_len", "head_dim", "query_block", "element_bytes"), numbers, strict=True))  # fmt: skip
        got, right = attempt(answer, **given), answers.traffic(**given)
        require_number(got, right, given, mistakes=_traffic_mistakes(**given))


def _traffic_mistakes(**given: Any) -> dict[str, tuple[float, ...]]:
    """Wrong values by the question that explains them."""
    right, q_len, element_bytes = answers.traffic(**given), given["q_len"], given["element_bytes"]
    scores = q_len * given["kv_len"] * element_bytes
    mistakes: dict[str, tuple[float, ...]] = {
        "Can a core keep all keys and values? How often does it read them, if each block of queries needs them anew?": (
            answers.traffic(**given | {"query_block": q_len}),
            answers.traffic(**given | {"query_block": q_len}, per_query=0),
        ),
        "The last block of queries may be shorter. Does it read no keys?": (
            answers.traffic(**given, rounded=math.floor),
            answers.traffic(**given, rounded=float),  # type: ignore[arg-type]
        ),
        "Queries are read, and a result is written. Are both counted?": (
            answers.traffic(**given, per_query=1), answers.traffic(**given, per_query=0),
        ),
        "Keys are read, and values too. Are both counted?": (answers.traffic(**given, per_key=1),),
        "Are these bytes, or elements?": (right / element_bytes, right * element_bytes),
        "Do scores ever leave the core?": tuple(right + n * scores for n in (1, 2, 3, 4)),
        "A block of queries shares one reading of the keys. Does each query read for itself?": (
            answers.traffic(**given | {"query_block": 1}),
        ),
    }  # fmt: skip
    return {words: tuple(v for v in values if v != right) for words, values in mistakes.items()}


@exercise(LAB, 2, "mend the update")
def check_update(answer: Function) -> None:
    """`answer(maximum, total, weighted, scores, values)` -> the three after one more block of keys."""
    require_callable(answer)
    for state, blocks in _streams():
        for scores, values in blocks:
            given: dict[str, Any] = dict(zip(("maximum", "total", "weighted", "scores", "values"), (*state, scores, values), strict=True))  # fmt: skip
            state = _require_state(attempt(answer, **given), given)


def _streams() -> Iterator[tuple[answers.State, list[tuple[Tensor, Tensor]]]]:
    """Empty states, and blocks of keys to come: rising and falling scores, large ones, half precision, hidden keys."""
    draw = torch.Generator().manual_seed(7)

    def block(keys: int, dtype: torch.dtype = torch.float32, size: float = 1.0, more: float = 0.0) -> Any:
        scores = torch.randn(3, keys, generator=draw) * size + more
        return scores.to(dtype), torch.randn(keys, 2, generator=draw).to(dtype)

    empty = torch.full((3, 1), NONE), torch.zeros(3, 1), torch.zeros(3, 2)
    yield empty, [block(4), block(3, more=2.0), block(5, more=-3.0)]
    yield empty, [block(4, size=100.0), block(4, size=100.0, more=300.0)]
    yield empty, [block(6, torch.float16), block(6, torch.float16, more=1.5)]
    hidden, half, last = block(4), block(4), block(4)
    hidden[0][:] = NONE
    half[0][:2] = NONE  # two of three queries still see nothing
    yield empty, [hidden, half, last, hidden]


_UPDATES: dict[str, tuple[dict[str, Any], ...]] = {
    "What is minus infinity minus minus infinity? A query may have seen no key yet.": ({"guarded": False},),
    "What was added before was taken with the old maximum. Is the old sum brought to the new one?": ({"rescale": (False, True)},),
    "What was added before was taken with the old maximum. Are the old weighted values brought to the new one?": ({"rescale": (True, False)},),
    "What was added before was taken with the old maximum. Is anything of it brought to the new one?": ({"rescale": (False, False)},),
    "Is that the largest score of this block alone, or of all keys so far?": ({"largest": "block"},),
    "Does the maximum take the new block in?": ({"largest": "old"}, {"largest": "old", "guarded": False}),
    "When the maximum grows, old weights shrink. Is the difference taken the right way round?": ({"sign": -1}, {"sign": -1, "guarded": False}),
    "Is the maximum subtracted before exp?": ({"shifted": False},),
    "Is something computed in half precision? Weights and sums are fp32 here, whatever the scores are.": ({"half": "weights"}, {"half": "product"}),
    "Is the division made in every step? One at the very end is enough.": ({"divide": True},),
}  # fmt: skip


def _require_state(got: Any, given: Mapping[str, Any]) -> answers.State:
    """The reference's state; CheckFailed unless `got` is that."""
    right = answers.update(**given)
    _require_tensors("maximum, total, weighted", got, right, given)
    if not _same(got, right):
        wrong = next(i for i in range(3) if not _same(got[i : i + 1], right[i : i + 1]))
        hint = _named(got, _UPDATES, lambda options: answers.update(**given, **options), right)
        name = ("maximum", "total", "weighted")[wrong]
        raise CheckFailed(f"{name}: wrong values", _shown(given), expected=_numbers(right[wrong]), got=_numbers(got[wrong]), hint=hint)  # fmt: skip
    return right


def _require_tensors(names: str, got: Any, right: Sequence[Tensor], given: Mapping[str, Any]) -> None:
    """CheckFailed unless `got` are tensors, as many as `right`, of the same shapes and types."""
    count = {2: "two", 3: "three"}[len(right)]
    if (
        not isinstance(got, tuple | list)
        or len(got) != len(right)
        or not all(isinstance(t, Tensor) for t in got)
    ):
        hint = "Is a return missing?" if got is None else ""
        raise CheckFailed(f"expected {count} tensors: {names}", _shown(given), got=describe(got), hint=hint)
    for name, tensor, want in zip(names.split(", "), got, right, strict=True):
        if tensor.shape != want.shape:
            hint = "Do single numbers per query keep their own dimension?"
            raise CheckFailed(f"{name}: wrong in shape", _shown(given), expected=describe(want), got=describe(tensor), hint=hint)  # fmt: skip
        if tensor.dtype != want.dtype:
            hint = "Statistics are fp32, whatever the scores are. Where does another type come in?"
            raise CheckFailed(f"{name}: wrong in type", _shown(given), expected=describe(want), got=describe(tensor), hint=hint)  # fmt: skip


def _same(got: Sequence[Tensor], want: Sequence[Tensor], rel: float = 2e-5) -> bool:
    """Whether the tensors hold the same numbers, to two hundred times fp32's precision; infinite and NaN must be so in both."""
    return all(
        torch.allclose(a.double(), b.double(), rtol=rel, atol=1e-6, equal_nan=True)
        for a, b in zip(got, want, strict=True)
    )


def _named(
    got: Sequence[Tensor], mistakes: Mapping[str, tuple[dict[str, Any], ...]],
    compute: Callable[[dict[str, Any]], Sequence[Tensor]], right: Sequence[Tensor], only: int | None = None,
) -> str:  # fmt: skip
    """The question for the first mistake that gives these numbers, and others than the right ones; of all tensors, or of one."""
    part = slice(None) if only is None else slice(only, only + 1)
    for words, several in mistakes.items():
        for options in several:
            wrong = compute(options)[part]
            if _same(got[part], wrong) and not _same(wrong, right[part]):
                return words
    nan = any(t.isnan().any() for t in got[part])
    return "There is a NaN. Where does it come from?" if nan else ""


def _shown(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for a message: small tensors by their numbers, as far as there is room."""
    return {name: _Text(f"[{_numbers(t)}]") if isinstance(t, Tensor) else t for name, t in given.items()}


def _numbers(tensor: Tensor) -> str:
    """The numbers of a small tensor, in one line."""
    digits = [f"{x:.4g}" for x in tensor.flatten().tolist()]
    return f"{', '.join(digits[:8])}{', ...' if len(digits) > 8 else ''}"


@exercise(LAB, 3, "skip tiles")
def check_tiles(answer: Function) -> None:
    """`answer(q_len, kv_len, query_block, key_block)` -> the tiles `(q_start, k_start, masked)` that must be computed."""
    require_callable(answer)
    for numbers in (
        (9, 11, 4, 3), (9, 9, 4, 2), (5, 14, 2, 4), (12, 12, 4, 3), (8, 8, 4, 4), (6, 10, 4, 4), (1, 9, 4, 4), (7, 3, 2, 2), (10, 10, 16, 16),
    ):  # fmt: skip
        given: dict[str, Any] = dict(
            zip(("q_len", "kv_len", "query_block", "key_block"), numbers, strict=True)
        )
        got, right = attempt(answer, **given), answers.tiles(**given)
        _require_tiles(got, right, given)


def _require_tiles(got: Any, right: answers.TileList, given: Mapping[str, Any]) -> None:
    """CheckFailed unless `got` is the list of tiles."""
    if not isinstance(got, list | tuple):
        hint = "Is a return missing?" if got is None else ""
        raise CheckFailed(
            "expected a list of (q_start, k_start, masked)", given, got=describe(got), hint=hint
        )
    if not all(isinstance(tile, tuple | list) and len(tile) == 3 for tile in got):
        raise CheckFailed(
            "expected three things for each tile: q_start, k_start, masked", given, got=describe(got)
        )
    if not all(isinstance(tile[2], bool) for tile in got):
        raise CheckFailed("masked: expected True or False", given, got=describe(got))
    tiles: answers.TileList = [(tile[0], tile[1], tile[2]) for tile in got]
    if tiles != right:
        hint = next((words for words, wrong in _tile_mistakes(tiles, right, given) if wrong), "")
        raise CheckFailed("not these tiles", given, expected=_listed(right), got=_listed(tiles), hint=hint)


def _listed(tiles: answers.TileList) -> str:
    """Tiles in one line, `m` for a masked one; as far as there is room."""
    parts = [f"({q}, {k}{', masked' if masked else ''})" for q, k, masked in tiles]
    return f"{len(parts)} tiles: {' '.join(parts[:12])}{' ...' if len(parts) > 12 else ''}"


def _tile_mistakes(
    tiles: answers.TileList, right: answers.TileList, given: Mapping[str, Any]
) -> list[tuple[str, bool]]:
    """Each likely mistake and whether it explains the tiles; the most telling ones first."""
    starts, want = [tile[:2] for tile in tiles], [tile[:2] for tile in right]

    def are(**options: Any) -> bool:
        return starts == [tile[:2] for tile in answers.tiles(**given, **options)]

    def masked(**options: Any) -> bool:
        return tiles == answers.tiles(**given, **options)

    return [
        ("Where does query 0 stand? The last query sees the last key, not the first query the first key.", are(offset=0) and starts != want),
        ("Some tiles lie wholly behind what their queries see. Are they skipped?", are(skips="nobody") and starts != want),
        ("Which query of a block looks furthest? A tile that the last one sees in part must be computed.", are(skips="first") and starts != want),
        ("A query sees its own place, too. Is one tile too many skipped?", are(late=1) and starts != want),
        ("Is one tile too few skipped? The block's end is one behind its last query.", are(skips="beyond") and starts != want),
        ("Is a tile left out, or one there that nobody sees?", sorted(starts) != sorted(want)),
        ("The order: block of queries by block of queries, keys from left to right.", starts != want),
        ("A tile whose queries all see all of its keys needs no mask. Which query decides?", masked(masks="all")),
        ("In a tile at the edge, some queries do not see some keys. Is that masked?", masked(masks="never")),
        ("Which query of a block sees least? It decides whether a tile needs a mask.", masked(masks="last")),
        ("The last block of keys may be shorter. Where does it end?", masked(whole=True)),
    ]  # fmt: skip


@exercise(LAB, 4, "merge two parts")
def check_merge(answer: Function) -> None:
    """`answer(out_a, lse_a, out_b, lse_b)` -> out and lse over the keys of both parts."""
    require_callable(answer)
    for lse_a, lse_b in (
        ([0.3, 1.9, -1.2], [1.0, 1.1, 2.4]),
        ([-400.0, 150.0, 3.0], [-399.0, 149.0, 3.5]),
        ([0.5, NONE, 2.0], [NONE, 0.7, 1.0]),
        ([NONE, 1.0, NONE], [NONE, NONE, 2.0]),
    ):
        draw = torch.Generator().manual_seed(3)
        lses = [torch.tensor(lse) for lse in (lse_a, lse_b)]
        outs = [torch.randn(3, 2, generator=draw).masked_fill((lse == NONE)[:, None], 0.0) for lse in lses]
        given = {"out_a": outs[0], "lse_a": lses[0], "out_b": outs[1], "lse_b": lses[1]}
        _require_merged(attempt(answer, **given), given)


_OUT_MISTAKES: dict[str, tuple[dict[str, Any], ...]] = {
    "Do both parts count the same, however much weight their keys have?": ({"weights": "mean"}, {"weights": "sum"}),
    "The lse is a logarithm. What is a part's weight?": ({"weights": "lse"},),
    "A part's result is divided already. Do the two shares come to 1?": ({"weights": "unnormalised"},),
    "Does the part with the larger lse count alone?": ({"weights": "larger"},),
    "Has each part its own share, and not the other's?": ({"swapped": True},),
    "A query may see no key in either part. What is minus infinity minus minus infinity?": ({"guarded": False},),
    "exp of a large number is infinite, of a very negative one 0. Which number can be taken off both lse first?": (
        {"shifted": False}, {"shifted": False, "guarded": False},
    ),
}  # fmt: skip
_LSE_MISTAKES: dict[str, tuple[dict[str, Any], ...]] = {
    "The parts' exp(lse) add up, not their lse.": ({"total": "added"}, {"total": "mean"}),
    "Is that the larger of the two, without the other's share?": ({"total": "max"},),
    "Is the logarithm missing?": ({"total": "exp"},),
    "exp of a large number is infinite, of a very negative one 0. Which number can be taken off both lse first?": ({"shifted": False},),
}  # fmt: skip


def _require_merged(got: Any, given: dict[str, Any]) -> None:
    """CheckFailed unless `got` is the merged result."""
    right = answers.merge(**given)
    _require_tensors("out, lse", got, right, given)
    for i, (name, mistakes) in enumerate((("out", _OUT_MISTAKES), ("lse", _LSE_MISTAKES))):
        if not _same(got[i : i + 1], right[i : i + 1]):
            hint = _named(got, mistakes, lambda options: answers.merge(**given, **options), right, i)
            raise CheckFailed(f"{name}: wrong values", _shown(given), expected=_numbers(right[i]), got=_numbers(got[i]), hint=hint)  # fmt: skip


_KIB = 1024
_A2 = {"l0a": 64, "l0b": 64, "l0c": 128, "l1": 512, "ub": 192}  # KiB, as all below


@exercise(LAB, 5, "choose tiles for a core")
def check_choose(answer: Function) -> None:
    """`answer(head_dim, l0a, l0b, l0c, l1, ub)` -> (query_block, key_block), or None where no tile fits."""
    require_callable(answer)
    cases: list[tuple[int, dict[str, int]]] = [
        (128, {}), (64, {}), (192, {}), (64, {"l0a": 512}), (64, {"l0c": 256}), (128, {"l0c": 256, "l1": 1024, "ub": 256}), (80, {"l0b": 16}), (128, {"l0b": 16}), (128, {"l0a": 256, "l0c": 64}),
        (128, {"l1": 200}), (64, {"ub": 24}), (256, {"l0a": 4}), (128, {"l0c": 4}),
    ]  # fmt: skip
    for head_dim, changed in cases:
        given = {"head_dim": head_dim, **{name: size * _KIB for name, size in (_A2 | changed).items()}}
        _require_choice(attempt(answer, **given), answers.choose(**given), given)


_HELD = {
    "l0a": "L0A holds the left factor of both products. What stands left in the second one?",
    "l0b": "L0B holds the right factor of both products: a block of keys, and one of values, 2 bytes each.",
    "l0c": "L0C holds the results of both products, and in which type?",
    "l1": "L1 holds the queries, the weights, and two blocks of keys and two of values. Are all counted?",
    "ub": "UB holds scores in fp32 and weights in 16 bits, for half of a tile's queries. Are both counted?",
}


def _require_choice(got: Any, right: tuple[int, int] | None, given: dict[str, Any]) -> None:
    """CheckFailed unless `got` is the best tile; a buffer that is too small for it is named."""
    arguments = {name: f"{n // _KIB} KiB" if name in _A2 else n for name, n in given.items()}
    shown = {name: _Text(text) for name, text in arguments.items()}
    if got is None and right is None:
        return
    if got is None:
        raise CheckFailed("a tile fits, and none was given", shown, expected=right, got=got, hint="Is a return missing?")  # fmt: skip
    if not isinstance(got, tuple | list) or len(got) != 2 or not all(_is_size(n) for n in got):
        raise CheckFailed("expected two whole numbers from 1, or None", shown, got=describe(got))
    if tuple(got) != right:
        broken, hint = _choice_mistake((got[0], got[1]), right, given)
        raise CheckFailed(broken, shown, expected=right, got=describe(tuple(got)), hint=hint)


def _choice_mistake(
    got: tuple[int, int], right: tuple[int, int] | None, given: dict[str, Any]
) -> tuple[str, str]:
    """What is wrong with a tile that is not the best one, and the question that may help."""
    if got[0] % 16 or got[1] % 16:
        return (
            "not multiples of 16",
            "The cube unit multiplies pieces of 16 x 16. Which sizes waste none of it?",
        )
    sizes = {name: given[name] for name in _A2}
    if small := answers.too_small(given["head_dim"], *got, sizes):
        need = answers.needs(given["head_dim"], *got)[small[0]]
        broken = (
            f"the tile needs {need / _KIB:g} KiB of {small[0].upper()}, which has {sizes[small[0]] // _KIB}"
        )
        return broken, _HELD[small[0]]
    assert right is not None  # something fits
    if _power_of_two(got[0]) and _power_of_two(got[1]) and not (_power_of_two(right[0]) and _power_of_two(right[1])):  # fmt: skip
        return "a larger tile fits", "Are only powers of two tried? Any multiple of 16 will do."
    if got[0] < right[0]:
        return (
            "a larger block of queries fits",
            "Which of the two sizes decides how often keys and values are read?",
        )
    return (
        "a larger block of keys fits",
        "With this block of queries, is there room for more keys in each step?",
    )


def _is_size(number: Any) -> bool:
    """Whether it is a whole number from 1."""
    return isinstance(number, int) and not isinstance(number, bool) and number > 0


def _power_of_two(number: int) -> bool:
    """Whether it is 1, 2, 4 ..."""
    return number & (number - 1) == 0


class _Text:
    """Words that stand in a message without quotes."""

    def __init__(self, text: object):
        self._text = str(text)

    def __repr__(self) -> str:
        return self._text
