"""Rank r: a matrix as two thin factors, as in PowerSGD (Vogels et al. 2019, arXiv:1905.13727); see `factors`.

A row x column matrix takes r (rows + columns) numbers. What the product misses may be most of a delta, and is lost for
good unless it is added to the next one: hence `feedback`.

Payload, matrix by matrix; r is no more than the rows or columns that there are:

    fp16    one exponent i2, left (rows, r) f2, right (columns, r) f2, all of them between -1 and 1
    int8    r exponents i2, left (rows, r) i1, right (columns, r) i1

The matrix is left @ right.T, right times 2^exponent first: the whole of it, or column by column, so that the lesser
columns keep their levels. The product is exact in the float that it is computed in, whatever the order of its sums, and
so every machine decodes to the same bits:

    fp16    halves up to 1 are multiples of 2^-24; 8 products of two take 51 bits, and float64 has 53
    int8    8 products of two levels take 17 bits, and 24 where exponents differ by 7; float32 has 24
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedmq.compress.factors import factors
from fedmq.compress.halves import to_fp16
from fedmq.compress.layers import Matrix, Shapes
from fedmq.compress.sizes import require_matrix_size
from fedmq.compress.thin import times
from fedmq.compress.units import UNIT_BYTES, from_units
from fedmq.errors import BadPayload
from fedmq.messages import Buffer

EXPONENT_BYTES = 2
LEAST, MOST = -110, 110  # of exponents: no product is then too large for a float32, and none is subnormal
SPREAD = 7
NOT_FINITE = 2**15 - 1  # the exponent of a matrix that cannot be sent, so that it is refused
LEVELS = 127
MOST_RANK = 8

Exponents = NDArray[np.int64]
Floats = NDArray[np.floating]


class Form(Protocol):
    """How two factors are written."""

    name: str

    def exponents(self, rank: int) -> int:
        """Return how many there are."""

    def size_bytes(self, numbers: int) -> int:
        """Return the bytes of so many numbers of the factors."""

    def pack(self, left: Matrix, right: Matrix) -> tuple[Exponents, bytes]:
        """Return the exponents and what is written; no value of `left` is beyond 1."""

    def unpack(self, codec: str, payload: Buffer, exponents: Exponents, rank: int, into: Matrix) -> None:
        """Write the product. Raises BadPayload."""


class Rank:
    """The factors of every matrix."""

    feedback = True

    def __init__(self, rank: int, form: Form) -> None:
        assert 0 < rank <= MOST_RANK
        self.name = f"rank{rank}-{form.name}"
        self._most, self._form = rank, form

    def most_bytes(self, shapes: Shapes) -> int:
        """Return what matrices of these shapes take."""
        return sum(map(self._size_bytes, shapes))

    def pack(self, matrices: Sequence[Matrix], seed: int) -> Buffer:
        """Factorise each; the seed is of the power iteration's start. What is too small for an exponent is zero."""
        rng = np.random.default_rng(seed)
        return b"".join(self._pack(matrix, rng) for matrix in matrices if matrix.size)

    def unpack(self, payload: Buffer, into: Sequence[Matrix]) -> None:
        """Multiply the factors, which gives something finite whatever they are."""
        require_matrix_size(self.name, payload, self.most_bytes([matrix.shape for matrix in into]))
        start, view = 0, memoryview(payload)
        for matrix in into:
            size = self._size_bytes(matrix.shape)
            if size:
                self._unpack(view[start : start + size], matrix)
            start += size

    def _pack(self, matrix: Matrix, rng: np.random.Generator) -> bytes:
        rank, size_bytes = self._rank(matrix.shape), self._size_bytes(matrix.shape)
        exponents, body = np.zeros(self._form.exponents(rank), np.int64), b""
        peak = max(float(matrix.max()), -float(matrix.min()))
        if not np.isfinite(peak):
            exponents += NOT_FINITE
        elif peak >= 2.0**LEAST:
            power = int(np.frexp(peak)[1])
            found, written = self._form.pack(*factors(matrix * np.float32(2.0**-power), rank, rng))
            if found.min() + power >= LEAST:
                exponents, body = found + power, written
        return (exponents.astype("<i2").tobytes() + body).ljust(size_bytes, b"\0")

    def _unpack(self, payload: memoryview, into: Matrix) -> None:
        rank = self._rank(into.shape)
        count = self._form.exponents(rank)
        exponents = np.frombuffer(payload, "<i2", count).astype(np.int64)
        if exponents.min() < LEAST or exponents.max() > MOST or np.ptp(exponents) > SPREAD:
            raise BadPayload(
                f"{self.name} exponents from {exponents.min()} to {exponents.max()}; they lie between {LEAST} and "
                f"{MOST}, at most {SPREAD} apart"
            )
        self._form.unpack(self.name, payload[count * EXPONENT_BYTES :], exponents, rank, into)

    def _rank(self, shape: tuple[int, ...]) -> int:
        return min(self._most, *shape)

    def _size_bytes(self, shape: tuple[int, ...]) -> int:
        rank = self._rank(shape)
        return (EXPONENT_BYTES * self._form.exponents(rank) + self._form.size_bytes(rank * sum(shape))) if rank else 0


class Fp16Factors:
    """2 bytes per number of a factor, and one exponent."""

    name = "fp16"

    def exponents(self, rank: int) -> int:
        """Return 1."""
        return 1

    def size_bytes(self, numbers: int) -> int:
        """Return 2 bytes per number."""
        return UNIT_BYTES * numbers

    def pack(self, left: Matrix, right: Matrix) -> tuple[Exponents, bytes]:
        """Bring the right factor below 1."""
        power = np.frexp(np.abs(right).max(keepdims=True)[0])[1].astype(np.int64)
        return power, to_fp16(left) + to_fp16(right * np.exp2(-power).astype(np.float32))

    def unpack(self, codec: str, payload: Buffer, exponents: Exponents, rank: int, into: Matrix) -> None:
        """Multiply in float64, and round once."""
        units: Floats = from_units(codec, payload, rank * sum(into.shape)).astype(np.float64)
        left, right = _parted(units, rank, into.shape)
        times(left, (right * np.exp2(exponents)).T, into)


class Int8Factors:
    """1 byte per number of a factor, rounded to nearest, and an exponent per column."""

    name = "int8"

    def exponents(self, rank: int) -> int:
        """Return 1 per column."""
        return rank

    def size_bytes(self, numbers: int) -> int:
        """Return 1 byte per number."""
        return numbers

    def pack(self, left: Matrix, right: Matrix) -> tuple[Exponents, bytes]:
        """Give each column of the right factor the finest step of a power of two with which its peak is a level."""
        right = right / np.float32(LEVELS)  # as much as left @ right.T grows by 127 levels for 1
        peaks = np.abs(right).max(axis=0)
        exponents = np.where(peaks > 0, np.frexp(peaks / LEVELS)[1].astype(np.int64), LEAST)
        exponents = np.maximum(exponents, exponents.max() - SPREAD)
        levels = [np.rint(one).astype(np.int8) for one in (left * LEVELS, right * np.exp2(-exponents))]
        return exponents, b"".join(one.tobytes() for one in levels)

    def unpack(self, codec: str, payload: Buffer, exponents: Exponents, rank: int, into: Matrix) -> None:
        """Multiply the levels in float32, and round nothing."""
        levels: Floats = np.frombuffer(payload, np.int8).astype(np.float32)
        left, right = _parted(levels, rank, into.shape)
        times(left, (right * np.exp2(exponents).astype(np.float32)).T, into)


def _parted(numbers: Floats, rank: int, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    rows, columns = shape
    return numbers[: rank * rows].reshape(rows, rank), numbers[rank * rows :].reshape(columns, rank)
