"""The ledger: what must survive a crash, in one SQLite file per federation, which a person can also query.

A batch of entries is one transaction. With `durable`, that transaction is on the disk (WAL, synchronous FULL) before
`keep` returns, and before it, with one fsync, the payloads of its accepted updates, in the files of `segments`. Else a
restart begins from the last version that reached the disk, and what was accepted since is forgotten. `record` is the
reading side.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fedmq.delta import Params, Vector, digest_of
from fedmq.errors import LedgerUnusable, NotKept
from fedmq.journal import Entry, EventEntry, NodeEntry, ReportEntry, Traffic, UpdateEntry, VersionEntry
from fedmq.migrate import migrate
from fedmq.past import Past
from fedmq.points import Points
from fedmq.quantities import Count
from fedmq.record import BROADCAST, CACHED, EXACT, Record, connect
from fedmq.segments import SEGMENT_BYTES, Place, Segments, read
from fedmq.tables import FORMAT, TABLES

# What passes: no room, a disk that fails or cannot be written, a lock that another process holds.
PASSING = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
}

# Accepted updates that no version has taken in, and whose payloads went with the process that had folded them.
FORGET_UNKEPT = """
delete from updates
where number >= (select max(folded) from versions) and number not in (select number from payloads)
"""

# The version that the oldest segment beside some begins after, and where payloads lie that are in those.
OLDEST = "select version from segments where segment not in (select value from json_each(?)) order by segment limit 1"
PLACES = """
select * from payloads where number in (select value from json_each(?)) and segment in (select value from json_each(?))
order by number
"""
# What is in no version yet, and of each node the newest statistics: they are in every head until others replace them.
PENDING = """
select distinct segment from payloads where number >= (select max(folded) from versions) or number in
(select max(number) from updates where codec glob 'stats-*' and number is not null group by node)
"""
# What tells this run from another of the same federation: a node must not send one what it has learned in the other.
NAME_RUN = "insert or ignore into meta values ('run', lower(hex(randomblob(8))))"


@dataclass(frozen=True)
class Keeping:
    """What a ledger keeps, and how surely.

    durable        on the disk before anything is acknowledged
    versions       how many keep their params, 0 all
    replay_bytes   payloads of updates that versions have taken in, oldest dropped first; what is in the segment that is
                   being written is kept beside
    """

    durable: bool = True
    versions: Count = 10
    replay_bytes: Count = 2 * 2**30


class Ledger:
    """One federation's ledger, open for writing, for one thread at a time.

    epoch      seconds to add to the core's clock to get seconds since 1970
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, keeping: Keeping, epoch: float) -> None:
        self._connection, self._path, self._keeping, self._epoch = connection, path, keeping, epoch
        self._segments: Segments
        self._terms: int | None = None

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
        terms: str | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> "Ledger":
        """Open the file, or create it with these params as version 0.

        meta       what makes the file this federation's own: name, feature space, method
        notes      what else a reader should know, as of the last start
        terms      the settings that shape a commit, as `terms` writes them; without them, versions cannot be replayed
        raises     LedgerUnusable if it cannot be opened, or is another federation's
        """
        connection = connect(path, "rwc")
        ledger = cls(connection, path, keeping, epoch)
        try:
            # Rows of megabytes: with pages of 4 KiB, most of a write would be the chaining of pages.
            connection.execute("pragma page_size = 65536")
            connection.execute("pragma secure_delete = off")
            connection.execute("pragma journal_mode = wal")
            # NORMAL may lose the last commits with the power; OFF could lose the file.
            connection.execute(f"pragma synchronous = {'full' if keeping.durable else 'normal'}")
            # A file without tables is new, or one whose making a kill cut short.
            if not connection.execute("select 1 from sqlite_master").fetchall():
                ledger._create(meta, params, now)
            found = Record(connection, path).meta()
            _require_same(found, {**meta, "schema": json.dumps(params.schema.entries)})
            migrate(connection, path, found.get("format"))
            with connection:
                connection.execute(NAME_RUN)
                connection.executemany("insert or replace into meta values (?, ?)", notes.items())
                connection.execute(FORGET_UNKEPT)
                if terms is not None:
                    ledger._terms = ledger._terms_id(terms, now)
            ledger._segments = Segments(path, ledger._ends(), segment_bytes)
        except (sqlite3.Error, OSError, LedgerUnusable) as error:
            connection.close()
            raise LedgerUnusable(f"{path} cannot be used as a ledger: {error}") from error
        return ledger

    def past(self) -> Past:
        """Return what an aggregator needs in order to go on."""
        return Points(Record(self._connection, self._path)).past()

    def keep(self, entries: Iterable[Entry], now: float) -> None:
        """Write a batch in one transaction.

        raises     NotKept if the disk would not have it: nothing of the batch is kept, and it may be tried again;
                   LedgerUnusable if it can never be written
        """
        batch, mark = tuple(entries), self._segments.mark
        try:
            places, begun = self._store(batch)
            with self._connection:
                for entry in batch:
                    self._write(entry, now, places)
                for segment, version in begun.items():
                    self._insert("segments", {"segment": segment, "version": version})
                dropped = self._forget() if begun else []
        except (sqlite3.Error, OSError) as error:
            self._segments.rewind(mark)
            passing = isinstance(error, OSError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in PASSING
            text = f"the ledger cannot be written: {error}; mend that, "
            if passing:
                raise NotKept(text + "and it goes on by itself") from error
            raise LedgerUnusable(text + "then start again") from error
        for segment in dropped:
            self._segments.drop(segment)

    def close(self) -> None:
        """Let go of the files."""
        self._segments.close()
        self._connection.close()

    def _store(self, batch: Sequence[Entry]) -> tuple[dict[int, Place], dict[int, int]]:
        """Have the payloads of a batch on the disk; return where each lies, and which segments begin after which
        version.
        """
        places: dict[int, Place] = {}
        begun: dict[int, int] = {}
        for entry in batch:
            if isinstance(entry, UpdateEntry) and entry.number is not None and self._keeping.durable:
                places[entry.number] = self._segments.append(entry.update.payload)
            elif isinstance(entry, VersionEntry) and self._segments.is_full:
                begun[self._segments.roll()] = entry.version
        self._segments.sync()
        return places, begun

    def _forget(self) -> list[int]:
        """Delete what the ledger knows of the segments that are too many, and return them."""
        pending = {segment for (segment,) in self._connection.execute(PENDING)}
        dropped = [segment for segment in self._segments.beyond(self._keeping.replay_bytes) if segment not in pending]
        self._carry(dropped)
        for segment in dropped:
            self._connection.execute("delete from payloads where segment = ?", (segment,))
            self._connection.execute("delete from segments where segment = ?", (segment,))
        return dropped

    def _carry(self, dropped: list[int]) -> None:
        """Take along the payloads that the rule goes on from at the oldest version that can still be replayed."""
        gone = json.dumps(dropped)
        (oldest,) = self._connection.execute(OLDEST, (gone,)).fetchone()
        numbers = json.dumps(Points(Record(self._connection, self._path)).cached(oldest))
        rows = self._connection.execute(PLACES, (numbers, gone)).fetchall()
        for number, *place in rows:
            moved = {"number": number, **asdict(self._segments.carry(read(self._path, Place(*place))))}
            self._connection.execute(
                "update payloads set segment = :segment, start = :start where number = :number", moved
            )
        self._segments.sync()

    def _ends(self) -> dict[int, int]:
        return dict(
            self._connection.execute(
                "select s.segment, coalesce(max(p.start + p.size), 0) from segments s left join payloads p"
                " using (segment) group by s.segment"
            ).fetchall()
        )

    def _terms_id(self, terms: str, now: float) -> int:
        row = (now + self._epoch, terms)
        self._connection.execute("insert or ignore into settings (at, value) values (?, ?)", row)
        (number,) = self._connection.execute("select id from settings where value = ?", (terms,)).fetchone()
        return int(number)

    def _create(self, meta: Mapping[str, str], params: Params, now: float) -> None:
        beginning = VersionEntry(0, "start", 0, 0, 0, 0, now, now, 0.0, Traffic(), params)
        with self._connection:
            self._connection.executescript("begin;" + TABLES)
            rows = {**meta, "format": str(FORMAT), "schema": json.dumps(params.schema.entries)}
            self._connection.executemany("insert into meta values (?, ?)", rows.items())
            self._write(beginning, now, {})

    def _write(self, entry: Entry, now: float, places: Mapping[int, Place]) -> None:
        match entry:
            case UpdateEntry():
                self._write_update(entry)
                if entry.number is not None and entry.number in places:
                    self._insert("payloads", {"number": entry.number, **asdict(places[entry.number])})
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
                "settings": self._terms,
                **asdict(entry.traffic),
            },
        )
        self._write_array(entry.version, EXACT, entry.params.flat)
        if entry.broadcast is not None:
            self._write_array(entry.version, BROADCAST, entry.broadcast.flat)
        for kind, values in entry.states.items():
            self._write_array(entry.version, kind, values)
        if entry.cached:
            numbers = np.array(entry.cached, "<i8").data
            self._insert("arrays", {"version": entry.version, "kind": CACHED, "data": numbers})
        if self._keeping.versions:
            oldest = entry.version - self._keeping.versions + 1
            self._connection.execute(
                "delete from arrays where version < ? and version not in (select version from segments)"
                # Statistics are drawn to version 0 for ever.
                " and (version > 0 or not exists (select 1 from updates where codec glob 'stats-*'))",
                (oldest,),
            )

    def _write_array(self, version: int, kind: str, values: Vector) -> None:
        data = np.ascontiguousarray(values, dtype="<f4").data
        self._insert("arrays", {"version": version, "kind": kind, "data": data})

    def _insert(self, table: str, row: Mapping[str, object]) -> None:
        # Table and column names are ours, never a peer's.
        columns, places = ", ".join(row), ", ".join(f":{column}" for column in row)
        self._connection.execute(f"insert into {table} ({columns}) values ({places})", row)  # noqa: S608


def _require_same(found: Mapping[str, str], ours: Mapping[str, str]) -> None:
    for key, value in ours.items():
        if found.get(key) != value:
            raise LedgerUnusable(
                f"it belongs to a federation whose {key} is {found.get(key)!r}, this one's is {value!r}; "
                "give this federation a run folder of its own"
            )
