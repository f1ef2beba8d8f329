"""Error feedback: what a biased codec loses of one update is in the next.

A codec with `feedback` sends C(delta + residual), and the residual becomes what that lost of it (Seide et al. 2014;
Karimireddy et al. 2019, arXiv:1901.09847). A refused update returns whole. So at any time, up to float32 rounding,

    sum of the decoded deltas that were accepted + the one on its way + residual = sum of the deltas that were trained
"""

import math

import numpy as np

from fedmq.compress import Codec
from fedmq.delta import Arrays, Delta, norm
from fedmq.errors import BadPayload
from fedmq.messages import Buffer


def squeezed(codec: Codec, delta: Delta, residual: Delta | None, seed: int) -> tuple[Buffer, Delta | None]:
    """Return the payload of delta + residual, and what of that it lost.

    Where that cannot be told, because something is not finite, the payload is of the delta alone, for the aggregator to
    refuse, and the residual stays as it was.
    """
    whole = _sum(delta, residual)
    payload = codec.pack(whole, seed)
    try:
        decoded = codec.unpack(payload, delta.schema)
    except BadPayload:
        return codec.pack(delta, seed), residual
    with np.errstate(over="ignore", invalid="ignore"):
        lost = Delta(Arrays(delta.schema, whole.flat - decoded.flat))
    if not math.isfinite(norm(lost)):
        return codec.pack(delta, seed), residual
    return payload, lost


def regained(decoded: Delta, residual: Delta | None) -> Delta | None:
    """Return the residual with all of a refused delta in it, or as it was if that is not finite."""
    whole = _sum(decoded, residual)
    return whole if math.isfinite(norm(whole)) else residual


def _sum(delta: Delta, residual: Delta | None) -> Delta:
    if residual is None:
        return delta
    with np.errstate(over="ignore", invalid="ignore"):
        return Delta(Arrays(delta.schema, delta.flat + residual.flat))
