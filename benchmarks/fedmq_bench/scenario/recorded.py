"""Recorded: what the ledger of a real run says, as the log of a run in virtual time would have it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedmq.journal import Entry, Traffic, UpdateEntry, VersionEntry
from fedmq.messages import Code, Update
from fedmq.record import LEDGER, Record, Row
from fedmq_bench.scenario.log import RunLog


@dataclass(frozen=True)
class End:
    """How a run ended: what it had carried with its last version, and when."""

    traffic: Traffic
    at: float


def accepted(run: Path) -> list[float]:
    """Return when each accepted update was judged, in seconds since 1970; none while there is no ledger yet."""
    if not (run / LEDGER).is_file():
        return []
    with Record.open(run / LEDGER) as record:
        return [row["at"] for row in record.updates() if row["code"] == Code.ACCEPTED]


def replayed(run: Path, log: RunLog, began_at: float, updates: int) -> End:
    """Have the log keep what the ledger has, up to the last update that a run takes.

    began_at     seconds since 1970
    updates      that a run takes; 0 is all
    """
    traffic, ended_at = Traffic(), 0.0
    with Record.open(run / LEDGER) as record:
        for entry in _entries(record, began_at):
            if 0 < updates <= log.accepted.total() and not _closes(entry, ended_at):
                break
            log.keep(entry)
            if isinstance(entry, VersionEntry):
                traffic = entry.traffic
            ended_at = entry.at if isinstance(entry, UpdateEntry) else ended_at
    return End(traffic, ended_at)


def _entries(record: Record, began_at: float) -> Iterator[Entry]:
    """Yield updates and versions in the order in which they were written: what is in a version comes before it."""
    versions = [row for row in record.versions() if row["version"]]
    updates = record.updates()
    for row in versions:
        while updates and not _is_after(updates[0], row):
            yield _update(updates.pop(0), began_at)
        yield _version(row, record, began_at)
    yield from (_update(row, began_at) for row in updates)


def _closes(entry: Entry, at: float) -> bool:
    """Whether this is the version that the last update has closed."""
    return isinstance(entry, VersionEntry) and entry.closed_at <= at


def _is_after(update: Row, version: Row) -> bool:
    number = update["number"]
    return bool(update["at"] > version["closed_at"] if number is None else number >= version["folded"])


def _update(row: Row, began_at: float) -> UpdateEntry:
    update = Update(
        session=0,
        seq=row["seq"],
        base_version=row["base_version"],
        codec=row["codec"],
        examples=row["examples"],
        steps=row["steps"],
        loss=math.nan if row["loss"] is None else row["loss"],
        train_s=row["train_s"],
    )
    return UpdateEntry(
        at=row["at"] - began_at,
        node=row["node"],
        update=update,
        frame_bytes=row["frame_bytes"],
        code=Code(row["code"]),
        number=row["number"],
        staleness=row["staleness"],
    )


def _version(row: Row, record: Record, began_at: float) -> VersionEntry:
    _, params = record.params(row["version"])
    return VersionEntry(
        version=row["version"],
        cause=row["cause"],
        updates=row["updates"],
        folded=row["folded"],
        quorum=row["quorum"],
        invited=row["invited"],
        opened_at=row["opened_at"] - began_at,
        closed_at=row["closed_at"] - began_at,
        step_norm=row["step_norm"],
        traffic=Traffic(**{name: row[name] for name in Traffic.__dataclass_fields__}),
        params=params,
    )
