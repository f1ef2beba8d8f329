"""The contract of a core: events and the time in, effects out; no socket, no clock, no waiting.

`Aggregator` and `Node` keep it, so the same loop drives both over any link, and the same simulation runs both under a
virtual clock.
"""

from collections.abc import Callable
from typing import Protocol

from fedmq.codec import Frame
from fedmq.effects import Effect


class Core(Protocol):
    """What an aggregator and a node have in common."""

    def receive(self, peer: str, frame: Frame, now: float) -> list[Effect]:
        """Take a frame."""

    def lost(self, peer: str, now: float) -> list[Effect]:
        """Learn that a peer cannot be reached."""

    def tick(self, now: float) -> list[Effect]:
        """Look at the clock."""

    def next_deadline(self) -> float | None:
        """Say when to be ticked."""


# What slow work comes back as: a function of the time at which the core learns of it.
Event = Callable[[float], list[Effect]]
