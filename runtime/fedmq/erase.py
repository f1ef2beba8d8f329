"""Erasing: what a ledger and its files hold of one node's statistics is gone from the disk, and stays gone.

Its payloads, every version's params that they are in, and its reports. What was judged of its updates stays: times,
sizes, numbers of examples. First one transaction deletes the rows and notes where the payloads lie; then these bytes
are overwritten, the note is deleted, and SQLite writes its file anew. A kill in between is made good by `finish`. A
file system that copies on write, or a disk that moves blocks, may keep what was overwritten until it needs the place.
"""

import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedmq import segments
from fedmq.errors import LedgerUnusable
from fedmq.record import FORGOTTEN, connect

ERASING = "erasing"  # in meta: (segment, start, size) of what is yet to be overwritten, as JSON


def erase(path: Path, node: str, kept: int) -> tuple[int, int]:
    """Erase a node's statistics, and note that no others are wanted of it.

    kept       the version that was made without them, the first one whose params stay
    returns    payloads, and how many bytes they took
    raises     LedgerUnusable if the ledger or a file beside it cannot be written
    """
    connection = connect(path, "rwc")
    try:
        with connection:
            places = connection.execute(
                "select segment, start, size from payloads join updates using (number) where node = ?", (node,)
            ).fetchall()
            found = [tuple(place) for place in places]
            _note(connection, ERASING, found)
            _note(connection, FORGOTTEN, sorted({*_noted(connection, FORGOTTEN), node}))
            connection.execute(
                "delete from arrays where version < ? and version in (select v.version from versions v where v.folded >"
                " (select min(number) from updates where node = ? and number is not null))",
                (kept, node),
            )
            connection.execute(
                "delete from payloads where number in (select number from updates where node = ?)", (node,)
            )
            connection.execute("delete from reports where node = ?", (node,))
        _finish(connection, path)
    except (sqlite3.Error, OSError) as error:
        raise LedgerUnusable(f"{path} cannot be written: {error}; mend that and run it again") from error
    finally:
        connection.close()
    return len(found), sum(size for _, _, size in found)


def finish(path: Path) -> None:
    """Overwrite what an erasure that was cut short has left."""
    connection = connect(path, "rwc")
    try:
        if _noted(connection, ERASING):
            _finish(connection, path)
    except (sqlite3.Error, OSError) as error:
        raise LedgerUnusable(f"{path} cannot be written: {error}; mend that and run it again") from error
    finally:
        connection.close()


def allow(path: Path, node: str) -> None:
    """Want this node's statistics again; what was erased stays so."""
    connection = connect(path, "rwc")
    try:
        with connection:
            _note(connection, FORGOTTEN, sorted({*_noted(connection, FORGOTTEN)} - {node}))
    except sqlite3.Error as error:
        raise LedgerUnusable(f"{path} cannot be written: {error}") from error
    finally:
        connection.close()


def _finish(connection: sqlite3.Connection, path: Path) -> None:
    for segment, start, size in _noted(connection, ERASING):
        file = os.open(segments.path(path, segment), os.O_WRONLY)
        try:
            os.pwrite(file, bytes(size), start)
            os.fdatasync(file)
        finally:
            os.close(file)
    with connection:
        _note(connection, ERASING, [])
    # Deleted rows stay in the pages of the file and of its log until these are written anew.
    connection.execute("vacuum")
    connection.execute("pragma wal_checkpoint(truncate)")


def _noted(connection: sqlite3.Connection, key: str) -> Any:
    row = connection.execute("select value from meta where key = ?", (key,)).fetchone()
    return json.loads(row[0]) if row else []


def _note(connection: sqlite3.Connection, key: str, values: Sequence[object]) -> None:
    connection.execute("insert or replace into meta values (?, ?)", (key, json.dumps(values)))
