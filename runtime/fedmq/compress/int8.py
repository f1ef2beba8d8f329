"""One signed byte per value and one float32 scale per row, with stochastic rounding, so that the error has mean zero.

The scale of a row is its largest magnitude / 127. A value v becomes floor(v / scale + u), u uniform in [0, 1), whose
expectation is v / scale: an average over nodes converges to the average of what they meant (QSGD, Alistarh et al. 2017,
arXiv:1610.02132, with a scale per row in place of the norm).

Payload: the scales, 4 bytes each, then the levels, row by row.
"""

from collections.abc import Iterator

import numpy as np

from fedmq.compress.scales import require_scales
from fedmq.compress.sizes import require_size
from fedmq.delta import Arrays, Schema
from fedmq.messages import Buffer

LEVELS = np.float32(127)


class Int8:
    """1 byte per value and 4 per row; unbiased."""

    name = "int8"
    lossless = False
    feedback = False

    def size_bytes(self, schema: Schema) -> int:
        """Return 1 byte per value and 4 per row."""
        return schema.size + 4 * _row_count(schema)

    def pack(self, arrays: Arrays, seed: int) -> Buffer:
        """Scale each row to -127..127, then round up or down with the probabilities that keep the mean.

        arrays     a row with NaN or infinity gets a scale that is not finite either, which `unpack` refuses
        """
        rng = np.random.default_rng(seed)
        scales = np.empty(_row_count(arrays.schema), np.float32)
        levels = np.empty(arrays.schema.size, np.int8)
        for place, lines, shape in _blocks(arrays.schema):
            values = arrays.flat[place].reshape(shape)
            scale = np.abs(values).max(axis=1, initial=0.0) / LEVELS
            # A row so small that its scale is subnormal is sent as zeros: dividing by it could overflow.
            vanishing = scale < np.finfo(np.float32).tiny
            scale[vanishing] = np.inf
            with np.errstate(invalid="ignore"):
                scaled = values / scale[:, None]
                scaled += rng.random(shape, dtype=np.float32)
                np.floor(scaled, out=scaled)
                # The largest value of a row plus its noise may reach 128 by rounding.
                np.clip(scaled, -LEVELS, LEVELS, out=scaled)
                levels[place] = scaled.ravel()
            scale[vanishing] = 0.0
            scales[lines] = scale
        return scales.astype("<f4", copy=False).tobytes() + levels.tobytes()

    def unpack(self, payload: Buffer, schema: Schema) -> Arrays:
        """Multiply each row by its scale; the product may overflow to infinity, which is for the guard to see."""
        require_size(self.name, payload, self.size_bytes(schema))
        scales = np.frombuffer(payload, dtype="<f4", count=_row_count(schema))
        require_scales(self.name, scales)
        levels = np.frombuffer(payload, dtype=np.int8, offset=scales.nbytes)
        flat = np.empty(schema.size, np.float32)
        for place, lines, shape in _blocks(schema):
            with np.errstate(over="ignore"):
                np.multiply(levels[place].reshape(shape), scales[lines, None], out=flat[place].reshape(shape))
        return Arrays(schema, flat)


def _row_count(schema: Schema) -> int:
    return sum(rows for rows, _ in schema.rows)


def _blocks(schema: Schema) -> Iterator[tuple[slice, slice, tuple[int, int]]]:
    """Yield per array where its values lie, where its rows lie, and its (rows, columns)."""
    value = row = 0
    for rows, columns in schema.rows:
        yield slice(value, value + rows * columns), slice(row, row + rows), (rows, columns)
        value, row = value + rows * columns, row + rows
