"""The record of a run, read while it is written and after."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ledgers
from fedmq.errors import LedgerUnusable
from fedmq.journal import EventEntry, NodeEntry, ReportEntry, Traffic, UpdateEntry, VersionEntry
from fedmq.ledger import Keeping, Ledger
from fedmq.messages import Code, Update
from fedmq.record import Record
from fedmq.tables import TABLES
from ledgers import opened, reading
from pair import SCHEMA, params


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    ledgers.close_all()


def version(number: int) -> VersionEntry:
    traffic = Traffic(number, 10 * number, 100 * number, 1000 * number)
    return VersionEntry(number, "grace", 3, 3 * number, 2, 4, 1.0, float(number), 0.5, traffic, params(float(number)))


def update(node: str, seq: int, at: float, number: int | None = None) -> UpdateEntry:
    sent = Update(7, seq, 0, "fp32", 10, 2, 0.5, 1.5, params(1.0).flat.tobytes())
    code = Code.NOT_FINITE if number is None else Code.ACCEPTED
    return UpdateEntry(at, node, sent, 140, code, "" if number is not None else "NaN", number, 1, 10.0, 0.5, 0.25)


def kept(path: Path, *entries: object, keeping: Keeping | None = None) -> tuple[Ledger, Record]:
    ledger = opened(path, keeping=keeping)
    ledger.keep(entries, now=9.0)  # type: ignore[arg-type]
    return ledger, reading(path)


def test_a_row_has_the_columns_of_its_table_by_name(tmp_path: Path) -> None:
    _, record = kept(
        tmp_path / "ledger",
        NodeEntry(1.0, "key-a", "a", "idle", "", 10, 5, 100, 200, 1),
        update("key-a", 1, 2.0, 0),
        version(1),
        ReportEntry(3.0, "key-a", 1, 5, 4, 0.5, 5),
        EventEntry(4.0, "info", "round.closed", {"version": 1, "path": Path("x")}),
    )
    assert record.nodes() == [
        {
            "node": "key-a",
            "name": "a",
            "state": "idle",
            "reason": "",
            "first_at": 1.0,
            "at": 1.0,
            "examples": 10,
            "tests": 5,
            "bytes_up": 100,
            "bytes_down": 200,
            "strikes": 1,
        }
    ]
    assert record.updates() == [
        {
            "node": "key-a",
            "seq": 1,
            "at": 2.0,
            "code": "accepted",
            "text": "",
            "number": 0,
            "base_version": 0,
            "staleness": 1,
            "weight": 10.0,
            "damping": 0.5,
            "scale": 1.0,
            "norm": 0.25,
            "examples": 10,
            "steps": 2,
            "loss": 0.5,
            "train_s": 1.5,
            "codec": "fp32",
            "payload_bytes": 4 * SCHEMA.size,
            "frame_bytes": 140,
        }
    ]
    found = dict(record.versions()[1])
    assert len(found.pop("digest")) == 64
    assert found == {
        "version": 1,
        "cause": "grace",
        "updates": 3,
        "folded": 3,
        "quorum": 2,
        "invited": 4,
        "opened_at": 1.0,
        "closed_at": 1.0,
        "kept_at": 9.0,
        "step_norm": 0.5,
        "up_goodput": 1,
        "up_application": 10,
        "down_goodput": 100,
        "down_application": 1000,
        "settings": 1,
    }
    report = {"node": "key-a", "version": 1, "at": 3.0, "examples": 5, "correct": 4, "loss": 0.5, "personal": 5}
    assert record.reports() == [report]
    ((event),) = record.events()
    assert (event["level"], event["event"], json.loads(event["fields"])) == (
        "info",
        "round.closed",
        {"version": 1, "path": "x"},
    )


def test_rows_come_in_the_order_that_their_method_promises(tmp_path: Path) -> None:
    _, record = kept(
        tmp_path / "ledger",
        version(2),
        version(1),
        NodeEntry(1.0, "key-1", "zoe", "idle"),
        NodeEntry(1.0, "key-2", "adam", "idle"),
        update("b", 1, 5.0, 1),
        update("a", 2, 5.0),
        update("a", 1, 3.0, 0),
        ReportEntry(1.0, "b", 1, 1, 1, 0.0),
        ReportEntry(1.0, "b", None, 1, 1, 0.0),
        ReportEntry(1.0, "a", 1, 1, 1, 0.0),
        EventEntry(2.0, "info", "second.happened", {}),
        EventEntry(2.0, "info", "third.happened", {}),
        EventEntry(1.0, "info", "first.happened", {}),
    )
    assert [row["version"] for row in record.versions()] == [0, 1, 2]
    assert [row["name"] for row in record.nodes()] == ["adam", "zoe"]
    assert [(row["node"], row["seq"]) for row in record.updates()] == [("a", 1), ("b", 1), ("a", 2)]
    assert [(row["version"], row["node"]) for row in record.reports()] == [(None, "b"), (1, "a"), (1, "b")]
    assert [row["event"] for row in record.events()] == ["first.happened", "second.happened", "third.happened"]


def test_a_run_is_read_while_it_is_written(tmp_path: Path) -> None:
    ledger, record = kept(tmp_path / "ledger", version(1))
    before = [row["version"] for row in record.versions()]
    ledger.keep([version(2)], now=9.0)
    assert (before, [row["version"] for row in record.versions()]) == ([0, 1], [0, 1, 2])
    assert record.params()[0] == 2


def test_a_run_is_read_after_its_writer_is_gone(tmp_path: Path) -> None:
    ledger, record = kept(tmp_path / "ledger", version(1))
    record.close()
    ledger.close()
    assert [row["version"] for row in reading(tmp_path / "ledger").versions()] == [0, 1]


def test_reading_cannot_write(tmp_path: Path) -> None:
    _, record = kept(tmp_path / "ledger", version(1))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        record._connection.execute("delete from versions")


def test_params_are_those_of_the_version_asked_for_or_of_the_newest(tmp_path: Path) -> None:
    _, record = kept(tmp_path / "ledger", version(1), version(2), version(3))
    for asked, expected in ((None, 3), (3, 3), (1, 1), (0, 0)):
        found, values = record.params(asked)
        assert (found, values.schema, values.flat.tolist()) == (expected, SCHEMA, [float(expected)] * SCHEMA.size)
        assert values.flat.dtype == np.float32


def test_params_that_were_not_kept_are_answered_with_those_that_were(tmp_path: Path) -> None:
    _, record = kept(tmp_path / "ledger", *map(version, range(1, 6)), keeping=Keeping(versions=2))
    for asked in (1, 3, 6, -1):
        with pytest.raises(LedgerUnusable) as refused:
            record.params(asked)
        assert str(refused.value) == (
            f"the params of version {asked} were not kept; kept are 0, 4, 5 (keeping.versions)"
        )


def test_what_the_run_is_can_be_asked(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "ledger", notes={"bundle": "tiny"})
    record = reading(tmp_path / "ledger")
    assert record.schema() == SCHEMA
    assert record.meta() == {
        "run": ledger.past().run,
        "federation": "test",
        "feature_space": "a" * 64,
        "method": "fedclip",
        "format": "2",
        "schema": '[["weight", [3, 4]], ["bias", [3]]]',
        "bundle": "tiny",
    }
    ledger.close()


def test_there_is_nothing_to_read_where_no_ledger_is(tmp_path: Path) -> None:
    (tmp_path / "garbage").write_bytes(b"not a database at all" * 100)
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    for name, expected in (
        ("missing", "there is no ledger at "),
        ("folder", "there is no ledger at "),
        ("garbage", "is not a ledger: the ledger cannot be read: file is not a database"),
        ("empty", "is not a ledger: the ledger cannot be read: no such table: meta"),
    ):
        with pytest.raises(LedgerUnusable, match=expected) as refused:
            reading(tmp_path / name)
        assert str(tmp_path / name) in str(refused.value)


def test_a_record_that_breaks_while_it_is_read_says_so(tmp_path: Path) -> None:
    ledger, record = kept(tmp_path / "ledger", version(1))
    ledger._connection.execute("drop table events")
    with pytest.raises(LedgerUnusable, match="the ledger cannot be read: no such table: events"):
        record.events()


def test_every_table_is_made_and_none_is_forgotten_here(tmp_path: Path) -> None:
    _, record = kept(tmp_path / "ledger")
    names = {row[0] for row in record._connection.execute("select name from sqlite_master where type = 'table'")}
    assert names == {
        "meta",
        "versions",
        "arrays",
        "updates",
        "payloads",
        "segments",
        "settings",
        "nodes",
        "reports",
        "events",
    }
    assert all(f"create table {name} (" in TABLES for name in names)
