"""Operators that compute each element from the inputs' elements at the same index."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.emulated_npu.operators import Function, Operators

OPERATORS = Operators()
op, result, in_place = OPERATORS.op, OPERATORS.result, OPERATORS.in_place

_SAME_NAME_IN_TORCH = (
    "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Erfc Erfinv Exp Exp2 Expm1 Floor Frac Log Log10 Log1p Log2 "
    "Neg Reciprocal Round Rsqrt Sigmoid Sign Signbit Sin Sinc Sinh Sqrt Tan Tanh Trunc Relu IsFinite IsPosInf IsNegInf"
)
_UNARY: dict[str, Function] = {
    **{name: getattr(torch, name.lower()) for name in _SAME_NAME_IN_TORCH.split()},
    "LogicalNot": torch.logical_not,
    "BitwiseNot": torch.bitwise_not,
    "Silu": F.silu,
    "Mish": F.mish,
    "Hardswish": F.hardswish,
    "Hardsigmoid": F.hardsigmoid,
}
for _name, _function in _UNARY.items():
    result(_name, "TT", _function)
    in_place("Inplace" + _name, "T", _function)
result("AngleV2", "TT", torch.angle)
result("RoundDecimals", "TiT", lambda a, decimals: torch.round(a, decimals=decimals))
result("NanToNum", "TfffT", torch.nan_to_num)
in_place("InplaceNanToNum", "Tfff", torch.nan_to_num)

for _name, _function in {
    "Eq": torch.eq,
    "Ne": torch.ne,
    "Lt": torch.lt,
    "Le": torch.le,
    "Gt": torch.gt,
    "Ge": torch.ge,
}.items():
    result(_name + "Tensor", "TTT", _function)
    result(_name + "Scalar", "TST", _function)
    in_place(f"Inplace{_name}Tensor", "TT", _function)
    in_place(f"Inplace{_name}Scalar", "TS", _function)


def _scaled(function: Function) -> Function:
    """Return `function(a, b, alpha=alpha)` with alpha by position."""
    return lambda a, b, alpha: function(a, b, alpha=alpha)


for _name, _function in {"Add": torch.add, "Sub": torch.sub}.items():
    for _suffix, _letter in (("", "T"), ("s", "S")):
        result(_name + _suffix, f"T{_letter}ST", _scaled(_function))
        in_place(f"Inplace{_name}{_suffix}", f"T{_letter}S", _scaled(_function))
result("Rsub", "TTST", _scaled(torch.rsub))
result("Rsubs", "TSST", _scaled(torch.rsub))

# with a tensor and, where a second name is given, with a scalar
_BINARY: dict[tuple[str, ...], Function] = {
    ("Mul", "Muls"): torch.mul,
    ("Div", "Divs"): torch.div,
    ("FloorDivide", "FloorDivides"): torch.floor_divide,
    ("RemainderTensorTensor", "RemainderTensorScalar"): torch.remainder,
    ("FmodTensor", "FmodScalar"): torch.fmod,
    ("PowTensorTensor", "PowTensorScalar"): torch.pow,
    ("BitwiseAndTensor", "BitwiseAndScalar"): torch.bitwise_and,
    ("BitwiseOrTensor", "BitwiseOrScalar"): torch.bitwise_or,
    ("BitwiseXorTensor", "BitwiseXorScalar"): torch.bitwise_xor,
    ("LeftShift", "LeftShifts"): torch.bitwise_left_shift,
    ("RightShift",): torch.bitwise_right_shift,
    ("LogicalAnd",): torch.logical_and,
    ("LogicalOr",): torch.logical_or,
    ("LogicalXor",): torch.logical_xor,
    ("Atan2",): torch.atan2,
    ("Maximum",): torch.maximum,
    ("Minimum",): torch.minimum,
    ("ClampMinTensor", "ClampMin"): torch.clamp_min,
    ("ClampMaxTensor", "ClampMax"): torch.clamp_max,
    ("XLogYTensor", "XLogYScalarOther"): torch.xlogy,
    ("LogAddExp",): torch.logaddexp,
    ("LogAddExp2",): torch.logaddexp2,
    ("Gcd",): torch.gcd,
}
for _names, _function in _BINARY.items():
    for _name, _letter in zip(_names, "TS", strict=False):
        result(_name, f"T{_letter}T", _function)
        in_place("Inplace" + _name, f"T{_letter}", _function)
result("XLogYScalarSelf", "STT", torch.xlogy)
result("PowScalarTensor", "STT", torch.pow)
result("RemainderScalarTensor", "STT", torch.remainder)


def _divide(a: Tensor, b: Tensor, mode: int) -> Tensor:
    """Return a division, rounded by CANN's number of a mode: 0 not, 1 towards zero, 2 down."""
    return torch.div(a, b, rounding_mode={0: None, 1: "trunc", 2: "floor"}[mode])


for _suffix, _letter in (("", "T"), ("s", "S")):
    result("DivMod" + _suffix, f"T{_letter}IT", _divide)
    in_place("InplaceDivMod" + _suffix, f"T{_letter}I", _divide)

result("Clamp", "TSST", torch.clamp)
result("ClampTensor", "TTTT", torch.clamp)
for _suffix, _letter in (("", "T"), ("s", "S")):
    result("Lerp" + _suffix, f"TT{_letter}T", torch.lerp)
    in_place("InplaceLerp" + _suffix, f"TT{_letter}", torch.lerp)


def _weighted(function: Function) -> Function:
    """Return `function(a, x, y, value=value)` with value by position."""
    return lambda a, x, y, value: function(a, x, y, value=value)


for _name, _function in {"Addcmul": torch.addcmul, "Addcdiv": torch.addcdiv}.items():
    result(_name, "TTTST", _weighted(_function))
    in_place("Inplace" + _name, "TTTS", _weighted(_function))
result("SWhere", "TTTT", torch.where)
result("IsClose", "TTddbT", torch.isclose)
op("Equal", "TTT")(lambda a, b, out: out.fill_(torch.equal(a, b)))
result("Complex", "TTT", torch.complex)
result("Polar", "TTT", torch.polar)


def _contained(elements: Tensor, test: Tensor, unique: bool, invert: bool) -> Tensor:
    """Return torch.isin with its flags by position."""
    return torch.isin(elements, test, assume_unique=unique, invert=invert)


result("IsInScalarTensor", "STbbT", _contained)
result("IsInTensorScalar", "TSbbT", _contained)

OPERATORS.accept_complex(
    "Complex Polar Abs AngleV2 Add Adds Sub Subs Mul Muls Div Divs Neg Reciprocal Exp SWhere EqTensor NeTensor InplaceAdd "
    "InplaceAdds InplaceSub InplaceMul InplaceMuls InplaceDiv"
)
