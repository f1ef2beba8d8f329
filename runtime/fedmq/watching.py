"""Watching: who looks on while an aggregator runs: metrics, a live page.

A watcher hears what the core tells its shell anyway, that something has happened and what has become durable, and may
look at the status whenever it likes. The core does not know that it is watched, and counts nothing for it.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from fedmq.codec import Frame
from fedmq.core import Core
from fedmq.effects import Effect
from fedmq.journal import Entry
from fedmq.status import Status

Look = Callable[[], Status]


class Watcher(Protocol):
    """What a shell tells whoever looks on; in its own thread, and without waiting for an answer."""

    def begin(self, look: Look) -> None:
        """The aggregator runs; `look` says how it stands, from the shell's thread alone."""

    def happened(self) -> None:
        """The core was told something: the status may be another."""

    def kept(self, entries: Sequence[Entry], took_s: float) -> None:
        """These are durable now, so long after the shell was asked to see to it."""

    def end(self) -> None:
        """There is nothing more to look at."""


class Overheard:
    """A core of whose every event its watchers are told; the contract is that of any core."""

    def __init__(self, core: Core, watchers: Sequence[Watcher]) -> None:
        self._core, self._watchers = core, watchers

    def receive(self, peer: str, frame: Frame, now: float) -> list[Effect]:
        """Take a frame."""
        return self._told(self._core.receive(peer, frame, now))

    def lost(self, peer: str, now: float) -> list[Effect]:
        """Learn that a peer cannot be reached."""
        return self._told(self._core.lost(peer, now))

    def tick(self, now: float) -> list[Effect]:
        """Look at the clock."""
        return self._told(self._core.tick(now))

    def next_deadline(self) -> float | None:
        """Say when to be ticked."""
        return self._core.next_deadline()

    def _told(self, effects: list[Effect]) -> list[Effect]:
        for watcher in self._watchers:
            watcher.happened()
        return effects
