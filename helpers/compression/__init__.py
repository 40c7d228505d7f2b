"""Weights and activations of few bits, calibration, pruning, and what each costs in quality. Chapter 10.

Read `grid` first, then `quantised`: the definition. `products` are the ways to multiply, and `quantise` gives a
model that everything else in the course takes.
"""

from helpers.compression import ascend
from helpers.compression.bit_packing import pack_codes, unpack_codes
from helpers.compression.calibration.awq import activation_aware_scales
from helpers.compression.calibration.gptq import gptq
from helpers.compression.calibration.smoothing import rescaled, smooth
from helpers.compression.calibration.statistics import InputStatistics, calibrate, output_error
from helpers.compression.coded_product import CodedProduct, product_of, whole_product_of
from helpers.compression.editing import matrices, plain_weight, replaced, reweighted
from helpers.compression.grid import Grid, grid_between
from helpers.compression.layers import QuantisedEmbedding, QuantisedLinear
from helpers.compression.products import (
    DequantisedProduct,
    Int4Product,
    Int8Product,
    Product,
    RowProduct,
    W8A8Product,
    WeightOnlyProduct,
    dynamic_int8,
)
from helpers.compression.pruning import importance, keep_largest, keep_two_of_four, without_layers
from helpers.compression.quality import Quality, Yardstick
from helpers.compression.quantise import quantise, weight_nbytes
from helpers.compression.quantised import Quantised, quantise_matrix, rounded
from helpers.compression.recipe import INT4, INT8, Q8_0, Recipe
from helpers.compression.stored import layouts
from helpers.compression.stored.loading import load_quantised
from helpers.compression.stored.matrix import StoredMatrix, stacked
from helpers.compression.stored.words import codes_of_words

__all__ = [
    "INT4",
    "INT8",
    "Q8_0",
    "CodedProduct",
    "DequantisedProduct",
    "Grid",
    "InputStatistics",
    "Int4Product",
    "Int8Product",
    "Product",
    "Quality",
    "Quantised",
    "QuantisedEmbedding",
    "QuantisedLinear",
    "Recipe",
    "RowProduct",
    "StoredMatrix",
    "W8A8Product",
    "WeightOnlyProduct",
    "Yardstick",
    "activation_aware_scales",
    "ascend",
    "calibrate",
    "codes_of_words",
    "dynamic_int8",
    "gptq",
    "grid_between",
    "importance",
    "keep_largest",
    "keep_two_of_four",
    "layouts",
    "load_quantised",
    "matrices",
    "output_error",
    "pack_codes",
    "plain_weight",
    "product_of",
    "quantise",
    "quantise_matrix",
    "replaced",
    "rescaled",
    "reweighted",
    "rounded",
    "smooth",
    "stacked",
    "unpack_codes",
    "weight_nbytes",
    "whole_product_of",
    "without_layers",
]
