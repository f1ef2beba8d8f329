"""ZMTP: where on a ZeroMQ connection one frame ends and the next begins, as a relay between its ends can tell.

A connection begins with a greeting of 64 bytes, which either end sends piece by piece. Then come frames: a byte of
flags, a length of one byte or eight, and the body (RFC 23, https://rfc.zeromq.org/spec/23/). Only what is not encrypted
can be told apart; a scenario runs on loopback, where nothing is.
"""

from collections.abc import Iterator

from fedmq_bench.scenario.wire import Unit

GREETING_BYTES = 64
MORE, LONG, COMMAND = 1, 2, 4


class Zmtp:
    """One direction of one connection.

    envelope     parts before those of a frame: a node puts its name there
    """

    def __init__(self, envelope: int) -> None:
        self._envelope = envelope
        self._greeting = GREETING_BYTES
        self._buffer = bytearray()
        self._at = 0  # up to where the buffer is understood
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[Unit]:
        """Take what has arrived, and yield what is complete with it."""
        if self._greeting:
            piece, data = data[: self._greeting], data[self._greeting :]
            self._greeting -= len(piece)
            yield Unit(piece)
        self._buffer += data
        while (found := self._next()) is not None:
            flags, body = found
            if not flags & COMMAND:
                self._parts.append(body)
            if not flags & MORE:
                whole = bytes(self._buffer[: self._at])
                frame = None if flags & COMMAND else tuple(self._parts[self._envelope :])
                del self._buffer[: self._at]
                self._at, self._parts = 0, []
                yield Unit(whole, frame)

    def _next(self) -> tuple[int, bytes] | None:
        """Return flags and body of the next frame, or None while it is not all there."""
        at, buffer = self._at, self._buffer
        if len(buffer) < at + 2:
            return None
        flags = buffer[at]
        width = 8 if flags & LONG else 1
        begin = at + 1 + width
        if len(buffer) < begin:
            return None
        end = begin + int.from_bytes(buffer[at + 1 : begin])
        if len(buffer) < end:
            return None
        self._at = end
        return flags, bytes(buffer[begin:end])
