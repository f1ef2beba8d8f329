"""A window of numbers: which frames of a session have been taken, so that none is taken twice.

Links repeat and reorder frames, so a number may come late, but not twice, and not so late that nobody remembers whether
it came: the sliding window of IPsec and WireGuard (RFC 6479).
"""

from fedmq.errors import BadFrame

WIDTH = 1024


class Window:
    """The highest number taken, and which of the `WIDTH` below it were."""

    def __init__(self) -> None:
        self._highest, self._taken = 0, 0

    def require_new(self, number: int) -> None:
        """Raise BadFrame if this number was taken, or may have been."""
        behind = self._highest - number
        if number == 0 or behind >= WIDTH:
            raise BadFrame("too_old", f"frame {number} after {self._highest}; at most {WIDTH - 1} may overtake one")
        if behind >= 0 and self._taken >> behind & 1:
            raise BadFrame("replayed", f"frame {number} was taken before; the newest is {self._highest}")

    def take(self, number: int) -> None:
        """Remember a number that is new, once its frame has proved genuine."""
        if number > self._highest:
            self._taken = self._taken << min(number - self._highest, WIDTH) & (1 << WIDTH) - 1
            self._highest = number
        self._taken |= 1 << self._highest - number
