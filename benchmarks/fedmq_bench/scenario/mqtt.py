"""MQTT 5: where in a connection with a broker one packet ends and the next begins, and which of them carry frames.

A packet is a byte with its kind, a length of one to four bytes, and as much (OASIS MQTT 5.0, section 2.1). A frame is
the payload of a publication behind the head of its piece (`fedmq.transports.pieces`); the others, acknowledgements and
who is here, are the protocol's.
"""

from collections.abc import Iterator

from fedmq.codec import Frame
from fedmq.transports.pieces import HEAD
from fedmq_bench.scenario.wire import Unit

PUBLISH, QOS = 3, 0b0110
SPOKEN = ("up", "down")  # levels of topics with frames for one; those for all end with these:
FOR_ALL = ("model", "keyframe")


class Mqtt:
    """One direction of one connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Unit]:
        """Take what has arrived, and yield what is complete with it."""
        self._buffer += data
        while (found := _length(self._buffer, 1)) is not None and len(self._buffer) >= sum(found):
            begin, end = found[1], sum(found)
            whole = bytes(self._buffer[:end])
            del self._buffer[:end]
            yield Unit(whole, _frame(whole, begin))


def _length(buffer: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """Return a number of variable length, and where it ends; None while it is not all there."""
    value = 0
    for place in range(4):
        if at + place >= len(buffer):
            return None
        byte = buffer[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError("a length of more than four bytes is none of MQTT's")


def _frame(packet: bytes, at: int) -> Frame | None:
    if packet[0] >> 4 != PUBLISH:
        return None
    ends = at + 2 + int.from_bytes(packet[at : at + 2])
    levels = packet[at + 2 : ends].decode().split("/")
    if levels[-1] not in FOR_ALL and levels[-2] not in SPOKEN:
        return None
    ends += 2 if packet[0] & QOS else 0
    properties = _length(packet, ends)
    assert properties is not None
    return (packet[sum(properties) + HEAD.size :],)
