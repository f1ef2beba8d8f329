"""The weather: what happens to the world at its time, and clocks that are off; both are cores to a simulation."""

import heapq
from collections.abc import Callable
from itertools import count

from fedmq.codec import Frame
from fedmq.core import Core
from fedmq.effects import Effect


class Weather:
    """What happens to the world and not to a core, as a core of its own: actions, each at its time."""

    def __init__(self) -> None:
        self._actions: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, at: float, action: Callable[[], None]) -> None:
        """Do this then."""
        heapq.heappush(self._actions, (at, next(self._order), action))

    def receive(self, peer: str, frame: Frame, now: float) -> list[Effect]:
        """Hear nothing."""
        return []

    def lost(self, peer: str, now: float) -> list[Effect]:
        """Miss nobody."""
        return []

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        while self._actions and self._actions[0][0] <= now:
            heapq.heappop(self._actions)[2]()
        return []

    def next_deadline(self) -> float | None:
        """When something is due again."""
        return self._actions[0][0] if self._actions else None


class Skewed:
    """A core whose clock is off."""

    def __init__(self, core: Core, ahead_s: float, drift: float) -> None:
        self._core, self._ahead_s, self._drift = core, ahead_s, drift

    def local(self, now: float) -> float:
        """Return what its clock reads."""
        return self._ahead_s + now * (1.0 + self._drift)

    def receive(self, peer: str, frame: Frame, now: float) -> list[Effect]:
        """Take a frame."""
        return self._core.receive(peer, frame, self.local(now))

    def lost(self, peer: str, now: float) -> list[Effect]:
        """Learn that a peer cannot be reached."""
        return self._core.lost(peer, self.local(now))

    def tick(self, now: float) -> list[Effect]:
        """Look at the clock."""
        return self._core.tick(self.local(now))

    def next_deadline(self) -> float | None:
        """When to be ticked; a little late, or rounding would have it ticked just before its time for ever."""
        at = self._core.next_deadline()
        if at is None or not (self._ahead_s or self._drift):
            return at
        return (at - self._ahead_s) / (1.0 + self._drift) + 1e-6
