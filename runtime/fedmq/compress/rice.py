"""Rising indices in nearly as few bits as there are ways to choose them: log2 C(size, count).

The gap between an index and the one before is written as gap >> b in unary and its b low bits as they are, where b is
the number for which that is shortest (Rice 1979: Golomb's code, 1966, with a power of two). For indices that are spread
evenly this comes within 2 % of the entropy at any density up to a twentieth, and within 0.4 % at a hundredth.

    b u1, low bits (count x b bits), unary (for each gap so many zeros and a one)

Both bit strings begin with the least significant bit of their first byte, are filled up with zeros to a whole byte, and
are kept apart so that neither needs a loop to read. No index at all takes no byte at all.
"""

import numpy as np
from numpy.typing import NDArray

from fedmq.errors import BadPayload
from fedmq.messages import Buffer

Indices = NDArray[np.int64]


def most_bytes(count: int, size: int) -> int:
    """Return the most bytes that `count` rising indices below `size` can take: what one b takes at the worst."""
    if not count:
        return 0
    return min(1 + _bytes(count * b) + _bytes(count + ((size - count) >> b)) for b in range(size.bit_length()))


def encode(indices: Indices, size: int) -> bytes:
    """Return the shortest coding of strictly rising indices below `size`."""
    if not len(indices):
        return b""
    gaps = np.diff(indices, prepend=-1) - 1
    lengths = [_bytes(len(gaps) * b) + _bytes(len(gaps) + int((gaps >> b).sum())) for b in range(size.bit_length())]
    b = int(np.argmin(lengths))
    low = ((gaps[:, None] >> np.arange(b)) & 1).astype(np.uint8)
    ends = np.cumsum((gaps >> b) + 1) - 1
    unary = np.zeros(ends[-1] + 1, np.uint8)
    unary[ends] = 1
    return bytes([b]) + _packed(low) + _packed(unary)


def decode(codec: str, payload: Buffer, count: int, size: int) -> Indices:
    """Return the indices; raises BadPayload unless they are `count` that rise and stay below `size`."""
    if not count:
        if len(payload):
            raise BadPayload(f"{codec} payload has {len(payload)} bytes for 0 indices")
        return np.zeros(0, np.int64)
    b = payload[0] if len(payload) else 0
    if b >= size.bit_length():
        raise BadPayload(f"{codec} gaps below {size} with {b} low bits, the most is {size.bit_length() - 1}")
    middle = 1 + _bytes(count * b)
    if len(payload) <= middle:
        raise BadPayload(f"{codec} payload has {len(payload)} bytes for {count} indices, more than {middle} are needed")
    ends = np.flatnonzero(np.unpackbits(np.frombuffer(payload, np.uint8, offset=middle), bitorder="little"))
    if len(ends) != count or _bytes(int(ends[-1]) + 1) != len(payload) - middle:
        raise BadPayload(f"{codec} payload has {len(ends)} gaps in {len(payload) - middle} bytes, not {count}")
    bits = np.unpackbits(np.frombuffer(payload, np.uint8, middle - 1, 1), count=count * b, bitorder="little")
    gaps = (np.diff(ends, prepend=-1) - 1) << b
    for place, one in enumerate(bits.reshape(count, b).T):
        gaps |= one.astype(np.int64) << place
    indices = np.cumsum(gaps + 1) - 1
    if indices[-1] >= size:
        raise BadPayload(f"{codec} index of {indices[-1]}, the schema has {size} values")
    return indices


def _packed(bits: NDArray[np.uint8]) -> bytes:
    return np.packbits(bits, bitorder="little").tobytes()


def _bytes(bits: int) -> int:
    return (bits + 7) // 8
