"""The record of a run, read: from a ledger that is being written, or one that was left behind.

Rows come as plain mappings, named as in `tables`; whoever draws or prints decides what they mean.
"""

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

import numpy as np

from fedmq.compress import codec
from fedmq.delta import Arrays, Delta, Params, Schema, Vector
from fedmq.errors import LedgerUnusable, PayloadGone
from fedmq.guards import REMEMBERED
from fedmq.journal import Traffic, UpdateEntry
from fedmq.messages import Code, Update, Verdict
from fedmq.past import Known, Past, Point
from fedmq.rules.rule import Contribution
from fedmq.segments import Place, read
from fedmq.tables import FORMAT

LEDGER, EVALUATIONS = "ledger.sqlite", "evaluations.jsonl"  # files in a run's folder
EXACT, BROADCAST, CACHED = "exact", "broadcast", "cached"  # kinds of arrays; the others are states
FORGOTTEN = "forgotten"  # in meta: nodes whose statistics are not wanted, as a JSON list
Row = Mapping[str, Any]


def connect(path: Path, mode: Literal["ro", "rwc"]) -> sqlite3.Connection:
    """Return a connection whose rows know their column names; the caller may hand it from thread to thread."""
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode={mode}", uri=True, check_same_thread=False, timeout=30.0
        )
    except sqlite3.Error as error:
        raise LedgerUnusable(f"{path} cannot be opened: {error}") from error
    connection.row_factory = sqlite3.Row
    return connection


class Record:
    """What a run has written down so far."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path

    @classmethod
    def open(cls, path: Path) -> "Record":
        """Open a ledger file for reading, whether or not an aggregator writes it."""
        if not path.is_file():
            raise LedgerUnusable(f"there is no ledger at {path}; a run writes one when its aggregator starts")
        record = cls(connect(path, "ro"), path)
        try:
            found = record.meta().get("format")
        except LedgerUnusable as error:
            record.close()
            raise LedgerUnusable(f"{path} is not a ledger: {error}") from error
        if found not in (str(FORMAT), str(FORMAT - 1)):
            record.close()
            raise LedgerUnusable(f"{path} has ledger format {found}, this fedmq reads {FORMAT - 1} and {FORMAT}")
        return record

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def meta(self) -> dict[str, str]:
        """Return what the run is: federation, feature space, method, schema, format."""
        return {row["key"]: row["value"] for row in self._rows("select * from meta")}

    def schema(self) -> Schema:
        """Return names and shapes of the params."""
        entries = json.loads(self.meta()["schema"])
        return Schema(tuple((name, tuple(shape)) for name, shape in entries))

    def versions(self) -> list[Row]:
        """Return the commits, version 0 first."""
        return self._rows("select * from versions order by version")

    def updates(self) -> list[Row]:
        """Return every update that was judged, in the order of its arrival."""
        return self._rows("select * from updates order by at, rowid")

    def nodes(self) -> list[Row]:
        """Return the nodes, by name."""
        return self._rows("select * from nodes order by name")

    def reports(self) -> list[Row]:
        """Return the nodes' own accuracies, the frozen model's (version null) first."""
        return [{"personal": None, **row} for row in self._rows("select * from reports order by version, node")]

    def events(self) -> list[Row]:
        """Return what happened, in order."""
        return self._rows("select * from events order by at, rowid")

    def params(self, version: int | None = None) -> tuple[int, Params]:
        """Return the params of a version, or of the newest.

        raises     LedgerUnusable if that version's params were not kept
        """
        rows = self._rows("select version from arrays where kind = ? order by version", (EXACT,))
        kept = [row["version"] for row in rows]
        wanted = kept[-1] if version is None else version
        values = self._array(wanted, EXACT)
        if values is None:
            raise LedgerUnusable(
                f"the params of version {wanted} were not kept; kept are {', '.join(map(str, kept))} (keeping.versions)"
            )
        return wanted, Params(Arrays(self.schema(), values))

    def past(self) -> Past:
        """Return what an aggregator needs in order to go on."""
        (last,) = self._rows("select * from versions order by version desc limit 1")
        point = self.point(last["version"])
        if point is None:
            raise LedgerUnusable(f"the params of the newest version, {last['version']}, are not in the ledger")
        traffic = Traffic(**{name: last[name] for name in Traffic.__dataclass_fields__})
        nodes = tuple(map(_known, self._last_updates()))
        return Past(point, self.folded(last["folded"]), nodes, traffic, self.meta().get("run", ""))

    def point(self, version: int) -> Point | None:
        """Return where the federation stood at this version, or None if its params were not kept.

        raises     PayloadGone if a delta that its rule goes on from was not kept, LedgerUnusable if one is damaged
        """
        values = self._array(version, EXACT)
        if values is None:
            return None
        (row,) = self._rows("select folded from versions where version = ?", (version,))
        norms = self._rows(
            "select norm from updates where number < ? and norm > 0 order by number desc limit ?",
            (row["folded"], REMEMBERED),
        )
        exact, broadcast = Params(Arrays(self.schema(), values)), self._array(version, BROADCAST)
        return Point(
            version=version,
            exact=exact,
            broadcast=exact if broadcast is None else Params(Arrays(exact.schema, broadcast)),
            states=self._states(version),
            cached=self._cached(version),
            folded=row["folded"],
            norms=tuple(row["norm"] for row in reversed(norms)),
            beginning=self._beginning(version, exact),
            live=self.live(row["folded"]),
            forgotten=self.forgotten(),
        )

    def cached(self, version: int) -> list[int]:
        """Return the numbers of the updates that the rule went on from after this version."""
        rows = self._rows("select data from arrays where version = ? and kind = ?", (version, CACHED))
        return [int(number) for row in rows for number in np.frombuffer(row["data"], "<i8")]

    def before_forgetting(self, version: int) -> Point | None:
        """Return where the federation stood at this version, but for what was then forgotten; None if unknown.

        The params of the version are gone, because what was forgotten is in them; a head is solved without them.
        """
        values = self._array(0, EXACT)
        if values is None:
            return None
        (row,) = self._rows("select folded from versions where version = ?", (version,))
        start = Params(Arrays(self.schema(), values))
        return Point(version, start, start, folded=row["folded"], live=self.live(row["folded"]))

    def live(self, folded: int) -> tuple[UpdateEntry, ...]:
        """Return of each node the newest statistics numbered below `folded`, in the order of folding.

        raises     LedgerUnusable if a payload is damaged
        """
        if self.meta()["format"] == "1":
            return ()
        rows = self._rows(
            "select * from updates join payloads using (number) where number in (select max(number) from updates"
            " where codec glob 'stats-*' and number < ? group by node) order by number",
            (folded,),
        )
        return tuple(self._accepted(row) for row in rows)

    def forgotten(self) -> frozenset[str]:
        """Return the nodes whose statistics are not wanted any more."""
        return frozenset(json.loads(self.meta().get(FORGOTTEN, "[]")))

    def settings(self) -> dict[int, str]:
        """Return the settings that shaped commits, by the number that versions name; a ledger of format 1 has none."""
        if self.meta()["format"] == "1":
            return {}
        return {row["id"]: row["value"] for row in self._rows("select id, value from settings")}

    def folded(self, first: int, end: int | None = None) -> tuple[UpdateEntry, ...]:
        """Return the accepted updates numbered from `first` to before `end` whose payloads are kept, in order.

        raises     LedgerUnusable if a payload is damaged, naming the update
        """
        if self.meta()["format"] == "1":
            return ()
        rows = self._rows(
            "select * from updates join payloads using (number) where number >= ? and number < ? order by number",
            (first, 2**63 - 1 if end is None else end),
        )
        return tuple(self._accepted(row) for row in rows)

    def _cached(self, version: int) -> tuple[Contribution, ...]:
        wanted, schema = self.cached(version), self.schema()
        if not wanted:
            return ()
        rows = self._rows(
            "select * from updates join payloads using (number) where number in (select value from json_each(?))"
            " order by node",
            (json.dumps(wanted),),
        )
        if len(rows) < len(wanted):
            raise PayloadGone(
                f"version {version} goes on from the newest deltas of {len(wanted)} nodes, {len(rows)} of them are kept"
            )
        return tuple(contribution(self._accepted(row), schema) for row in rows)

    def _beginning(self, version: int, exact: Params) -> Params | None:
        if version == 0 or not self._rows("select 1 from updates where codec glob 'stats-*' limit 1"):
            return None
        values = self._array(0, EXACT)
        return None if values is None else Params(Arrays(exact.schema, values))

    def _accepted(self, row: Row) -> UpdateEntry:
        place = Place(row["segment"], row["start"], row["size"], row["crc"])
        try:
            return update_entry(row, read(self._path, place))
        except LedgerUnusable as error:
            raise type(error)(f"update {row['number']}, seq {row['seq']} of {row['node']}: {error}") from error

    def _last_updates(self) -> list[Row]:
        return self._rows(
            "select n.*, u.seq, u.code, u.text, u.staleness,"
            " u.weight * u.damping * u.scale as weight,"
            " (select max(base_version) from updates where node = n.node and code = ?) as trained"
            " from nodes n left join updates u"
            " on u.node = n.node and u.seq = (select max(seq) from updates where node = n.node)",
            (Code.ACCEPTED.value,),
        )

    def _array(self, version: int, kind: str) -> Vector | None:
        rows = self._rows("select data from arrays where version = ? and kind = ?", (version, kind))
        return _vector(rows[0]) if rows else None

    def _states(self, version: int) -> dict[str, Vector]:
        rows = self._rows(
            "select kind, data from arrays where version = ? and kind not in (?, ?, ?)",
            (version, EXACT, BROADCAST, CACHED),
        )
        return {row["kind"]: _vector(row) for row in rows}

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[Row]:
        try:
            return [dict(row) for row in self._connection.execute(query, values)]
        except sqlite3.Error as error:
            raise LedgerUnusable(f"the ledger cannot be read: {error}") from error


def _vector(row: Row) -> Vector:
    return np.frombuffer(row["data"], dtype="<f4").astype(np.float32)


def update_entry(row: Row, payload: bytes = b"") -> UpdateEntry:
    """Return an update as it was judged; the session that sent it is over."""
    update = Update(
        session=0,
        seq=row["seq"],
        base_version=row["base_version"],
        codec=row["codec"],
        examples=row["examples"],
        steps=row["steps"],
        loss=math.nan if row["loss"] is None else row["loss"],
        train_s=row["train_s"],
        payload=payload,
    )
    return UpdateEntry(
        at=row["at"],
        node=row["node"],
        update=update,
        frame_bytes=row["frame_bytes"],
        code=Code(row["code"]),
        text=row["text"],
        number=row["number"],
        staleness=row["staleness"],
        weight=row["weight"],
        damping=row["damping"],
        scale=row["scale"],
        norm=row["norm"],
    )


def contribution(entry: UpdateEntry, schema: Schema) -> Contribution:
    """Return what a rule has of an accepted update."""
    assert entry.number is not None
    update = entry.update
    return Contribution(
        node=entry.node,
        number=entry.number,
        version=update.base_version + entry.staleness,
        delta=Delta(codec(update.codec).unpack(update.payload, schema)),
        weight=entry.weight,
        damping=entry.damping,
        scale=entry.scale,
    )


def _known(row: Row) -> Known:
    active = row["state"] not in ("gone", "finished")
    known = Known(
        node=row["node"],
        name=row["name"],
        active=active,
        examples=row["examples"],
        bytes_up=row["bytes_up"],
        bytes_down=row["bytes_down"],
        strikes=row["strikes"],
    )
    if row["seq"] is None:
        return known
    verdict = Verdict(0, row["seq"], Code(row["code"]), row["text"], row["staleness"], row["weight"])
    trained = -1 if row["trained"] is None else row["trained"]
    return replace(known, seq=row["seq"], verdict=verdict, trained=trained)
