"""Half a byte per value of a matrix and one scale per row, with stochastic rounding, so that the error has mean zero.

The scale of a row is its largest magnitude / 7, rounded up to a bf16, so that no value is clipped and the mean is kept.
A value v becomes floor(v / scale + u), u uniform in [0, 1), whose expectation is v / scale (QSGD, Alistarh et al. 2017,
arXiv:1610.02132, with a scale per row in place of the norm). A step is 18 times as wide as that of int8.

Payload: the scales of all rows, bf16; then level + 8, two to a byte, the lower half first, row by row across all
matrices. If their number is odd, the last half is 8.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedmq.compress.halves import from_bf16, up_to_bf16
from fedmq.compress.layers import Matrix, Shapes
from fedmq.compress.scales import SCALE_BYTES, SMALLEST, read_scales
from fedmq.compress.sizes import require_matrix_size
from fedmq.messages import Buffer

LEVELS = np.float32(7)
ZERO = 8


class Int4:
    """Half a byte per value and 2 bytes per row; unbiased."""

    name = "int4"
    feedback = False

    def most_bytes(self, shapes: Shapes) -> int:
        """Return exactly half a byte per value, rounded up once, and 2 bytes per row."""
        return SCALE_BYTES * _rows(shapes) + (_values(shapes) + 1) // 2

    def pack(self, matrices: Sequence[Matrix], seed: int) -> Buffer:
        """Scale each row to -7..7, then round up or down with the probabilities that keep the mean.

        matrices   a row with NaN or infinity gets a scale that is not finite either, which `unpack` refuses
        """
        rng = np.random.default_rng(seed)
        shapes = [matrix.shape for matrix in matrices]
        halves = np.empty(_rows(shapes), np.uint16)
        levels = np.full(_values(shapes) + _values(shapes) % 2, ZERO, np.uint8)
        row = value = 0
        for matrix in matrices:
            halves[row : row + len(matrix)], rounded = _rounded(matrix, rng)
            levels[value : value + matrix.size] = rounded.ravel()
            row, value = row + len(matrix), value + matrix.size
        return halves.astype("<u2", copy=False).tobytes() + (levels[::2] | levels[1::2] << 4).tobytes()

    def unpack(self, payload: Buffer, into: Sequence[Matrix]) -> None:
        """Multiply each row by its scale; the product may overflow to infinity, which is for the guard to see."""
        shapes = [matrix.shape for matrix in into]
        require_matrix_size(self.name, payload, self.most_bytes(shapes))
        scales = read_scales(self.name, payload, _rows(shapes))
        held = np.frombuffer(payload, dtype=np.uint8, offset=SCALE_BYTES * len(scales))
        levels = np.empty(2 * held.size, np.int8)
        levels[::2], levels[1::2] = held & 15, held >> 4
        levels -= ZERO
        row = value = 0
        for matrix in into:
            block = levels[value : value + matrix.size].reshape(matrix.shape)
            with np.errstate(over="ignore"):
                np.multiply(block, scales[row : row + len(matrix), None], out=matrix)
            row, value = row + len(matrix), value + matrix.size


def _rounded(matrix: Matrix, rng: np.random.Generator) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Return per row its scale as a bf16, and per value its level + 8."""
    halves = up_to_bf16(np.abs(matrix).max(axis=1, initial=0.0) / LEVELS)
    scale = from_bf16(halves)
    vanishing = scale < SMALLEST
    halves[vanishing], scale[vanishing] = 0, np.inf
    with np.errstate(invalid="ignore"):
        scaled = matrix / scale[:, None]
        scaled += rng.random(matrix.shape, dtype=np.float32)
        np.floor(scaled, out=scaled)
        # The largest value of a row plus its noise may reach 8 by rounding.
        np.clip(scaled, -LEVELS, LEVELS, out=scaled)
        return halves, (scaled + ZERO).astype(np.uint8)


def _rows(shapes: Shapes) -> int:
    return sum(rows for rows, _ in shapes)


def _values(shapes: Shapes) -> int:
    return sum(rows * columns for rows, columns in shapes)
