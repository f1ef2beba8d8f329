"""The Walsh-Hadamard transform of many blocks at once, by butterflies of plain additions.

Values lie as (points, width): the transform runs along the first axis, so every addition is of two long contiguous
runs. Transforms along different axes commute, so a block may be spread over several, and a first factor may be looked
up in a table. Nothing is normalised: H H = points.

No matrix product: BLAS adds in an order of its own on every machine, and both ends must get the same bits.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

BYTE = 127
Real = TypeVar("Real", np.float32, np.int8, np.int16)


def matrix(points: int) -> NDArray[np.int64]:
    """Return the Hadamard matrix in Sylvester's order; points is a power of two."""
    found = np.ones((1, 1), np.int64)
    while len(found) < points:
        found = np.block([[found, found], [found, -found]])
    return found


def transform(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the transform of (points, width) along the first axis; the values are lost."""
    return _passes(values, np.empty_like(values), 0, _bits(len(values)))


class Levels:
    """Memory for small numbers and their transform, up to `size` of them: fresh pages cost more than all that is done.

    What a method returns lies in it, and lasts until the next call.
    """

    def __init__(self, size: int) -> None:
        self._narrow, self._wide = np.empty((2, size), np.int8), np.empty((2, size), np.int16)

    def look_up(self, table: NDArray[np.int8], indices: NDArray[np.uint8]) -> NDArray[np.int8]:
        """Return rows of a table (256, g) at (points, width) indices, as (points, width x g)."""
        points, width = indices.shape
        group = table.shape[1]
        found = self._narrow[0, : indices.size * group].reshape(points, width * group)
        # A row is taken as one number of as many bytes; "clip" is the mode that does not look.
        number = f"i{group}"
        table.view(number).ravel().take(indices, out=found.view(number), mode="clip")
        return found

    def transform(self, table: NDArray[np.int8], indices: NDArray[np.uint8], largest: int) -> NDArray[np.int16]:
        """Return the transform of what is looked up: exact, in bytes for as long as sums fit.

        largest    what nothing in the table exceeds in magnitude; points x largest fits 16 bits
        """
        levels = self.look_up(table, indices)
        spare = self._narrow[1, : levels.size].reshape(levels.shape)
        words, others = self._wide[:, : levels.size].reshape(2, *levels.shape)
        count = _bits(len(levels))
        narrow = min(count, _bits(BYTE // largest))
        np.copyto(words, _passes(levels, spare, 0, narrow))
        return _passes(words, others, narrow, count)


def _passes(values: NDArray[Real], spare: NDArray[Real], first: int, last: int) -> NDArray[Real]:
    """Return the values after some passes, in one of the two arrays: pass k adds and subtracts what is 2^k apart."""
    points, width = values.shape
    for k in range(first, last):
        pairs = points >> k + 1, 2, width << k
        here, there = values.reshape(pairs), spare.reshape(pairs)
        np.add(here[:, 0], here[:, 1], out=there[:, 0])
        np.subtract(here[:, 0], here[:, 1], out=there[:, 1])
        values, spare = spare, values
    return values


def _bits(number: int) -> int:
    """Return the logarithm to base 2, rounded down."""
    return number.bit_length() - 1
