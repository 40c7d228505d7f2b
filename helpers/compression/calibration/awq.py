"""Important channels made larger before rounding, so that their error becomes smaller (AWQ)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from helpers.compression.calibration.statistics import output_error
from helpers.compression.quantised import rounded
from helpers.estimates.quantisation.number_format import NumberFormat

EXPONENTS = (0.0, 0.15, 0.3, 0.5)


def activation_aware_scales(
    weight: Tensor, gram: Tensor, fmt: NumberFormat, exponents: Sequence[float] = EXPONENTS
) -> Tensor:
    """Return a scale for each input channel, `[in]`, with which rounding moves the outputs least.

    A channel's scale is a power of its root mean square in a calibration; the best of some exponents is taken
    (arXiv:2306.00978). `rescaled` puts the scales into a model; exponent 0 leaves all as it was.
    """
    importance = gram.diagonal().clamp(min=0).sqrt()
    importance = (importance / importance.mean()).clamp(min=1e-4)

    def moved(exponent: float) -> float:
        scale = importance**exponent
        return output_error(rounded(weight * scale, fmt) / scale - weight, gram)

    best: Tensor = importance ** min(exponents, key=moved)
    return best
