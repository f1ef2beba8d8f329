"""Scales: one bf16 per row or per block of a matrix.

fp16 would be finer and end at 6e-8, and the steps of a delta of 1e-6 lie there; bf16 has the range of float32, and its
rounding (0.4 %) is nothing beside that of 4 bits or fewer.
"""

import numpy as np

from fedmq.compress.halves import from_bf16
from fedmq.delta import Vector
from fedmq.errors import BadPayload
from fedmq.messages import Buffer

SCALE_BYTES = 2
# A scale below is sent as zero: dividing by a subnormal could overflow.
SMALLEST = np.finfo(np.float32).tiny


def read_scales(codec: str, payload: Buffer, count: int, offset: int = 0) -> Vector:
    """Return that many scales; raises BadPayload unless all are finite and none is negative."""
    scales = from_bf16(np.frombuffer(payload, dtype="<u2", count=count, offset=offset))
    require_scales(codec, scales)
    return scales


def require_scales(codec: str, scales: Vector) -> None:
    """Raise BadPayload unless all scales are finite and none is negative."""
    if not (np.isfinite(scales).all() and (scales >= 0).all()):
        raise BadPayload(f"{codec} scales from {scales.min()} to {scales.max()}; a scale is finite and not negative")
