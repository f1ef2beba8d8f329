"""Compression: a delta to a payload and back. One small file per codec, all of them in one registry.

A codec is chosen per direction in the configuration and negotiated in the handshake. It knows neither the wire nor who
sends; it is handed a schema, so a payload carries values alone, and its size is checked against the schema before it is
read.
"""

from collections.abc import Mapping
from typing import Protocol

from fedmq.compress.dense import Bf16, Fp16, Fp32
from fedmq.compress.eden import Eden
from fedmq.compress.int4 import Int4
from fedmq.compress.int8 import Int8
from fedmq.compress.layers import Layered
from fedmq.compress.rank import Fp16Factors, Int8Factors, Rank
from fedmq.compress.topk import Fp16Values, TopK, TwoBits
from fedmq.delta import Arrays, Schema
from fedmq.errors import ConfigInvalid
from fedmq.messages import Buffer


class Codec(Protocol):
    """What every codec offers. Both methods are pure; randomness comes from the seed alone.

    lossless   what comes back is what was packed, to the bit
    feedback   it is biased: only correct where what it loses is added to what is sent next
    """

    name: str
    lossless: bool
    feedback: bool

    def size_bytes(self, schema: Schema) -> int:
        """Return the size of a payload; of a codec whose payloads vary, the most that one can have."""

    def pack(self, arrays: Arrays, seed: int) -> Buffer:
        """Return the payload. `seed` serves codecs that round stochastically."""

    def unpack(self, payload: Buffer, schema: Schema) -> Arrays:
        """Return the arrays; a view of the payload where that is possible. Raises BadPayload."""


_ALL: tuple[Codec, ...] = (
    Fp32(),
    Fp16(),
    Bf16(),
    Int8(),
    Layered(Int4()),
    Layered(Eden(2)),
    Layered(Eden(1)),
    *(Layered(Rank(rank, form)) for rank in (2, 4, 8) for form in (Fp16Factors(), Int8Factors())),
    *(Layered(TopK(percent, form)) for percent, form in ((1, TwoBits()), (1, Fp16Values()), (5, TwoBits()))),
)
CODECS: Mapping[str, Codec] = {codec.name: codec for codec in _ALL}


def codec(name: str) -> Codec:
    """Return the codec of that name, or raise ConfigInvalid with those that exist."""
    try:
        return CODECS[name]
    except KeyError:
        raise ConfigInvalid(f"no codec named {name!r}; there are {', '.join(CODECS)}") from None
