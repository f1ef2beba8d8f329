"""Collecting: what an aggregator needs of whoever makes versions of updates, of deltas or of statistics."""

from typing import Protocol

from fedmq.collect import Collector
from fedmq.journal import Traffic, UpdateEntry, VersionEntry
from fedmq.messages import Update
from fedmq.past import Point
from fedmq.plan import Settings
from fedmq.rounds import Cause, Round
from fedmq.stats.pool import Pool
from fedmq.versions import Versions


class Collecting(Protocol):
    """Judges and folds updates, and makes a version of what was folded.

    versions   the newest, and what nodes hold
    round      the open one
    """

    versions: Versions
    round: Round

    @property
    def point(self) -> Point:
        """Where a federation stands right after a commit."""

    def judge(self, node: str, update: Update, frame_bytes: int, now: float) -> UpdateEntry:
        """Fold the update, or do not, and return what became of it."""

    def refold(self, entry: UpdateEntry, now: float) -> None:
        """Fold an update that was accepted before."""

    def commit(self, cause: Cause, traffic: Traffic, now: float) -> VersionEntry:
        """End the round and return the version that came of it."""


def collector(settings: Settings, start: Point) -> Collecting:
    """Return what the codec upwards asks for, going on from this point."""
    return Pool(settings, start) if settings.one_shot else Collector(settings, start)
