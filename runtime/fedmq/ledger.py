"""The ledger: what must survive a crash, in one SQLite file per federation, which a person can also query.

A batch of entries is one transaction. With `durable`, that transaction is on the disk (WAL, synchronous FULL) before
`keep` returns, payloads of accepted updates included; without, a restart begins from the last version that reached the
disk, and what was accepted since is forgotten. `record` is the same file's reading side.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fedmq.delta import Params, Vector, digest_of
from fedmq.errors import LedgerUnusable
from fedmq.journal import Entry, EventEntry, NodeEntry, ReportEntry, Traffic, UpdateEntry, VersionEntry
from fedmq.messages import Code
from fedmq.past import Past
from fedmq.quantities import Count
from fedmq.record import BROADCAST, EXACT, VELOCITY, Record, connect
from fedmq.tables import FORMAT, TABLES

# Accepted updates that no version has taken in, and whose payloads went with the process that had folded them.
FORGET_UNKEPT = """
delete from updates
where number >= (select max(folded) from versions) and number not in (select number from payloads)
"""

# What tells this run from another of the same federation: a node must not send one what it has learned in the other.
NAME_RUN = "insert or ignore into meta values ('run', lower(hex(randomblob(8))))"


@dataclass(frozen=True)
class Keeping:
    """durable: on the disk before anything is acknowledged; versions: how many keep their params, 0 all."""

    durable: bool = True
    versions: Count = 10


class Ledger:
    """One federation's ledger, open for writing, for one thread at a time.

    epoch      seconds to add to the core's clock to get seconds since 1970
    """

    def __init__(self, connection: sqlite3.Connection, keeping: Keeping, epoch: float) -> None:
        self._connection, self._keeping, self._epoch = connection, keeping, epoch

    @classmethod
    def open(
        cls,
        path: Path,
        meta: Mapping[str, str],
        notes: Mapping[str, str],
        params: Params,
        keeping: Keeping,
        epoch: float,
        now: float,
    ) -> "Ledger":
        """Open the file, or create it with these params as version 0.

        meta       what makes the file this federation's own: name, feature space, method
        notes      what else a reader should know, as of the last start
        raises     LedgerUnusable if it cannot be opened, or is another federation's
        """
        connection = connect(path, "rwc")
        ledger = cls(connection, keeping, epoch)
        try:
            # Rows of megabytes: with pages of 4 KiB, most of a write would be the chaining of pages.
            connection.execute("pragma page_size = 65536")
            connection.execute("pragma journal_mode = wal")
            # NORMAL may lose the last commits with the power; OFF could lose the file.
            connection.execute(f"pragma synchronous = {'full' if keeping.durable else 'normal'}")
            # A file without tables is new, or one whose making a kill cut short.
            if not connection.execute("select 1 from sqlite_master").fetchall():
                ledger._create(meta, params, now)
            _require_same(Record(connection).meta(), {**meta, "schema": json.dumps(params.schema.entries)})
            with connection:
                connection.execute(NAME_RUN)
                connection.executemany("insert or replace into meta values (?, ?)", notes.items())
                connection.execute(FORGET_UNKEPT)
        except (sqlite3.Error, LedgerUnusable) as error:
            connection.close()
            raise LedgerUnusable(f"{path} cannot be used as a ledger: {error}") from error
        return ledger

    def past(self) -> Past:
        """Return what an aggregator needs in order to go on."""
        return Record(self._connection).past()

    def keep(self, entries: Iterable[Entry], now: float) -> None:
        """Write a batch in one transaction.

        raises     LedgerUnusable if it could not be written; nothing of the batch is then kept
        """
        try:
            with self._connection:
                for entry in entries:
                    self._write(entry, now)
        except sqlite3.Error as error:
            raise LedgerUnusable(f"the ledger cannot be written: {error}; mend that, then start again") from error

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _create(self, meta: Mapping[str, str], params: Params, now: float) -> None:
        beginning = VersionEntry(0, "start", 0, 0, 0, 0, now, now, 0.0, Traffic(), params)
        with self._connection:
            self._connection.executescript("begin;" + TABLES)
            rows = {**meta, "format": str(FORMAT), "schema": json.dumps(params.schema.entries)}
            self._connection.executemany("insert into meta values (?, ?)", rows.items())
            self._write(beginning, now)

    def _write(self, entry: Entry, now: float) -> None:
        match entry:
            case UpdateEntry():
                self._write_update(entry)
            case VersionEntry():
                self._write_version(entry, now)
            case NodeEntry():
                row = {**asdict(entry), "at": entry.at + self._epoch}
                self._connection.execute(
                    "insert into nodes values (:node, :name, :state, :reason, :at, :at, :examples, :tests, :bytes_up,"
                    " :bytes_down, :strikes) on conflict (node) do update set name = :name, state = :state,"
                    " reason = :reason, at = :at, examples = :examples, tests = :tests, bytes_up = :bytes_up,"
                    " bytes_down = :bytes_down, strikes = :strikes",
                    row,
                )
            case ReportEntry():
                self._insert("reports", {**asdict(entry), "at": entry.at + self._epoch})
            case EventEntry():
                fields = json.dumps(entry.fields, default=str)
                self._insert("events", {**asdict(entry), "at": entry.at + self._epoch, "fields": fields})

    def _write_update(self, entry: UpdateEntry) -> None:
        update = entry.update
        self._insert(
            "updates",
            {
                "node": entry.node,
                "seq": update.seq,
                "at": entry.at + self._epoch,
                "code": entry.code.value,
                "text": entry.text,
                "number": entry.number,
                "base_version": update.base_version,
                "staleness": entry.staleness,
                "weight": entry.weight,
                "damping": entry.damping,
                "scale": entry.scale,
                "norm": entry.norm,
                "examples": update.examples,
                "steps": update.steps,
                "loss": update.loss,
                "train_s": update.train_s,
                "codec": update.codec,
                "payload_bytes": len(update.payload),
                "frame_bytes": entry.frame_bytes,
            },
        )
        if entry.code is Code.ACCEPTED and self._keeping.durable:
            self._insert("payloads", {"number": entry.number, "data": update.payload})

    def _write_version(self, entry: VersionEntry, now: float) -> None:
        self._insert(
            "versions",
            {
                "version": entry.version,
                "cause": entry.cause,
                "updates": entry.updates,
                "folded": entry.folded,
                "quorum": entry.quorum,
                "invited": entry.invited,
                "opened_at": entry.opened_at + self._epoch,
                "closed_at": entry.closed_at + self._epoch,
                "kept_at": now + self._epoch,
                "step_norm": entry.step_norm,
                "digest": digest_of(entry.params),
                **asdict(entry.traffic),
            },
        )
        self._write_array(entry.version, EXACT, entry.params.flat)
        if entry.broadcast is not None:
            self._write_array(entry.version, BROADCAST, entry.broadcast.flat)
        if entry.velocity is not None:
            self._write_array(entry.version, VELOCITY, entry.velocity)
        self._connection.execute("delete from payloads where number < ?", (entry.folded,))
        if self._keeping.versions:
            oldest = entry.version - self._keeping.versions + 1
            self._connection.execute("delete from arrays where version < ?", (oldest,))

    def _write_array(self, version: int, kind: str, values: Vector) -> None:
        data = np.ascontiguousarray(values, dtype="<f4").data
        self._insert("arrays", {"version": version, "kind": kind, "data": data})

    def _insert(self, table: str, row: Mapping[str, object]) -> None:
        # Table and column names are ours, never a peer's.
        columns, places = ", ".join(row), ", ".join(f":{column}" for column in row)
        self._connection.execute(f"insert into {table} ({columns}) values ({places})", row)  # noqa: S608


def _require_same(found: Mapping[str, str], ours: Mapping[str, str]) -> None:
    if found.get("format") != str(FORMAT):
        raise LedgerUnusable(f"it has format {found.get('format')}, this fedmq writes {FORMAT}")
    for key, value in ours.items():
        if found.get(key) != value:
            raise LedgerUnusable(
                f"it belongs to a federation whose {key} is {found.get(key)!r}, this one's is {value!r}; "
                "give this federation a run folder of its own"
            )
