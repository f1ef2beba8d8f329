"""Recorded: what the ledger of a real run says, as the log of a run in virtual time would have it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fedmq.errors import LedgerUnusable
from fedmq.journal import Entry, Traffic, UpdateEntry, VersionEntry
from fedmq.messages import Code
from fedmq.points import update_entry
from fedmq.record import LEDGER, Record, Row
from fedmq_bench.scenario.log import RunLog


def accepted(run: Path) -> list[float]:
    """Return when each accepted update was judged, in seconds since 1970; none while the ledger is being made."""
    try:
        with Record.open(run / LEDGER) as record:
            return [row["at"] for row in record.updates() if row["code"] == Code.ACCEPTED]
    except LedgerUnusable:
        return []


def replayed(run: Path, log: RunLog, began_at: float) -> Traffic:
    """Have the log keep what the ledger has, and return what had been carried with its last version.

    began_at     seconds since 1970
    """
    traffic = Traffic()
    with Record.open(run / LEDGER) as record:
        for entry in _entries(record, began_at):
            log.keep(entry)
            if isinstance(entry, VersionEntry) and len(log.commits) == entry.version:
                traffic = entry.traffic
    return traffic


def _entries(record: Record, began_at: float) -> Iterator[Entry]:
    """Yield updates and versions in the order in which they were written: what is in a version comes before it."""
    versions = [row for row in record.versions() if row["version"]]
    updates = record.updates()
    for row in versions:
        while updates and not _is_after(updates[0], row):
            yield _update(updates.pop(0), began_at)
        yield _version(row, record, began_at)
    yield from (_update(row, began_at) for row in updates)


def _is_after(update: Row, version: Row) -> bool:
    number = update["number"]
    return bool(update["at"] > version["closed_at"] if number is None else number >= version["folded"])


def _update(row: Row, began_at: float) -> UpdateEntry:
    return replace(update_entry(row), at=row["at"] - began_at)


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
