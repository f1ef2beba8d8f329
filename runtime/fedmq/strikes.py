"""Strikes: who sent what is not a message, and who is therefore not listened to for a while.

What a mute was for is kept with it, so that the status can say why a peer is not heard, and until when.

Bounded, because a stranger can invent as many names as it likes: the oldest name is forgotten first.
"""

from dataclasses import dataclass

REMEMBERED = 1024


@dataclass(frozen=True)
class Mute:
    """until: when the peer is heard again; reason: the fault that was one too many."""

    until: float
    reason: str


class Strikes:
    """limit: faults before a peer is muted; mute_s: for how long."""

    def __init__(self, limit: int, mute_s: float) -> None:
        self._limit, self._mute_s = limit, mute_s
        self._counts: dict[str, int] = {}
        self._mutes: dict[str, Mute] = {}

    def add(self, peer: str, now: float, reason: str = "") -> int:
        """Count one fault and return how many there are; at the limit the peer is muted, and its count begins again."""
        count = self._counts.pop(peer, 0) + 1
        if count >= self._limit:
            self._mutes.pop(peer, None)
            self._mutes[peer] = Mute(now + self._mute_s, reason)
            _bound(self._mutes)
        else:
            self._counts[peer] = count
            _bound(self._counts)
        return count

    def muted(self, peer: str, now: float) -> bool:
        """Whether this peer is not listened to now."""
        mute = self._mutes.get(peer)
        if mute is None or now < mute.until:
            return mute is not None
        del self._mutes[peer]
        return False

    def mutes(self, now: float) -> dict[str, Mute]:
        """Return who is not listened to now."""
        return {peer: mute for peer, mute in self._mutes.items() if now < mute.until}


def _bound(names: dict[str, int] | dict[str, Mute]) -> None:
    if len(names) > REMEMBERED:
        del names[next(iter(names))]
