"""Migrating: a ledger of the format before this one becomes one of this format when it is opened for writing.

One transaction, so that a kill leaves the one or the other: payloads are copied to a segment before it, and the segment
means nothing until the transaction is there. Older formats than that, and newer ones, are refused with both numbers:
each fedmq opens what the fedmq before it has written. A column that may be null is added within a format, as a field is
within a protocol: readers take its absence for null.
"""

import sqlite3
from pathlib import Path

from fedmq.errors import LedgerUnusable
from fedmq.segments import Segments
from fedmq.tables import FORMAT, PAYLOADS

LATER = (("reports", "personal", "integer"),)


def migrate(connection: sqlite3.Connection, path: Path, found: str | None) -> None:
    """Bring a ledger to this format, or leave it as it is.

    found      the format that its meta names
    raises     LedgerUnusable if that is neither this one nor the one before
    """
    if found == str(FORMAT):
        _add_later(connection)
        return
    if found != str(FORMAT - 1):
        raise LedgerUnusable(
            f"it has format {found}, this fedmq writes {FORMAT} and migrates {FORMAT - 1}; open it with the fedmq that "
            "belongs to it"
        )
    connection.execute("begin immediate")
    try:
        _from_1(connection, path)
        _add_later(connection)
        connection.execute("update meta set value = ? where key = 'format'", (str(FORMAT),))
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _add_later(connection: sqlite3.Connection) -> None:
    for table, column, kind in LATER:
        if not connection.execute("select 1 from pragma_table_info(?) where name = ?", (table, column)).fetchall():
            connection.execute(f"alter table {table} add column {column} {kind}")


def _from_1(connection: sqlite3.Connection, path: Path) -> None:
    """Payloads, which were in the table, go to a segment; what earlier versions were computed from is not known."""
    pending = [(row["number"], row["data"]) for row in connection.execute("select * from payloads order by number")]
    connection.execute("drop table payloads")
    for statement in PAYLOADS.split(";"):
        connection.execute(statement)
    connection.execute("alter table versions add column settings integer")
    connection.execute("insert into segments select 1, max(version) from versions")
    segments = Segments(path, {1: 0})
    try:
        for number, data in pending:
            place = segments.append(data)
            row = (number, place.segment, place.start, place.size, place.crc)
            connection.execute("insert into payloads values (?, ?, ?, ?, ?)", row)
        segments.sync()
    finally:
        segments.close()
