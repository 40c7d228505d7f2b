"""Exercise 1.6: the cache of a model whose layers keep keys and values, a window, a latent, or a state."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from helpers.checks.machinery.family import Case, Family, Part, Wrong

Layer = Mapping[str, Any]
FIELDS = {
    "full": {"kind", "kv_heads", "head_dim"},
    "window": {"kind", "kv_heads", "head_dim", "window"},
    "latent": {"kind", "latent_dim", "rotated_dim", "num_heads"},
    "state": {"kind", "state_elements"},
}
"""What a layer of each kind says of itself."""


def hybrid_bytes(
    layers: Sequence[Layer], seq_len: int, element_size: int, *, pairs: int = 2, window: str = "less", latent: str = "once",
    state: str = "fixed", counted: str = "all",
) -> int:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    chosen = {"all": layers, "first": layers[:1], "last": layers[-1:], "alike": [layers[0]] * len(layers)}[
        counted
    ]
    return sum(_layer(layer, seq_len, element_size, pairs, window, latent, state) for layer in chosen)


def _layer(
    layer: Layer, seq_len: int, element_size: int, pairs: int, window: str, latent: str, state: str
) -> int:
    """Return one layer's bytes."""
    if layer["kind"] == "state":
        size = element_size if state == "typed" else 0 if state == "none" else 4
        return int(layer["state_elements"] * size * (seq_len if state == "grows" else 1))
    if layer["kind"] == "latent":
        rotated = layer["rotated_dim"] if latent != "bare" else 0
        times = {"twice": 2, "heads": layer["num_heads"]}.get(latent, 1)
        return int(times * (layer["latent_dim"] + rotated) * seq_len * element_size)
    tokens = seq_len
    if layer["kind"] == "window":
        whole, width = layer["window"], layer["window"] - 1
        tokens = {"less": min(seq_len, width), "whole": min(seq_len, whole), "always": width, "never": seq_len,
                  "cut": max(0, seq_len - width), "one": min(seq_len, max(1, width)), "max": max(seq_len, width)}[window]  # fmt: skip
    return int(pairs * layer["kv_heads"] * layer["head_dim"] * tokens * element_size)


def _hybrid(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: hybrid_bytes(**case, **options)


def _nothing_when_empty(**case: Any) -> int:
    """Keep no state of an empty text."""
    return hybrid_bytes(**case) if case["seq_len"] else 0


def a_layer(draw: random.Random, kind: str) -> dict[str, Any]:
    """Return a layer whose sizes have nothing to do with each other."""
    if kind == "state":
        return {"kind": kind, "state_elements": draw.choice((1, 100, draw.randrange(1, 10**6)))}
    if kind == "latent":
        sizes = {"latent_dim": draw.choice((128, 256, 512, draw.randrange(1, 600)))}
        return {
            "kind": kind,
            **sizes,
            "rotated_dim": draw.choice((16, 32, 64)),
            "num_heads": draw.choice((8, 16, 128)),
        }
    heads = {"kv_heads": draw.choice((1, 2, 3, 4, 8)), "head_dim": draw.choice((16, 64, 80, 128))}
    return {"kind": kind, **heads} | (
        {"window": draw.choice((1, 2, draw.randrange(1, 40), draw.randrange(1, 5000)))}
        if kind == "window"
        else {}
    )


def hybrid_cases(draw: random.Random) -> Iterator[Case]:
    """Yield models of each kind alone and mixed; texts around a window's length, and an empty one."""
    full, window = (
        {"kind": "full", "kv_heads": 8, "head_dim": 64},
        {"kind": "window", "kv_heads": 8, "head_dim": 64, "window": 128},
    )
    latent = {"kind": "latent", "latent_dim": 512, "rotated_dim": 64, "num_heads": 128}
    state = {"kind": "state", "state_elements": 524_288}
    for layers in (
        [full],
        [window],
        [latent],
        [state],
        [window, full] * 2,
        [state, state, state, full],
        [latent, state],
    ):
        for seq_len in (0, 1, 127, 128, 129, 4096):
            yield {"layers": [dict(layer) for layer in layers], "seq_len": seq_len, "element_size": 2}
    while True:
        mixed = [a_layer(draw, draw.choice(list(FIELDS))) for _ in range(draw.randrange(1, 7))]
        windows = [int(layer["window"]) for layer in mixed if layer["kind"] == "window"]
        near = [draw.choice(windows) + draw.choice((-2, -1, 0, 1))] if windows else []
        seq_len = max(0, draw.choice((*near, 0, 1, draw.randrange(100), draw.randrange(10**5))))
        yield {"layers": mixed, "seq_len": seq_len, "element_size": draw.choice((1, 2, 4, 8))}


def allowed(layers: Sequence[Layer], seq_len: int, element_size: int) -> bool:
    """Return whether a smaller case is one of the exercise: whole layers, each size 1 or more."""
    whole = all(set(layer) == FIELDS[layer["kind"]] for layer in layers)
    sizes = [size for layer in layers for name, size in layer.items() if name != "kind"]
    return bool(layers) and whole and min(sizes) >= 1 and seq_len >= 0 and element_size in (1, 2, 4, 8)


HYBRID = Family(
    hybrid_bytes,
    hybrid_cases,
    (Part(mistakes={
        "Of a layer with a window: how many tokens does the next token see beside itself?": _hybrid(window="whole"),
        "A text may be shorter than the window. What does the layer keep then?": (_hybrid(window="always"), _hybrid(window="max")),
        "A window of 1 is a token's own place. Is anything kept for the next token?": _hybrid(window="one"),
        "A layer with a window throws older tokens away. Does its part go on growing?": _hybrid(window="never"),
        "A layer with a window throws tokens away: which of them, the old ones or the new ones, and how many stay?": _hybrid(window="cut"),
        "Keys and values are both computed from the latent. How often is it kept?": _hybrid(latent="twice"),
        "All heads share the latent. Do the heads enter?": _hybrid(latent="heads"),
        "Beside the latent stands a rotated key. Is it counted?": _hybrid(latent="bare"),
        "A state has a fixed size. Does it grow with the text?": _hybrid(state="grows"),
        "In which type is a state kept? Read the table again.": _hybrid(state="typed"),
        "Is the state counted? It is there for each request.": _hybrid(state="none"),
        "A state is there from the beginning. What does an empty text leave?": _nothing_when_empty,
        "Both keys and values are kept: are both counted?": _hybrid(pairs=1),
        "Layers are not alike. Is each one counted by its own sizes?": (
            _hybrid(counted="alike"), _hybrid(counted="first"), _hybrid(counted="last")),
    }),),
    valid=allowed,
)  # fmt: skip
