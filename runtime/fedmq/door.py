"""The door: a node whose key was revoked is refused at once, over any link, also on a connection that was open before.

A link asks who may come when a connection is made, if it asks at all. The door stands between the link and the core and
looks with every event: whoever is no longer enrolled is told so and parted with, and heard no more. It reads nothing
itself; who is enrolled now is a function that it is given.
"""

from collections.abc import Callable

from fedmq.aggregator import Aggregator
from fedmq.codec import Frame
from fedmq.effects import Effect

# now -> the names of the peers that may be here; the same object as long as that has not changed.
Admitted = Callable[[float], frozenset[str]]


class Door:
    """An aggregator whose peers must be enrolled; the contract is that of any core."""

    def __init__(self, aggregator: Aggregator, admitted: Admitted) -> None:
        self._aggregator, self._admitted = aggregator, admitted
        self._known: frozenset[str] = frozenset()

    def receive(self, peer: str, frame: Frame, now: float) -> list[Effect]:
        """Take a frame from a peer that may be here; refuse any other."""
        effects = self._look(now)
        if peer in self._known:
            return effects + self._aggregator.receive(peer, frame, now)
        return effects + self._aggregator.bar(peer, frame, now)

    def lost(self, peer: str, now: float) -> list[Effect]:
        """Learn that a peer cannot be reached."""
        return self._aggregator.lost(peer, now)

    def tick(self, now: float) -> list[Effect]:
        """Look at the clock, and at who may be here."""
        return self._look(now) + self._aggregator.tick(now)

    def next_deadline(self) -> float | None:
        """Say when to be ticked."""
        return self._aggregator.next_deadline()

    def _look(self, now: float) -> list[Effect]:
        """Part with those who were revoked since the last event."""
        admitted = self._admitted(now)
        if admitted is self._known:
            return []
        self._known = admitted
        barred = [member.peer for member in self._aggregator.roster.connected() if member.peer not in admitted]
        return [effect for peer in barred for effect in self._aggregator.bar(peer, (), now)]
