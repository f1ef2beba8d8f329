"""One or two bits per value of a matrix, after a rotation that makes all values alike (EDEN, Vargaftik et al. 2022,
arXiv:2108.08842; with one bit it is their DRIVE, arXiv:2105.08339).

A block x of 512 values is rotated, y = H D x, where D flips signs at random and H is Hadamard's matrix: whatever x was,
y looks normal, of standard deviation |x|. Each y becomes the nearest of the levels that suit a normal variable best
(Lloyd-Max): -1, 1, or with two bits -10, -3, 3, 10, in units that do not matter, because the scale is not the usual
one but |x|^2 / <y, levels>. That makes the mean over rotations of

    scale D H levels

x itself, at the price of some more variance: the squared error is pi/2 - 1 = 0.571 times |x|^2 with one bit, 0.133 with
two, and of a mean over K nodes a K-th of that. For a rotation drawn from all rotations that is exact; for this one it
holds where no few values outweigh the rest of a block, which is so in dense deltas and not in a block of two values.

H times levels is whole numbers, whatever adds them in whatever order, so what is decoded has the same bits everywhere.

A matrix is cut into runs of 262,144 values, the last one filled up with zeros to a multiple of 512. The values of a run
lie as (512 / g, blocks, g), g = 8 values in a byte of the payload, or 4: a block is made of groups that are far apart.
Bit i of a byte is set where value i of its group is not negative; with two bits, bit 4 + i where it is large.

Payload: the seed, 8 bytes; per block of each run of each matrix its scale, bf16; per run (512 / g, blocks) bytes. A
value is flipped where its bit of a second such array is set, whose bytes are those of numpy's PCG64 under the seed.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fedmq.compress.hadamard import Levels, transform
from fedmq.compress.hadamard import matrix as hadamard
from fedmq.compress.halves import to_bf16
from fedmq.compress.layers import Matrix, Shapes
from fedmq.compress.scales import SCALE_BYTES, SMALLEST, read_scales
from fedmq.compress.sizes import require_matrix_size
from fedmq.delta import Vector
from fedmq.messages import Buffer

BLOCK = 512
SEED_BYTES = 8
LEVELS = {1: (1,), 2: (3, 10)}
# Where a normal variable is nearer to the larger level. Lloyd-Max has levels of 0.4528 and 1.5104: 3 to 10.007.
LARGE_FROM = 0.9816
RUN = 512 * BLOCK  # long enough for few calls, and what lies between two passes over it need not leave the cache

Bytes = NDArray[np.uint8]


class Eden:
    """1 or 2 bits per value and 2 bytes per 512; unbiased, and stateless."""

    feedback = False

    def __init__(self, bits: int) -> None:
        self.name = f"eden{bits}"
        self._bits, self._group = bits, 8 // bits
        self._levels = LEVELS[bits]
        said = np.arange(256)[:, None] >> np.arange(8) & 1
        sign, large = 2 * said[:, : self._group] - 1, said[:, self._group :]
        levels = sign * np.array(self._levels)[large if bits == 2 else 0]
        # Every byte, as the levels of its group, transformed; and as the signs of one, +1 where the bit is not set.
        self._table = (levels @ hadamard(self._group)).astype(np.int8)
        self._signs = (-sign).astype(np.int8)

    def most_bytes(self, shapes: Shapes) -> int:
        """Return exactly 8 bytes, and per block 2 and 64 per bit."""
        return SEED_BYTES + sum(blocks for _, blocks in _runs(shapes)) * (SCALE_BYTES + BLOCK // self._group)

    def pack(self, matrices: Sequence[Matrix], seed: int) -> Buffer:
        """Rotate each block and keep what level each value is nearest to.

        matrices   a block with NaN or infinity gets a scale that is not finite either, which `unpack` refuses; one
                   whose scale would be subnormal is sent as zeros
        """
        runs = _runs([matrix.shape for matrix in matrices])
        scales, packed = [np.zeros(0, np.uint16)], []
        for values, flips in zip(_cut(matrices), self._flips(seed, runs), strict=True):
            whole = values
            if values.size < flips.size * self._group:
                whole = np.zeros(flips.size * self._group, np.float32)
                whole[: values.size] = values
            scale, found = self._packed(whole.reshape(len(flips), -1), flips)
            scales.append(to_bf16(scale))
            packed.append(found.tobytes())
        halves = np.concatenate(scales).astype("<u2", copy=False)
        return b"".join((seed.to_bytes(SEED_BYTES, "little"), halves.tobytes(), *packed))

    def unpack(self, payload: Buffer, into: Sequence[Matrix]) -> None:
        """Rotate the levels of each block back and multiply by its scale; what overflows is for the guard to see."""
        shapes = [matrix.shape for matrix in into]
        require_matrix_size(self.name, payload, self.most_bytes(shapes))
        runs = _runs(shapes)
        scales = read_scales(self.name, payload, sum(blocks for _, blocks in runs), SEED_BYTES)
        offset, block = SEED_BYTES + SCALE_BYTES * len(scales), 0
        room = Levels(BLOCK * max((blocks for _, blocks in runs), default=0))
        flipped = self._flips(int.from_bytes(payload[:SEED_BYTES], "little"), runs)
        for values, flips in zip(_cut(into), flipped, strict=True):
            packed = np.frombuffer(payload, np.uint8, flips.size, offset).reshape(flips.shape)
            whole = values
            if values.size < flips.size * self._group:
                whole = np.empty(flips.size * self._group, np.float32)
            scale = scales[block : block + flips.shape[1]].repeat(self._group)
            self._unpack(packed, flips, scale, room, whole.reshape(len(flips), -1))
            if whole is not values:
                values[...] = whole[: values.size]
            offset, block = offset + flips.size, block + flips.shape[1]

    def _packed(self, values: Matrix, flips: Bytes) -> tuple[NDArray[np.float32], Bytes]:
        """Return the scales and the bytes of a run (512 / g, blocks x g)."""
        blocks, group = flips.shape[1], self._group
        peak = np.abs(values).max(axis=0).reshape(blocks, group).max(axis=1)
        vanishing = peak < SMALLEST
        peak[vanishing] = np.inf
        with np.errstate(invalid="ignore"):
            # By the largest value, so that no square overflows or vanishes.
            values = values / peak.repeat(group)
            values *= Levels(values.size).look_up(self._signs, flips)
            # The places of a group become the slowest axis, along which a byte is put together.
            places = values.reshape(-1, blocks, group).transpose(2, 0, 1)
            rotated = transform(places.reshape(BLOCK, blocks))
            said = [rotated >= 0]
            size = np.abs(rotated, out=rotated)
            length = np.einsum("ib,ib->b", size, size)
            fit = size.sum(axis=0) * np.float32(self._levels[0])
            if self._bits == 2:
                said.append(size > np.sqrt(length / BLOCK) * np.float32(LARGE_FROM))
                fit += (size * said[1]).sum(axis=0) * np.float32(self._levels[1] - self._levels[0])
            scale = peak * (length / BLOCK / fit)
        scale[vanishing | (scale < SMALLEST)] = 0.0
        planes = np.concatenate(said).reshape(8, -1, blocks)
        return scale, np.packbits(planes, axis=0, bitorder="little")[0]

    def _unpack(self, packed: Bytes, flips: Bytes, scale: Vector, room: Levels, out: Matrix) -> None:
        """Write the values of a run (512 / g, blocks x g)."""
        found = room.transform(self._table, packed, self._levels[-1] * self._group)
        found *= room.look_up(self._signs, flips)
        np.copyto(out, found)
        with np.errstate(over="ignore"):
            out *= scale

    def _flips(self, seed: int, runs: Sequence[tuple[int, int]]) -> Iterator[Bytes]:
        """Yield per run (512 / g, blocks) bytes whose bits say what is flipped."""
        rows, start = BLOCK // self._group, 0
        size = rows * sum(blocks for _, blocks in runs)
        stream = np.random.PCG64(seed).random_raw(-(-size // 8)).astype("<u8", copy=False).view(np.uint8)
        for _, blocks in runs:
            yield stream[start : start + rows * blocks].reshape(rows, blocks)
            start += rows * blocks


def _runs(shapes: Shapes) -> list[tuple[int, int]]:
    """Return per run how many values it has, and how many blocks."""
    sizes = [min(RUN, rows * columns - start) for rows, columns in shapes for start in range(0, rows * columns, RUN)]
    return [(size, -(-size // BLOCK)) for size in sizes]


def _cut(matrices: Sequence[Matrix]) -> Iterator[Vector]:
    """Yield the values of each run, as a view where a matrix is contiguous."""
    for matrix in matrices:
        flat = matrix.reshape(-1)
        for start in range(0, flat.size, RUN):
            yield flat[start : start + RUN]
