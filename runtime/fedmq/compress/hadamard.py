"""The Walsh-Hadamard transform of many blocks at once, by butterflies of plain additions.

Values lie as (points, width): the transform runs along the first axis, so every addition is of two long contiguous
runs. Transforms along different axes commute, so a block may be spread over several, and a first factor may be looked
up in a table. Nothing is normalised: H H = points.

No matrix product: BLAS adds in an order of its own on every machine, and both ends must get the same bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def matrix(points: int) -> NDArray[np.int64]:
    """Return the Hadamard matrix in Sylvester's order; points is a power of two."""
    found = np.ones((1, 1), np.int64)
    while len(found) < points:
        found = np.block([[found, found], [found, -found]])
    return found


def transform(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the transform of (points, width) along the first axis; the values are lost."""
    spare = np.empty_like(values)
    for half in _halves(len(values)):
        values, spare = _butterfly(values, half, spare), values
    return values


def transform_levels(levels: NDArray[np.int8], largest: int) -> NDArray[np.int16]:
    """Return the transform of (points, width) small numbers: exact, in bytes for as long as sums fit; they are lost.

    largest    what no level exceeds in magnitude; points x largest fits 16 bits
    """
    spare = np.empty_like(levels)
    narrow = [half for half in _halves(len(levels)) if 2 * half * largest <= np.iinfo(np.int8).max]
    for half in narrow:
        levels, spare = _butterfly(levels, half, spare), levels
    found = levels.astype(np.int16)
    wide = np.empty_like(found)
    for half in _halves(len(levels))[len(narrow) :]:
        found, wide = _butterfly(found, half, wide), found
    return found


def _halves(points: int) -> list[int]:
    """Return how far apart what a pass adds is, pass by pass."""
    return [1 << i for i in range(points.bit_length() - 1)]


def _butterfly(values: NDArray[Any], half: int, out: NDArray[Any]) -> NDArray[Any]:
    """Return the sums and the differences of what is `half` apart, in `out`."""
    points, width = values.shape
    pairs, found = (array.reshape(points // (2 * half), 2, half, width) for array in (values, out))
    np.add(pairs[:, 0], pairs[:, 1], out=found[:, 0])
    np.subtract(pairs[:, 0], pairs[:, 1], out=found[:, 1])
    return out
