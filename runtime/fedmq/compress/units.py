"""Values between -1 and 1 as half precision, for codecs that send a scale beside them.

So what is sent has the range of the scale, and a delta of 1e-8 keeps its 11 significant bits.
"""

import numpy as np

from fedmq.compress.halves import from_fp16
from fedmq.delta import Vector
from fedmq.errors import BadPayload
from fedmq.messages import Buffer

UNIT_BYTES = 2


def from_units(codec: str, payload: Buffer, count: int, offset: int = 0) -> Vector:
    """Return that many values; raises BadPayload unless all lie between -1 and 1."""
    units = from_fp16(np.frombuffer(payload, dtype="<u2", count=count, offset=offset))
    if not (np.abs(units) <= 1).all():
        raise BadPayload(f"{codec} values from {units.min()} to {units.max()}; they lie between -1 and 1")
    return units
