"""The record of a run, read: from a ledger that is being written, or one that was left behind.

Rows come as plain mappings, named as in `tables`; whoever draws or prints decides what they mean.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

import numpy as np

from fedmq.delta import Arrays, Params, Schema, Vector
from fedmq.errors import LedgerUnusable
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
        self._connection, self.path = connection, path

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
        return {row["key"]: row["value"] for row in self.rows("select * from meta")}

    def schema(self) -> Schema:
        """Return names and shapes of the params."""
        entries = json.loads(self.meta()["schema"])
        return Schema(tuple((name, tuple(shape)) for name, shape in entries))

    def versions(self) -> list[Row]:
        """Return the commits, version 0 first."""
        return self.rows("select * from versions order by version")

    def updates(self) -> list[Row]:
        """Return every update that was judged, in the order of its arrival."""
        return self.rows("select * from updates order by at, rowid")

    def nodes(self) -> list[Row]:
        """Return the nodes, by name."""
        return self.rows("select * from nodes order by name")

    def reports(self) -> list[Row]:
        """Return the nodes' own accuracies, the frozen model's (version null) first."""
        return [{"personal": None, **row} for row in self.rows("select * from reports order by version, node")]

    def events(self) -> list[Row]:
        """Return what happened, in order."""
        return self.rows("select * from events order by at, rowid")

    def params(self, version: int | None = None) -> tuple[int, Params]:
        """Return the params of a version, or of the newest.

        raises     LedgerUnusable if that version's params were not kept
        """
        rows = self.rows("select version from arrays where kind = ? order by version", (EXACT,))
        kept = [row["version"] for row in rows]
        wanted = kept[-1] if version is None else version
        values = self.array(wanted, EXACT)
        if values is None:
            raise LedgerUnusable(
                f"the params of version {wanted} were not kept; kept are {', '.join(map(str, kept))} (keeping.versions)"
            )
        return wanted, Params(Arrays(self.schema(), values))

    def forgotten(self) -> frozenset[str]:
        """Return the nodes whose statistics are not wanted any more."""
        return frozenset(json.loads(self.meta().get(FORGOTTEN, "[]")))

    def settings(self) -> dict[int, str]:
        """Return the settings that shaped commits, by the number that versions name; a ledger of format 1 has none."""
        if self.meta()["format"] == "1":
            return {}
        return {row["id"]: row["value"] for row in self.rows("select id, value from settings")}

    def array(self, version: int, kind: str) -> Vector | None:
        """Return an array of a version, or None if it was not kept."""
        rows = self.rows("select data from arrays where version = ? and kind = ?", (version, kind))
        return vector(rows[0]) if rows else None

    def rows(self, query: str, values: Sequence[object] = ()) -> list[Row]:
        """Return what the ledger answers; raises LedgerUnusable if it cannot."""
        try:
            return [dict(row) for row in self._connection.execute(query, values)]
        except sqlite3.Error as error:
            raise LedgerUnusable(f"the ledger cannot be read: {error}") from error


def vector(row: Row) -> Vector:
    """Return the array of a row."""
    return np.frombuffer(row["data"], dtype="<f4").astype(np.float32)
