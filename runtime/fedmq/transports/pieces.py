"""Pieces: a frame as messages that a broker takes, and whole again. This docstring is the specification of a piece.

    offset  size  field
    0       8     number of the frame, the same in all of its pieces, little-endian unsigned like the others
    8       4     where this piece begins in the frame
    12      4     how long the frame is
    16            the bytes

Pieces may come twice and in any order. Of each sender one frame is put together at a time: a piece of another one ends
it. What is declared costs nothing: memory is taken by what has come, and its sum over all senders is bounded.
"""

import struct
from collections import OrderedDict
from collections.abc import Iterator

from fedmq.codec import Frame, size_bytes

HEAD = struct.Struct("<QII")
PIECE_COST_BYTES = 512  # what a piece takes beside its bytes, so that many tiny ones are not free


def split(frame: Frame, number: int, most_bytes: int) -> Iterator[bytes]:
    """Yield a frame as pieces of at most so many bytes each, heads included."""
    size, room = size_bytes(frame), most_bytes - HEAD.size
    if size <= room:
        yield b"".join((HEAD.pack(number, 0, size), *frame))
        return
    whole = memoryview(b"".join(frame))
    for at in range(0, size, room):
        yield b"".join((HEAD.pack(number, at, size), whole[at : at + room]))


class _Open:
    """A frame of which something has come."""

    def __init__(self, number: int, size: int) -> None:
        self.number, self.size = number, size
        self.pieces: dict[int, memoryview] = {}
        self.have = 0

    @property
    def cost_bytes(self) -> int:
        """The memory that it takes."""
        return self.have + PIECE_COST_BYTES * len(self.pieces)


class Assembly:
    """Frames in the making, one per sender.

    frame_bytes    the largest that is put together
    open_bytes     the most that unfinished ones may take together; then the oldest are given up
    """

    def __init__(self, frame_bytes: int, open_bytes: int) -> None:
        self.open_bytes = 0
        self._frame_bytes, self._most_bytes = frame_bytes, open_bytes
        self._open: OrderedDict[str, _Open] = OrderedDict()

    def add(self, sender: str, piece: bytes) -> Frame | None:
        """Take a piece; return the frame that it completes.

        What cannot be a piece of a frame within the limit is returned as it came, if it is the beginning of one: no
        core takes it for a message, and its sender is blamed by name.
        """
        if len(piece) < HEAD.size:
            return (piece,)
        number, at, size = HEAD.unpack_from(piece)
        content = memoryview(piece)[HEAD.size :]
        if size > self._frame_bytes or at + len(content) > size:
            return (piece,) if at == 0 else None
        if len(content) == size:
            self._close(sender)
            return (content,)
        frame = self._open.get(sender)
        if frame is None or (frame.number, frame.size) != (number, size):
            self._close(sender)
            frame = self._open[sender] = _Open(number, size)
        if at not in frame.pieces:
            frame.pieces[at] = content
            frame.have += len(content)
            self.open_bytes += len(content) + PIECE_COST_BYTES
        if frame.have < size:
            self._make_room(sender)
            return None
        self._close(sender)
        whole = b"".join(frame.pieces[at] for at in sorted(frame.pieces))
        return (whole,)

    def _close(self, sender: str) -> None:
        if (frame := self._open.pop(sender, None)) is not None:
            self.open_bytes -= frame.cost_bytes

    def _make_room(self, sender: str) -> None:
        self._open.move_to_end(sender)
        while self.open_bytes > self._most_bytes:
            self._close(next(iter(self._open)))
