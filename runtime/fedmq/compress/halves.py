"""Two bytes for a float: half precision (fp16) and the upper half of a float32 (bf16), from float32 and back.

fp16 has 11 significant bits and ends at 65,504; bf16 has 8, and the range of float32. A finite value beyond the range
saturates; what is not finite stays so, and is refused by whoever looks. The bits are the same on every machine.
"""

import numpy as np
from numpy.typing import NDArray

from fedmq.delta import Vector

Halves = NDArray[np.uint16]

FP16_MAX = float(np.finfo(np.float16).max)
BF16_MAX = float(np.array([0x7F7F0000], np.uint32).view(np.float32)[0])
BF16_NAN = np.uint16(0x7FC0)
# Every half there is, widened: looking values up takes a third of the time of converting them.
WIDENED = np.arange(2**16, dtype="<u2").view("<f2").astype(np.float32)


def to_fp16(values: Vector) -> bytes:
    """Round to the nearest half, little-endian."""
    return _within(values, FP16_MAX).astype("<f2").tobytes()


def from_fp16(halves: Halves, out: Vector | None = None) -> Vector:
    """Widen halves that were read as unsigned numbers."""
    # No index is out of range; "clip" is the mode that does not look.
    return np.take(WIDENED, halves, out=out, mode="clip")


def to_bf16(values: Vector) -> Halves:
    """Round to the nearest bf16, a tie to the even one."""
    bits = _within(values, BF16_MAX).view(np.uint32)
    return _upper(bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1)), values)


def up_to_bf16(values: Vector) -> Halves:
    """Round numbers that are not negative to the next larger bf16, so that none is below what it stands for."""
    return _upper(_within(values, BF16_MAX).view(np.uint32) + np.uint32(0xFFFF), values)


def from_bf16(halves: Halves) -> Vector:
    """Widen, exactly."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _within(values: Vector, largest: float) -> Vector:
    """Return finite values clipped to the range, and the others as they are."""
    within = np.clip(values, -largest, largest)
    np.copyto(within, values, where=np.isinf(values))
    return within


def _upper(bits: NDArray[np.uint32], values: Vector) -> Halves:
    """Return the upper halves; where the carry of rounding could run through a NaN, a NaN."""
    halves = (bits >> 16).astype(np.uint16)
    halves[np.isnan(values)] = BF16_NAN
    return halves
