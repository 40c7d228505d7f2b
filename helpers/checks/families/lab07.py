"""Lab 7, flash attention: traffic, blocks of keys, tiles, parts, cores."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from helpers.checks.families import flash_answers as answers
from helpers.checks.families.flash_answers import NONE
from helpers.checks.machinery.failure import CheckFailed, Words, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import close, is_whole, plain

# 1: the traffic


def _traffic(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: answers.traffic(**case, **options)


def _one_block(**case: Any) -> Any:
    """Reads keys and values once."""
    return answers.traffic(**{**case, "query_block": max(1, case["q_len"])})


def _for_each_query(**case: Any) -> Any:
    """Reads keys and values for each query."""
    return answers.traffic(**{**case, "query_block": 1})


def _with_scores(count: int) -> Wrong:
    """Return a wrong answer in which scores move."""
    return lambda **case: (
        answers.traffic(**case) + count * case["q_len"] * case["kv_len"] * case["element_bytes"]
    )


def _scaled(power: int) -> Wrong:
    """Return a wrong answer in elements, or with bytes twice."""
    return lambda **case: answers.traffic(**case) * case["element_bytes"] ** power


def traffic_cases(draw: random.Random) -> Iterator[Case]:
    """Yield sizes of any kind: blocks that are larger than all queries, that come out even or do not, small heads."""
    names = ("q_len", "kv_len", "head_dim", "query_block", "element_bytes")
    for numbers in (
        (1, 1, 1, 1, 1),
        (100, 300, 64, 32, 2),
        (4096, 4096, 128, 256, 2),
        (1, 777, 64, 128, 4),
        (513, 600, 80, 128, 2),
        (32, 8, 16, 16, 2),
    ):
        yield dict(zip(names, numbers, strict=True))
    while True:
        block = draw.choice((1, 16, draw.randrange(1, 300)))
        q_len = draw.choice((1, block, block * draw.randrange(1, 9), draw.randrange(1, 5000)))
        yield dict(zip(names, (q_len, draw.randrange(1, 9000), draw.choice((1, 8, 40, 64, 80, 128, 256)), block, draw.choice((1, 2, 4, 8))), strict=True))  # fmt: skip


TRAFFIC = Family(
    answers.traffic,
    traffic_cases,
    (Part(mistakes={
        "Can a core keep all keys and values? How often does it read them, if each block of queries needs them anew?": (
            _one_block, lambda **case: _one_block(**case) - 2 * case["q_len"] * case["head_dim"] * case["element_bytes"]),
        "The last block of queries may be shorter. Does it read no keys?": (_traffic(rounded=math.floor), _traffic(rounded=float), _traffic(rounded=round)),
        "Blocks that come out even need no other. Is one added?": _traffic(rounded=lambda n: math.floor(n) + 1),
        "Queries are read, and a result is written. Are both counted?": (_traffic(per_query=1), _traffic(per_query=0)),
        "Keys are read, and values too. Are both counted?": _traffic(per_key=1),
        "Are these bytes, or elements?": (_scaled(-1), _scaled(1)),
        "Do scores ever leave the core?": tuple(_with_scores(count) for count in (1, 2, 3, 4)),
        "A block of queries shares one reading of the keys. Does each query read for itself?": _for_each_query,
        "Small heads move as few bytes as they have. Are they filled up?": tuple(
            lambda most=most, **case: answers.traffic(**{**case, "head_dim": max(most, case["head_dim"])}) for most in (16, 32, 64, 128)),
        "The last block may be shorter. Are its queries counted as a full block's?": (
            lambda **case: answers.traffic(**{**case, "q_len": -(-case["q_len"] // case["query_block"]) * case["query_block"]})),
    }),),
    valid=lambda **case: min(case.values()) >= 1,
)  # fmt: skip


# 2: the update


def near(one: Any, other: Any) -> bool:
    """Return whether two tensors hold the same numbers."""
    if not isinstance(one, Tensor) or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return close(one, other) or torch.allclose(
        one.double(), other.double(), rtol=2e-5, atol=4e-6, equal_nan=True
    )


def roughly(one: Any, other: Any) -> bool:
    """Return whether two tensors hold the same numbers, as far as fp32 tells lse of some hundred apart."""
    if not isinstance(one, Tensor) or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.allclose(one.double(), other.double(), rtol=2e-4, atol=2e-5, equal_nan=True)


def numbers(tensor: Tensor) -> Words:
    """Return the numbers of a small tensor, in one line."""
    digits = [f"{x:.4g}" for x in tensor.flatten().tolist()]
    return Words(f"{', '.join(digits[:8])}{', ...' if len(digits) > 8 else ''}")


def in_numbers(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments for a message: small tensors by their numbers."""
    return {name: Words(f"[{numbers(t)}]") if isinstance(t, Tensor) else t for name, t in case.items()}


def tensors_kind(names: str) -> Any:
    """Return what turns a result into that many tensors."""
    expected = names.split(", ")

    def kind(got: Any, case: Case) -> tuple[Tensor, ...]:
        if (
            not isinstance(got, tuple | list)
            or len(got) != len(expected)
            or not all(isinstance(t, Tensor) for t in got)
        ):
            missing, count = (
                "Is a return missing?" if got is None else "",
                {2: "two", 3: "three"}[len(expected)],
            )
            raise CheckFailed(
                f"expected {count} tensors: {names}", in_numbers(case), got=describe(got), hint=missing
            )
        return tuple(got)

    return kind


def tensor_broken(got: Tensor, right: Tensor, case: Case) -> str:
    """Return what is wrong with a tensor."""
    if got.shape != right.shape:
        return "wrong in shape"
    return "wrong in type" if got.dtype != right.dtype else "wrong values"


def tensor_shown(tensor: Tensor) -> str:
    """Return a tensor's numbers, shape and type."""
    return f"{numbers(tensor)}; shape {tuple(tensor.shape)}, {tensor.dtype}"


def nan_facts(got: Tensor, right: Tensor, case: Case) -> str:
    """Return what a tensor of another shape or type, or a NaN, tells."""
    if got.shape != right.shape:
        return "Do single numbers per query keep their own dimension?" if got.numel() == right.numel() else ""
    if got.dtype != right.dtype:
        return "Statistics are fp32, whatever the scores are. Where does another type come in?"
    return "There is a NaN. Where does it come from?" if bool(got.isnan().any()) else ""


def _block(
    generator: torch.Generator, queries: int, keys: int, dim: int, dtype: torch.dtype, size: float, more: float
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return scores and values of one block."""
    scores = torch.randn(queries, keys, generator=generator) * size + more
    return scores.to(dtype), torch.randn(keys, dim, generator=generator).to(dtype)


def update_cases(draw: random.Random) -> Iterator[Case]:
    """Yield one step after another of streams: rising and falling scores, large ones, half precision, hidden keys."""
    while True:
        generator = torch.Generator().manual_seed(draw.randrange(2**31))
        queries, dim = draw.randrange(1, 5), draw.randrange(1, 4)
        state: answers.State = (
            torch.full((queries, 1), NONE),
            torch.zeros(queries, 1),
            torch.zeros(queries, dim),
        )
        dtype = draw.choice(
            (torch.float32, torch.float32, torch.float32, torch.float16, torch.bfloat16, torch.float64)
        )
        wide = dtype == torch.float32
        size = draw.choice((1.0, 1.0, 0.0, 100.0)) if wide else 1.0
        for _ in range(draw.randrange(1, 5)):
            more = (
                draw.choice((0.0, 2.0, -3.0, 300.0, -300.0, -3000.0))
                if wide
                else draw.choice((0.0, 1.5, -1.5))
            )
            scores, values = _block(generator, queries, draw.randrange(1, 7), dim, dtype, size, more)
            hidden = draw.random()
            if hidden < 0.2:
                scores[:] = NONE
            elif hidden < 0.4:
                scores[: draw.randrange(queries + 1)] = NONE
            elif hidden < 0.6:
                scores[torch.rand(scores.shape, generator=generator) < 0.4] = NONE
            case = dict(
                zip(
                    ("maximum", "total", "weighted", "scores", "values"),
                    (*state, scores, values),
                    strict=True,
                )
            )
            yield case
            state = answers.update(*state, scores, values)


_OLD = "What was added before was taken with the old maximum."
UPDATES: Mapping[str, tuple[dict[str, Any], ...]] = {
    "What is minus infinity minus minus infinity? A query may have seen no key yet.": ({"guarded": False},),
    f"{_OLD} Is the old sum brought to the new one?": ({"rescale": (False, True)},),
    f"{_OLD} Are the old weighted values brought to the new one?": ({"rescale": (True, False)},),
    f"{_OLD} Is anything of it brought to the new one?": ({"rescale": (False, False)},),
    "Is that the largest score of this block alone, or of all keys so far?": (
        {"largest": "block"}, {"largest": "block", "guarded": False}, {"largest": "block", "rescale": (False, False)},
        {"largest": "block", "rescale": (False, False), "guarded": False}),
    "Does the maximum take the new block in?": ({"largest": "old"}, {"largest": "old", "guarded": False}, {"largest": "first"}),
    "When the maximum grows, old weights shrink. Is the difference taken the right way round?": ({"sign": -1}, {"sign": -1, "guarded": False}),
    "Is the maximum subtracted before exp?": ({"shifted": False},),
    "Is something computed in half precision? Weights and sums are fp32 here, whatever the scores are.": ({"half": "weights"}, {"half": "product"}),
    "Is the division made in every step? One at the very end is enough.": ({"divide": True},),
    "Scores may be very negative. Is there a bound below which they vanish?": tuple({"lowest": -n} for n in (50.0, 80.0, 88.0, 100.0, 1000.0)),
    "Is the number of keys added in place of the sum of their weights?": ({"counted": True},),
}  # fmt: skip


def _updates(part: int) -> dict[str, tuple[Wrong, ...]]:
    """Return the wrong answers to one part."""
    return {
        words: tuple(
            lambda options=options, **case: answers.update(**case, **options)[part] for options in several
        )
        for words, several in UPDATES.items()
    }


def _whole_updates() -> dict[str, tuple[Wrong, ...]]:
    """Return the wrong answers to all parts together."""
    return {
        words: tuple(lambda options=options, **case: answers.update(**case, **options) for options in several)
        for words, several in UPDATES.items()
    }


UPDATE = Family(
    answers.update,
    update_cases,
    tuple(
        Part(name, broken=tensor_broken, mistakes=_updates(i), same=near, shown=tensor_shown, facts=nan_facts)
        for i, name in enumerate(("maximum", "total", "weighted"))
    ),
    kind=tensors_kind("maximum, total, weighted"),
    tensors=True,
    joint=_whole_updates(),
    shown=in_numbers,
)  # fmt: skip


# 3: tiles


def tile_cases(draw: random.Random) -> Iterator[Case]:
    """Yield sizes: a whole prompt, a chunk, a single token, more queries than keys; blocks that come out even or do not."""
    names = ("q_len", "kv_len", "query_block", "key_block")
    for sizes in (
        (1, 1, 1, 1),
        (9, 11, 4, 3),
        (9, 9, 4, 2),
        (5, 14, 2, 4),
        (12, 12, 4, 3),
        (8, 8, 4, 4),
        (6, 10, 4, 4),
        (1, 9, 4, 4),
        (7, 3, 2, 2),
        (10, 10, 16, 16),
    ):
        yield dict(zip(names, sizes, strict=True))
    while True:
        q_len, more = draw.randrange(1, 20), draw.choice((0, 0, draw.randrange(20), -draw.randrange(6)))
        yield dict(
            zip(names, (q_len, max(1, q_len + more), draw.randrange(1, 8), draw.randrange(1, 8)), strict=True)
        )


def tile_kind(got: Any, case: Case) -> tuple[list[tuple[Any, Any, bool]]]:
    """Return the tiles. Raises CheckFailed when they are something else."""
    got = plain(got)
    if not isinstance(got, list | tuple):
        hint = "Is a return missing?" if got is None else ""
        raise CheckFailed("expected a list of (q_start, k_start, masked)", case, got=describe(got), hint=hint)
    if not all(isinstance(tile, tuple | list) and len(tile) == 3 for tile in got):
        raise CheckFailed(
            "expected three things for each tile: q_start, k_start, masked", case, got=describe(got)
        )
    if not all(isinstance(tile[2], bool) for tile in got):
        raise CheckFailed("masked: expected True or False", case, got=describe(got))
    return ([(tile[0], tile[1], tile[2]) for tile in got],)


def listed(tiles: answers.TileList) -> Words:
    """Return tiles in one line, `masked` where one is; as far as there is room."""
    parts = [f"({q}, {k}{', masked' if masked else ''})" for q, k, masked in tiles]
    return Words(f"{len(parts)} tiles: {' '.join(parts[:12])}{' ...' if len(parts) > 12 else ''}")


def tile_facts(tiles: answers.TileList, right: answers.TileList, case: Case) -> str:
    """Return what a wrong list tells."""
    starts, want = [tile[:2] for tile in tiles], [tile[:2] for tile in right]
    if {*starts} != {*want}:
        return "Is a tile left out, or one there that nobody sees?"
    return (
        "The order: block of queries by block of queries, keys from left to right." if starts != want else ""
    )


def _tiles(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: answers.tiles(**case, **options)


def _by_keys(**case: Any) -> Any:
    """Goes through the blocks of keys first."""
    return sorted(answers.tiles(**case), key=lambda tile: tile[1::-1])


TILES = Family(
    answers.tiles,
    tile_cases,
    (Part(broken="not these tiles", facts=tile_facts, shown=listed, mistakes={
        "Where does query 0 stand? The last query sees the last key, not the first query the first key.": _tiles(offset=0),
        "Some tiles lie wholly behind what their queries see. Are they skipped?": (_tiles(skips="nobody"), _tiles(skips="nobody", masks="never"), _tiles(skips="nobody", masks="all")),
        "Which query of a block looks furthest? A tile that the last one sees in part must be computed.": _tiles(skips="first"),
        "A query sees its own position, too. Is one tile too many skipped?": (_tiles(late=1), _tiles(late=1, early=1)),
        "Is one tile too few skipped? The block's end is one behind its last query.": _tiles(skips="beyond"),
        "The order: block of queries by block of queries, keys from left to right.": _by_keys,
        "A tile whose queries all see all of its keys needs no mask. Which query decides?": _tiles(masks="all"),
        "In a tile at the edge, some queries do not see some keys. Is that masked?": _tiles(masks="never"),
        "Which query of a block sees least? It decides whether a tile needs a mask.": _tiles(masks="last"),
        "A query sees its own position, too. Is a tile masked that ends with it?": _tiles(early=1),
        "The last block of keys may be shorter. Where does it end?": _tiles(whole=True),
    }),),
    kind=tile_kind,
    valid=lambda **case: min(case.values()) >= 1,
)  # fmt: skip


# 4: merge


def merge_cases(draw: random.Random) -> Iterator[Case]:
    """Yield parts of like and of very different weight, in any type, and queries that see no key of one part or of both."""
    for lse_a, lse_b in (([0.3, 1.9, -1.2], [1.0, 1.1, 2.4]), ([-400.0, 150.0, 3.0], [-399.0, 149.0, 3.5]),
                         ([1.0, 2.0, NONE], [1.0, 2.0, 1.0]), ([0.5, NONE, 2.0], [NONE, 0.7, 1.0]), ([NONE, 1.0, NONE], [NONE, NONE, 2.0])):  # fmt: skip
        yield _parts(draw, lse_a, lse_b, 2, torch.float32, torch.float32)
    while True:
        queries = draw.randrange(1, 5)
        center, spread = draw.choice((0.0, 0.0, 200.0, -200.0)), draw.choice((0.5, 1.0, 4.0, 30.0))
        out, lse = draw.choice(
            ((torch.float32, torch.float32),) * 3
            + (
                (torch.float16, torch.float16),
                (torch.bfloat16, torch.float32),
                (torch.float64, torch.float64),
            )
        )
        center = center if lse == torch.float32 else 0.0
        drawn = [
            [NONE if draw.random() < 0.15 else draw.gauss(center, spread) for _ in range(queries)]
            for _ in "ab"
        ]
        yield _parts(draw, drawn[0], drawn[1], draw.randrange(1, 4), out, lse)


def _parts(
    draw: random.Random, lse_a: list[float], lse_b: list[float], dim: int, out: torch.dtype, lse: torch.dtype
) -> Case:
    """Return two parts; a query that sees no key of a part has 0 there."""
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    lses = [torch.tensor(values) for values in (lse_a, lse_b)]
    outs = [
        torch.randn(len(one), dim, generator=generator).masked_fill((one == NONE)[:, None], 0.0)
        for one in lses
    ]
    return {
        "out_a": outs[0].to(out),
        "lse_a": lses[0].to(lse),
        "out_b": outs[1].to(out),
        "lse_b": lses[1].to(lse),
    }


_OUTS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "Do both parts count the same, however much weight their keys have?": ({"weights": "mean"}, {"weights": "sum"}),
    "The lse is a logarithm. What is a part's weight?": ({"weights": "lse"},),
    "A part's result is divided already. Do the two shares come to 1?": ({"weights": "unnormalised"},),
    "Does the part with the larger lse count alone?": ({"weights": "larger"},),
    "Has each part its own share, and not the other's?": ({"swapped": True},),
    "A query may see no key in either part. What is minus infinity minus minus infinity?": ({"guarded": False},),
    "exp of a large number is infinite, of a very negative one 0. Which number can be taken off both lse first?": (
        {"shifted": False}, {"shifted": False, "guarded": False}),
}  # fmt: skip
_LSES: Mapping[str, tuple[dict[str, Any], ...]] = {
    "The parts' exp(lse) add up, not their lse.": ({"total": "added"}, {"total": "mean"}),
    "Is that the larger of the two, without the other's share?": ({"total": "max"},),
    "Is the logarithm missing?": ({"total": "exp"},),
    "exp of a large number is infinite, of a very negative one 0. Which number can be taken off both lse first?": (
        {"shifted": False},
    ),
}


def _merges(part: int, mistakes: Mapping[str, tuple[dict[str, Any], ...]]) -> dict[str, tuple[Wrong, ...]]:
    """Return the wrong answers to one part."""
    return {
        words: tuple(
            lambda options=options, **case: answers.merge(**case, **options)[part] for options in several
        )
        for words, several in mistakes.items()
    }


def _without_shift(out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor) -> Tensor:
    """Weighs by exp(lse) itself, and gives 0 where both weights are 0."""
    a, b = (lse.float().exp()[:, None] for lse in (lse_a, lse_b))
    return torch.where(a + b == 0, 0.0, (a * out_a.float() + b * out_b.float()) / (a + b))


_LARGE = "exp of a large number is infinite, of a very negative one 0. Which number can be taken off both lse first?"
MERGE = Family(
    answers.merge,
    merge_cases,
    (
        Part("out", broken=tensor_broken, mistakes={**_merges(0, _OUTS), _LARGE: (*_merges(0, _OUTS)[_LARGE], _without_shift)}, same=roughly, shown=tensor_shown, facts=nan_facts),
        Part("lse", broken=tensor_broken, mistakes=_merges(1, _LSES), same=roughly, shown=tensor_shown, facts=nan_facts),
    ),
    kind=tensors_kind("out, lse"),
    tensors=True,
    shown=in_numbers,
)  # fmt: skip


# 5: a tile for a core

KIB = 1024
A2 = {"l0a": 64, "l0b": 64, "l0c": 128, "l1": 512, "ub": 192}  # KiB, as all below
HELD = {
    "l0a": "L0A holds the left factor of both products. What stands left in the second one?",
    "l0b": "L0B holds the right factor of both products: a block of keys, and one of values, 2 bytes each.",
    "l0c": "L0C holds the results of both products, and in which type?",
    "l1": "L1 holds the queries, the weights, and two blocks of keys and two of values. Are all counted?",
    "ub": "UB holds scores in fp32 and weights in 16 bits, for half of a tile's queries. Are both counted?",
}


def core_cases(draw: random.Random) -> Iterator[Case]:
    """Yield cores in which now one buffer is the smallest and now another, and ones that no tile fits into."""
    for head_dim, changed in (
        (128, {}), (64, {}), (192, {}), (64, {"l0a": 512}), (64, {"l0c": 256}), (128, {"l0c": 256, "l1": 1024, "ub": 256}), (80, {"l0b": 16}),
        (128, {"l0b": 16}), (128, {"l0a": 256, "l0c": 64}), (128, {"l1": 200}), (64, {"ub": 24}), (256, {"l0a": 4}), (128, {"l0c": 4}), (256, {"l0b": 4}),
        (64, {"ub": 1}), (64, {"l1": 9}), (128, {"l1": 160}),
    ):  # fmt: skip
        yield {"head_dim": head_dim, **{name: size * KIB for name, size in (A2 | changed).items()}}
    while True:
        sizes = {name: draw.choice((size // 4, size // 2, size, size, 2 * size)) for name, size in A2.items()}
        for name in draw.sample(list(sizes), draw.randrange(3)):
            sizes[name] = draw.randrange(4, A2[name] + 1)
        yield {
            "head_dim": (head_dim := draw.choice((48, 64, 80, 128, 192, 256))),
            # a bit less than a multiple of 16 vectors at times
            **{name: size * KIB - draw.choice((0, 0, 2 * head_dim)) for name, size in sizes.items()},
        }


def core_kind(got: Any, case: Case) -> tuple[Any]:
    """Return the two sizes, or None. Raises CheckFailed when the result is something else."""
    got = plain(got)
    if got is None:
        return (None,)
    if not isinstance(got, tuple | list) or len(got) != 2 or not all(is_whole(n) and n > 0 for n in got):
        raise CheckFailed("expected two whole numbers from 1, or None", core_shown(case), got=describe(got))
    return (tuple(got),)


def core_shown(case: Case) -> dict[str, Any]:
    """Return a case in KiB."""
    return {name: Words(f"{n / KIB:g} KiB" if name in A2 else n) for name, n in case.items()}


def _core_words(got: tuple[int, int] | None, right: tuple[int, int] | None, case: Case) -> tuple[str, str]:
    """Return what is wrong with a tile that is not the best one, and the question that may help."""
    if got is None:
        return "a tile fits, and none was given", ""
    if got[0] % 16 or got[1] % 16:
        return (
            "not multiples of 16",
            "The cube unit multiplies pieces of 16 x 16. Which sizes waste none of it?",
        )
    sizes = {name: case[name] for name in A2}
    if small := answers.too_small(case["head_dim"], *got, sizes):
        need = answers.needs(case["head_dim"], *got)[small[0]]
        return (
            f"the tile needs {need / KIB:g} KiB of {small[0].upper()}, which has {sizes[small[0]] / KIB:g}",
            HELD[small[0]],
        )
    if right is None or got[0] < right[0]:
        return (
            "a larger block of queries fits",
            "Which of the two sizes decides how often keys and values are read?",
        )
    return (
        "a larger block of keys fits",
        "With this block of queries, is there room for more keys in each step?",
    )


def _powers(head_dim: int, **sizes: int) -> tuple[int, int] | None:
    """Tries powers of two alone."""
    powers = [2**n for n in range(4, 13)]
    return max(
        ((q, k) for q in powers for k in powers if not answers.too_small(head_dim, q, k, sizes)), default=None
    )


def _whole_in_one(head_dim: int, **sizes: int) -> tuple[int, int] | None:
    """Holds all queries' scores in one UB."""
    return answers.choose(head_dim, **{**sizes, "ub": sizes["ub"] // 2})


def _twice(head_dim: int, **sizes: int) -> tuple[int, int] | None:
    """Counts everything twice."""
    return answers.choose(head_dim, **{name: size // 2 for name, size in sizes.items()})


CORE = Family(
    answers.choose,
    core_cases,
    (Part(
        broken=lambda got, right, case: _core_words(got, right, case)[0], facts=lambda got, right, case: _core_words(got, right, case)[1],
        mistakes={
            "Are only powers of two tried? Any multiple of 16 will do.": _powers,
            "Is a return missing?": lambda **case: None,
            "Each buffer holds what the table says, once. Does a tile take twice as much?": _twice,
            "Each vector unit has a UB of its own and half of the queries. Is there a larger block of queries or of keys?": _whole_in_one,
        },
    ),),
    kind=core_kind,
    shown=core_shown,
    count=70,
)  # fmt: skip
