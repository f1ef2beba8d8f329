"""Strikes: who sent what is not a message, and who is therefore not listened to for a while.

Bounded, because a stranger can invent as many names as it likes: the oldest name is forgotten first.
"""

REMEMBERED = 1024


class Strikes:
    """limit: faults before a peer is muted; mute_s: for how long."""

    def __init__(self, limit: int, mute_s: float) -> None:
        self._limit, self._mute_s = limit, mute_s
        self._counts: dict[str, int] = {}
        self._muted_until: dict[str, float] = {}

    def add(self, peer: str, now: float) -> int:
        """Count one fault and return how many there are; at the limit the peer is muted, and its count begins again."""
        count = self._counts.pop(peer, 0) + 1
        if count >= self._limit:
            self._muted_until.pop(peer, None)
            self._muted_until[peer] = now + self._mute_s
            _bound(self._muted_until)
        else:
            self._counts[peer] = count
            _bound(self._counts)
        return count

    def muted(self, peer: str, now: float) -> bool:
        """Whether this peer is not listened to now."""
        until = self._muted_until.get(peer)
        if until is None or now < until:
            return until is not None
        del self._muted_until[peer]
        return False


def _bound(names: dict[str, int] | dict[str, float]) -> None:
    if len(names) > REMEMBERED:
        del names[next(iter(names))]
