"""Theory: the relative error E|x - x'|^2 / |x|^2 that a codec should have, for those of which it is known.

    fp32           none
    fp16, bf16     a value is off by up to half a unit of its last place, uniformly: unit^2 / 12
    int8, int4     rounded up with probability f, which has the variance f (1 - f) step^2 (QSGD, arXiv:1610.02132)
    eden1, eden2   1 / (1 - D) - 1, with D the distortion of a standard normal by the Lloyd-Max quantiser of so many
                   bits: a rotation makes any vector look normal, and an unbiased scale turns D into that (EDEN,
                   Vargaftik et al. 2022, arXiv:2108.08842). D(1) = 1 - 2 / pi, so the error is pi / 2 - 1

What a codec treats apart (biases as fp16) is a thousandth of an adapter, and left out here.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fedmq.delta import Arrays

Doubles = NDArray[np.float64]
LLOYD_MAX = {1: 1 - 2 / math.pi, 2: 0.11748}  # Max 1960, Table I
SMALLEST_EXPONENT = {10: -14, 7: -126}  # by bits of fraction: below it, units stay as they are


def nmse(codec: str, arrays: Arrays) -> float | None:
    """Return the error that is expected of packing these values, or None: nothing is known of this codec."""
    formula = _FORMULAS.get(codec)
    return None if formula is None else formula(arrays)


def _rounded(fraction_bits: int) -> Callable[[Arrays], float]:
    def error(arrays: Arrays) -> float:
        values = np.abs(arrays.flat.astype(np.float64))
        values = values[values > 0]
        exponents = np.maximum(np.floor(np.log2(values)), SMALLEST_EXPONENT[fraction_bits])
        units = np.exp2(exponents - fraction_bits)
        return float((units**2).sum() / 12 / (values**2).sum())

    return error


def _stochastic(levels: int) -> Callable[[Arrays], float]:
    def error(arrays: Arrays) -> float:
        total = 0.0
        for name, (rows, columns) in zip(arrays.named(), arrays.schema.rows, strict=True):
            values: Doubles = arrays.named()[name].reshape(rows, columns).astype(np.float64)
            steps = np.maximum(np.abs(values).max(axis=1, keepdims=True) / levels, np.finfo(np.float64).tiny)
            share = values / steps - np.floor(values / steps)
            total += float((steps**2 * share * (1 - share)).sum())
        return total / float((arrays.flat.astype(np.float64) ** 2).sum())

    return error


def _rotated(bits: int) -> Callable[[Arrays], float]:
    return lambda _arrays: 1 / (1 - LLOYD_MAX[bits]) - 1


_FORMULAS: Mapping[str, Callable[[Arrays], float]] = {
    "fp32": lambda _arrays: 0.0,
    "fp16": _rounded(10),
    "bf16": _rounded(7),
    "int8": _stochastic(127),
    "int4": _stochastic(7),
    "eden1": _rotated(1),
    "eden2": _rotated(2),
}
