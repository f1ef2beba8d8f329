"""Replay: every version computed again from the updates in it, and its digest compared with the one that was recorded.

A version is folded by the real Collector, in the recorded order, with the recorded weights, damping and scales, under
the settings that were in force when it was committed. It goes on from the version before it, as replayed; where that
could not be had or differs, from the params that the ledger keeps of it. So one damaged payload is blamed on one
version, and a failure in the field can be looked at step by step.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from fedmq import terms
from fedmq.collecting import Collecting
from fedmq.collecting import collector as collecting
from fedmq.delta import digest_of
from fedmq.errors import ConfigInvalid, LedgerUnusable, PayloadGone, RemoteError
from fedmq.journal import Traffic, UpdateEntry
from fedmq.past import Point
from fedmq.points import Points
from fedmq.record import Record, Row
from fedmq.rounds import Cause


class Outcome(StrEnum):
    """same: to the bit. differs: not what was announced. cannot: what it takes was not kept."""

    SAME = "same"
    DIFFERS = "differs"
    CANNOT = "cannot be replayed"


@dataclass(frozen=True)
class Replayed:
    """What became of one version; `text` says why, unless it is the same."""

    version: int
    outcome: Outcome
    updates: int
    digest: str
    text: str = ""

    @property
    def same(self) -> bool:
        """Whether it is what was announced, to the bit."""
        return self.outcome is Outcome.SAME


class _Impossible(Exception):
    """Something that a version takes is not there."""


def replay(record: Record) -> Iterator[Replayed]:
    """Yield what becomes of each version, the first one first."""
    rows = record.versions()
    settings: Mapping[int | None, str] = dict(record.settings().items())
    yield _replayed(rows[0], *_start(record, rows[0]))
    collector: Collecting | None = None
    under: int | None = None
    for before, row in pairwise(rows):
        try:
            text = settings.get(row.get("settings"))
            if text is None:
                raise _Impossible("the settings that it was committed with are not in the ledger")
            entries = _entries(record, before["folded"], row["folded"])
            if collector is None:
                collector = collecting(terms.read(text), _kept(record, before, row))
            elif under != row.get("settings"):
                collector = collecting(terms.read(text), collector.point)
            under = row.get("settings")
            outcome, why = _compared("replayed digest", _digest(collector, entries, row), row)
        except (_Impossible, ConfigInvalid, PayloadGone) as error:
            outcome, why = Outcome.CANNOT, str(error)
        except (LedgerUnusable, RemoteError) as error:
            outcome, why = Outcome.DIFFERS, str(error)
        if outcome is not Outcome.SAME:
            collector = None
        yield _replayed(row, outcome, why)


def _replayed(row: Row, outcome: Outcome, why: str) -> Replayed:
    return Replayed(row["version"], outcome, row["updates"], row["digest"], why)


def _start(record: Record, row: Row) -> tuple[Outcome, str]:
    """Version 0 was not made of updates: its params are what they are said to be, or not kept."""
    point = Points(record).point(0)
    if point is None:
        return Outcome.CANNOT, "its params were not kept"
    return _compared("kept params have digest", digest_of(point.exact), row)


def _compared(what: str, found: str, row: Row) -> tuple[Outcome, str]:
    if found == row["digest"]:
        return Outcome.SAME, ""
    return Outcome.DIFFERS, f"{what} {found[:16]}, recorded {row['digest'][:16]}"


def _entries(record: Record, first: int, end: int) -> tuple[UpdateEntry, ...]:
    entries = Points(record).folded(first, end)
    if len(entries) < end - first:
        raise _Impossible(
            f"of its {end - first} updates {len(entries)} have their payloads kept (keeping.replay_bytes)"
        )
    return entries


def _kept(record: Record, row: Row, following: Row) -> Point:
    points = Points(record)
    point = points.point(row["version"])
    if point is None and following["cause"] == Cause.FORGOTTEN and (left := points.before_forgetting(row["version"])):
        return left
    if point is None:
        raise _Impossible(f"it goes on from version {row['version']}, whose params are neither replayed nor kept")
    found = digest_of(point.exact)
    if found != row["digest"]:
        raise _Impossible(
            f"it goes on from version {row['version']}, whose kept params have digest {found[:16]}, recorded "
            f"{row['digest'][:16]}"
        )
    return point


def _digest(collector: Collecting, entries: tuple[UpdateEntry, ...], row: Row) -> str:
    for entry in entries:
        collector.refold(entry, entry.at)
    return digest_of(collector.commit(Cause(row["cause"]), Traffic(), row["closed_at"]).params)
