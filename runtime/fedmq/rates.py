"""Rates: how much a peer may send, in frames and in bytes per second. Token buckets; the time is an argument.

A bucket holds what a peer may send in `BURST_S` at once, and at least one frame of the largest size. Bounded, because a
stranger can invent as many names as it likes: the name that was silent longest is forgotten first, and has a full
bucket when it comes back.
"""

from collections import OrderedDict
from dataclasses import dataclass

from fedmq.codec import Limits

BURST_S = 10.0
REMEMBERED = 16_384


@dataclass
class _Left:
    """What a peer may still send at once."""

    frames: float
    frame_bytes: float
    at: float


class Rates:
    """The buckets of all peers."""

    def __init__(self, limits: Limits) -> None:
        self._frames_per_s, self._bytes_per_s = limits.frames_per_s, limits.bytes_per_s
        self._most_frames = max(1.0, BURST_S * limits.frames_per_s)
        self._most_bytes = max(float(limits.frame_bytes), BURST_S * limits.bytes_per_s)
        self._left: OrderedDict[str, _Left] = OrderedDict()

    def over(self, peer: str, size_bytes: int, now: float) -> str | None:
        """Take one frame of this size out of the peer's buckets, or say why it is too much; then nothing is taken."""
        left = self._left.pop(peer, None) or _Left(self._most_frames, self._most_bytes, now)
        self._left[peer] = left
        if len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        passed_s, left.at = now - left.at, now
        left.frames = min(self._most_frames, left.frames + passed_s * self._frames_per_s)
        left.frame_bytes = min(self._most_bytes, left.frame_bytes + passed_s * self._bytes_per_s)
        if self._frames_per_s and left.frames < 1:
            return (
                f"more than {self._most_frames:.0f} frames at once, limit is {self._frames_per_s:g} a second; "
                "raise limits.frames_per_s"
            )
        if self._bytes_per_s and left.frame_bytes < size_bytes:
            return (
                f"more than {self._most_bytes:.0f} bytes at once, limit is {self._bytes_per_s:g} a second; "
                "raise limits.bytes_per_s"
            )
        left.frames -= 1
        left.frame_bytes -= size_bytes
        return None
