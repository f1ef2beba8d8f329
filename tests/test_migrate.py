"""Upgrades of the ledger: what the fedmq before this one has written is opened, whole or not at all."""

import gzip
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import ledgers
from fedmq import segments
from fedmq.errors import LedgerUnusable
from fedmq.journal import ReportEntry
from fedmq.ledger import Keeping
from fedmq.past import Past
from fedmq.replay import Outcome, replay
from ledgers import Life, as_a_kill_leaves_it, facts, opened, reading
from pair import params

# A life of 26 updates of `ledgers.updates`, at the last version of fedmq that wrote format 1: five versions, the params
# of three, and one accepted update that no version has taken in.
GOLDEN = Path(__file__).parent / "formats" / "format-1.sqlite.gz"


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    ledgers.close_all()


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "ledger"
    path.parent.mkdir()
    path.write_bytes(gzip.decompress(GOLDEN.read_bytes()))
    return path


def entries(arrived: int) -> list[object]:
    """What a life that nobody interrupted does with the updates after so many."""
    batches = Life.after(Past.none(params())).take(ledgers.updates(40))
    return facts([entry for batch in batches[arrived:] for entry in batch])


def rest(path: Path) -> list[object]:
    batches = Life.after(opened(path).past()).take(ledgers.updates(40)[26:], at=26.0)
    return facts([entry for batch in batches for entry in batch])


def test_a_ledger_of_the_format_before_is_migrated_and_the_run_goes_on_with_the_same_bits(golden: Path) -> None:
    past = opened(golden).past()
    assert (past.point.version, past.point.folded, [entry.number for entry in past.pending]) == (5, 20, [20])
    assert {known.name: known.seq for known in past.nodes} == {"a": 9, "b": 9, "c": 8}
    assert rest(golden) == entries(26)


def test_after_a_migration_what_is_committed_next_can_be_replayed(golden: Path) -> None:
    ledger = opened(golden, keeping=Keeping(versions=1))
    for batch in Life.after(ledger.past()).take(ledgers.updates(40)[26:]):
        ledger.keep(batch, 30.0)
    found = [one.outcome for one in replay(reading(golden))]
    assert found == [Outcome.CANNOT] * 6 + [Outcome.SAME] * 3
    assert {row["settings"] for row in reading(golden).versions()} == {None, 1}


def test_a_column_that_came_later_is_added_to_a_file_of_either_format_and_read_as_null_where_it_is_not(
    golden: Path, tmp_path: Path
) -> None:
    ours = tmp_path / "ours"
    opened(ours).close()
    with closing(sqlite3.connect(ours)) as connection:
        connection.execute("alter table reports drop column personal")
    for path in (golden, ours):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("insert into reports (node, version, at, examples, correct) values ('a', 1, 1.0, 10, 7)")
        before = reading(path).reports()
        ledger = opened(path)
        ledger.keep([ReportEntry(2.0, "b", 1, 10, 7, 0.5, personal=9)], 2.0)
        after = [(row["node"], row["personal"]) for row in reading(path).reports()]
        assert ({row["personal"] for row in before}, after[-2:]) == ({None}, [("a", None), ("b", 9)])


def test_the_format_before_is_read_without_being_migrated(golden: Path) -> None:
    before = golden.read_bytes()
    record = reading(golden)
    assert (len(record.versions()), len(record.updates()), record.params()[0]) == (6, 26, 5)
    assert golden.read_bytes() == before
    assert record.meta()["format"] == "1"


@pytest.mark.parametrize(
    "after",
    ["drop table payloads", "alter table versions", "alter table reports", "insert into payloads", "update meta"],
)
def test_a_migration_that_is_cut_short_has_not_begun(
    golden: Path, tmp_path: Path, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[Path] = []

    class Killed(sqlite3.Connection):
        """Copies the files, as a kill would leave them, when it is about to go on after a certain statement."""

        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            found = super().execute(sql, *values)  # type: ignore[arg-type]
            if sql.startswith(after):
                copies.append(as_a_kill_leaves_it(golden, tmp_path / "left"))
            return found

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, factory=Killed, **named))
    opened(golden)
    monkeypatch.undo()
    (left,) = copies
    assert reading(left).meta()["format"] == "1"
    assert rest(left) == entries(26)


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_given: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as changed:
        changed.setattr(segments.Segments, "append", full)
        with pytest.raises(LedgerUnusable, match=r"cannot be used as a ledger: \[Errno 28\] No space left on device"):
            opened(golden)
    assert reading(golden).meta()["format"] == "1"
    assert rest(golden) == entries(26)


@pytest.mark.parametrize("number", ["0", "3", "99", "x"])
def test_formats_older_than_that_and_newer_ones_are_refused_with_both_numbers(golden: Path, number: str) -> None:
    with closing(sqlite3.connect(golden)) as connection, connection:
        connection.execute("update meta set value = ? where key = 'format'", (number,))
    with pytest.raises(LedgerUnusable, match=f"it has format {number}, this fedmq writes 2 and migrates 1"):
        opened(golden)
    with pytest.raises(LedgerUnusable, match=f"has ledger format {number}, this fedmq reads 1 and 2"):
        reading(golden)
