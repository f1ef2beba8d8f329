"""Top k: the largest values of all matrices together, as 2 bits or half precision each; the rest is nothing.

What is left out is nearly everything, and is right only because it is added to what is sent next: `feedback` (Stich et
al. 2018, arXiv:1809.07599). That values need no more than a sign and one of two magnitudes is SparseLoCo's finding
(Sarfi et al. 2025, arXiv:2508.15706).

The k largest magnitudes are chosen over all matrices at once; of equal ones at the edge the first are. k is a share of
the values, rounded up.

Payload, where the values stand in the order of their indices in all matrices, one after the other:

    2bit    low f4, high f4, values (k x 2 bits: is it negative, is it high), indices
    fp16    scale f4, values (k) f2 between -1 and 1, indices

`rice` has the indices. low and high are the two magnitudes with the least squared error.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedmq.compress import rice
from fedmq.compress.halves import to_fp16
from fedmq.compress.layers import Matrix, Shapes
from fedmq.compress.scales import require_scales
from fedmq.compress.units import UNIT_BYTES, from_units
from fedmq.delta import Vector
from fedmq.errors import BadPayload
from fedmq.messages import Buffer

SCALE_BYTES = 4
TINY = np.finfo(np.float32).tiny
STRIDE = 17


class Form(Protocol):
    """How the chosen values are written."""

    name: str

    def size_bytes(self, count: int) -> int:
        """Return the bytes of so many values."""

    def pack(self, values: Vector) -> bytes:
        """Return at least one value; where any is not finite, what `unpack` refuses."""

    def unpack(self, codec: str, payload: Buffer, count: int) -> Vector:
        """Return the values. Raises BadPayload."""


class TopK:
    """percent: of the values of all matrices that are sent, rounded up to a whole one."""

    feedback = True

    def __init__(self, percent: int, form: Form) -> None:
        self.name = f"top{percent}-{form.name}"
        self._percent, self._form = percent, form

    def most_bytes(self, shapes: Shapes) -> int:
        """Return the bytes of the values, and of the indices where they lie at their worst."""
        size = sum(rows * columns for rows, columns in shapes)
        count = self._count(size)
        return self._form.size_bytes(count) + rice.most_bytes(count, size)

    def pack(self, matrices: Sequence[Matrix], seed: int) -> Buffer:
        """Choose the largest; what is not finite counts as the largest of all."""
        flat = np.concatenate([np.zeros(0, np.float32), *(matrix.ravel() for matrix in matrices)])
        if not flat.size:
            return b""
        chosen = largest(flat, self._count(flat.size))
        return self._form.pack(flat[chosen]) + rice.encode(chosen, flat.size)

    def unpack(self, payload: Buffer, into: Sequence[Matrix]) -> None:
        """Write the values where they belong, and zeros elsewhere."""
        sizes = [matrix.size for matrix in into]
        size = sum(sizes)
        count = self._count(size)
        middle = self._form.size_bytes(count)
        if len(payload) < middle:
            raise BadPayload(f"{self.name} payload with {len(payload)} bytes of matrices, {count} values need {middle}")
        indices = rice.decode(self.name, memoryview(payload)[middle:], count, size)
        values = self._form.unpack(self.name, payload, count) if count else np.zeros(0, np.float32)
        stops = np.cumsum([0, *sizes])
        places = np.searchsorted(indices, stops)
        for number, matrix in enumerate(into):
            mine = slice(places[number], places[number + 1])
            matrix[...] = 0.0
            matrix.reshape(-1)[indices[mine] - stops[number]] = values[mine]

    def _count(self, size: int) -> int:
        return -(-size * self._percent // 100)


class TwoBits:
    """A sign and one of two magnitudes."""

    name = "2bit"

    def size_bytes(self, count: int) -> int:
        """Return 2 bits per value and 8 bytes, or nothing for nothing."""
        return 2 * SCALE_BYTES + (2 * count + 7) // 8 if count else 0

    def pack(self, values: Vector) -> bytes:
        """Round each magnitude to the nearer of two."""
        magnitudes = np.abs(values)
        low, high, edge = two_magnitudes(magnitudes) if np.isfinite(magnitudes).all() else (np.nan,) * 3
        bits = np.stack([values < 0, magnitudes > edge], axis=1)
        return np.array([low, high], "<f4").tobytes() + np.packbits(bits, bitorder="little").tobytes()

    def unpack(self, codec: str, payload: Buffer, count: int) -> Vector:
        """Look the magnitudes up."""
        low, high = _scales(codec, payload, 2)
        packed = np.frombuffer(payload, np.uint8, self.size_bytes(count) - 2 * SCALE_BYTES, 2 * SCALE_BYTES)
        bits = np.unpackbits(packed, count=2 * count, bitorder="little")
        held = np.array([low, -low, high, -high], np.float32)
        return held.take(bits[::2] | bits[1::2] << 1)


class Fp16Values:
    """Half precision, beside one scale."""

    name = "fp16"

    def size_bytes(self, count: int) -> int:
        """Return 2 bytes per value and 4, or nothing for nothing."""
        return SCALE_BYTES + UNIT_BYTES * count if count else 0

    def pack(self, values: Vector) -> bytes:
        """Scale to 1. Values so small that their scale is subnormal are sent as zeros."""
        scale = np.abs(values).max()
        if not np.isfinite(scale):
            return np.array(np.nan, "<f4").tobytes() + bytes(UNIT_BYTES * len(values))
        scaled = values / scale if scale >= TINY else np.zeros_like(values)
        return np.array(scale, "<f4").tobytes() + to_fp16(scaled)

    def unpack(self, codec: str, payload: Buffer, count: int) -> Vector:
        """Multiply by the scale."""
        return from_units(codec, payload, count, SCALE_BYTES) * _scales(codec, payload, 1)


def largest(flat: Vector, count: int) -> NDArray[np.int64]:
    """Return, rising, where the `count` largest magnitudes stand; of equal ones at the edge the first. NaN is large."""
    magnitudes = np.abs(flat)
    magnitudes[np.isnan(magnitudes)] = np.inf
    places = np.flatnonzero(magnitudes >= _floor(magnitudes, count))
    if len(places) < count:
        places = np.arange(flat.size)
    found = magnitudes[places]
    edge = np.partition(found, len(found) - count)[len(found) - count]
    above, equal = places[found > edge], places[found == edge]
    return np.sort(np.concatenate([above, equal[: count - len(above)]]))


def _floor(magnitudes: Vector, count: int) -> np.float32:
    """Return a magnitude that probably `count` reach and hardly more, by a sample: looking at all takes 5 times longer.

    The stride is a prime, so that the sample is of all columns.
    """
    sample = magnitudes[::STRIDE]
    reach = min(len(sample), count // STRIDE + 4 * math.isqrt(count // STRIDE) + 1)
    return np.float32(np.partition(sample, len(sample) - reach)[len(sample) - reach])


def two_magnitudes(magnitudes: Vector) -> tuple[float, float, float]:
    """Return the two magnitudes that are nearest to these in squares, and the largest that belongs to the low one.

    In one dimension the best two clusters are a lower and an upper part of what is sorted, so all cuts are tried.
    """
    rising = np.sort(magnitudes).astype(np.float64)
    lower = np.cumsum(rising)
    counts = np.arange(1, len(rising) + 1)
    upper, others = lower[-1] - lower, counts[::-1] - 1
    explained = lower**2 / counts + np.divide(upper**2, others, out=np.zeros_like(upper), where=others > 0)
    cut = int(np.argmax(explained))
    low = lower[cut] / counts[cut]
    return low, (upper[cut] / others[cut] if others[cut] else low), rising[cut]


def _scales(codec: str, payload: Buffer, count: int) -> Vector:
    scales = np.frombuffer(payload, dtype="<f4", count=count).astype(np.float32, copy=False)
    require_scales(codec, scales)
    return scales
