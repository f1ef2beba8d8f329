"""The ledger: what it was told is there after a crash, to the bit, or nothing of it."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from numpy import float32, full

import ledgers
from fedmq.delta import Arrays, Params, Schema
from fedmq.errors import EXIT_INPUT, LedgerUnusable
from fedmq.guards import REMEMBERED
from fedmq.journal import EventEntry, NodeEntry, ReportEntry, Traffic, UpdateEntry, VersionEntry
from fedmq.ledger import Keeping, Ledger
from fedmq.messages import Code, Update
from fedmq.outer import VELOCITY
from fedmq.past import Known, Past, Point
from fedmq.points import Points
from fedmq.rules import RULES
from ledgers import Life, as_a_kill_leaves_it, facts, opened, reading
from pair import SCHEMA, params

DAY = 1_800_000_000.0


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    ledgers.close_all()


def node(name: str, state: str = "idle", at: float = 1.0, examples: int = 0, strikes: int = 0) -> NodeEntry:
    return NodeEntry(at, f"key-{name}", name, state, examples=examples, strikes=strikes)


def update(who: str, seq: int, number: int | None, value: float = 1.0) -> UpdateEntry:
    payload = full(SCHEMA.size, value, float32).tobytes()
    sent = Update(7, seq, base_version=0, codec="fp32", examples=10, steps=2, loss=0.5, train_s=1.5, payload=payload)
    code, text = (Code.ACCEPTED, "") if number is not None else (Code.TOO_STALE, "too late")
    return UpdateEntry(2.0, f"key-{who}", sent, 140, code, text, number, 1, 10.0, 0.5, 0.25)


def version(number: int, folded: int, value: float) -> VersionEntry:
    return VersionEntry(
        version=number,
        cause="goal",
        updates=2,
        folded=folded,
        quorum=1,
        invited=3,
        opened_at=1.0,
        closed_at=3.0,
        step_norm=0.5,
        traffic=Traffic(10 * number, 20 * number, 30 * number, 40 * number),
        params=params(value),
    )


def same(one: Past, other: Past) -> bool:
    def plain(past: Past) -> object:
        point = past.point
        arrays = (point.exact.flat, point.broadcast.flat, *point.states.values())
        return (
            replace(point, exact=point.exact.schema, broadcast=None, states={}),  # type: ignore[arg-type]
            [array.tobytes() for array in arrays],
            past.pending,
            past.nodes,
            past.traffic,
        )

    return plain(one) == plain(other)


# What was kept is there


def test_a_new_ledger_has_version_0_and_nothing_else(tmp_path: Path) -> None:
    start = params(0.5)
    past = opened(tmp_path / "ledger", start=start).past()
    assert same(past, Past(Point(0, start, start)))


@pytest.mark.parametrize("count", [3, 11, 26, 40])
def test_what_was_kept_comes_back_to_the_bit(tmp_path: Path, count: int) -> None:
    """Pending updates, norms, velocity, broadcast and traffic, after refusals, scaling and lossy versions."""
    ledger, life = opened(tmp_path / "ledger"), Life.after(Past.none(params()))
    batches = life.take(ledgers.updates(count))
    for name in ledgers.NODES:
        ledger.keep([NodeEntry(0.0, name, name, "idle")], 0.0)
    for i, batch in enumerate(batches):
        ledger.keep(batch, float(i))
    ledger.close()
    past = opened(tmp_path / "ledger").past()

    entries = [entry for batch in batches for entry in batch]
    versions = [entry for entry in entries if isinstance(entry, VersionEntry)]
    folded = versions[-1].folded if versions else 0
    accepted = [entry for entry in entries if isinstance(entry, UpdateEntry) and entry.number is not None]
    pending = [replace(e, update=replace(e.update, session=0)) for e in accepted if (e.number or 0) >= folded]
    assert past.pending == tuple(pending)
    assert past.point.folded == folded
    assert past.point.norms == tuple(entry.norm for entry in accepted[:folded][-REMEMBERED:])
    assert past.traffic == (versions[-1].traffic if versions else Traffic())
    if versions:
        last = versions[-1]
        assert last.broadcast is not None
        assert [past.point.version, past.point.exact.flat.tobytes(), past.point.broadcast.flat.tobytes()] == [
            last.version,
            last.params.flat.tobytes(),
            last.broadcast.flat.tobytes(),
        ]
        assert past.point.states[VELOCITY].tobytes() == last.states[VELOCITY].tobytes()


@pytest.mark.parametrize(
    ("cut", "rule"),
    [*((cut, "mean") for cut in (0, 1, 4, 5, 17, 23, 29, 34)), *((23, rule) for rule in RULES if rule != "mean")],
)
def test_a_life_that_was_cut_short_goes_on_as_if_it_had_not_been(tmp_path: Path, cut: int, rule: str) -> None:
    """A kill between any two batches loses nothing that was kept, and changes no bit of what comes after."""
    arrived, path = ledgers.updates(40), tmp_path / "run" / "ledger"
    path.parent.mkdir()
    settings = replace(ledgers.SETTINGS, rule=rule)
    whole = Life.after(Past.none(params()), settings).take(arrived)
    ledger, first = opened(path), Life.after(Past.none(params()), settings)
    for batch in first.take(arrived[:cut]):
        ledger.keep(batch, 0.0)
    again = opened(as_a_kill_leaves_it(path, tmp_path / "left"))
    rest = Life.after(again.past(), settings).take(arrived[cut:], at=float(cut))
    assert facts([entry for batch in rest for entry in batch]) == facts(
        [entry for batch in whole[cut:] for entry in batch]
    )
    ledger.close()
    again.close()


def test_a_life_in_which_loud_updates_are_scaled_down_is_what_these_tests_are_about() -> None:
    entries = [e for batch in Life.after(Past.none(params())).take(ledgers.updates(40)) for e in batch]
    updates = [entry for entry in entries if isinstance(entry, UpdateEntry)]
    assert {entry.code for entry in updates} == {Code.ACCEPTED, Code.BAD_PAYLOAD}
    assert min(entry.scale for entry in updates if entry.number is not None) < 0.1
    assert max(entry.staleness for entry in updates) == 2
    assert sum(isinstance(entry, VersionEntry) for entry in entries) == 8


def test_nodes_come_back_with_their_last_seq_its_verdict_and_what_they_trained_from(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "ledger")
    ledger.keep([node("a"), node("b"), node("c", "gone"), node("d", "finished"), node("e", "training")], 1.0)
    ledger.keep([update("a", 1, 0), update("b", 1, None), update("a", 2, 1)], 2.0)
    ledger.keep([node("a", examples=30)], 3.0)
    found = {known.name: known for known in ledger.past().nodes}
    verdicts = {name: known.verdict and (known.verdict.seq, known.verdict.code) for name, known in found.items()}
    assert verdicts == {"a": (2, "accepted"), "b": (1, "too_stale"), "c": None, "d": None, "e": None}
    assert {name: (k.node, k.seq, k.trained, k.active, k.examples) for name, k in found.items()} == {
        "a": ("key-a", 2, 0, True, 30),
        "b": ("key-b", 1, -1, True, 0),
        "c": ("key-c", 0, -1, False, 0),
        "d": ("key-d", 0, -1, False, 0),
        "e": ("key-e", 0, -1, True, 0),
    }
    assert found["a"].verdict is not None
    assert (found["a"].verdict.staleness, found["a"].verdict.weight) == (1, 5.0)
    assert isinstance(found["a"], Known)


def test_a_base_version_that_never_was_is_not_remembered_as_trained_from(tmp_path: Path) -> None:
    """Or the node would not be invited again until the federation gets there."""
    ledger, strange = opened(tmp_path / "ledger"), update("a", 2, None)
    strange = replace(strange, code=Code.UNKNOWN_VERSION, update=replace(strange.update, base_version=2**62))
    ledger.keep([node("a"), update("a", 1, 0), strange], 1.0)
    (known,) = ledger.past().nodes
    assert (known.seq, known.trained) == (2, 0)


def test_the_norms_that_come_back_are_of_folded_updates_alone(tmp_path: Path) -> None:
    """Those of pending updates are remembered when they are folded again, and would count twice."""
    ledger = opened(tmp_path / "ledger")
    ledger.keep([replace(update("a", i + 1, i), norm=float(i)) for i in range(60)], 1.0)
    ledger.keep([version(1, folded=58, value=1.0)], 1.0)
    past = ledger.past()
    assert past.point.norms == tuple(float(i) for i in range(8, 58))
    assert [entry.norm for entry in past.pending] == [58.0, 59.0]


def test_a_node_is_updated_in_place_and_keeps_the_time_when_it_first_came(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = opened(path, epoch=DAY)
    ledger.keep([node("a", "preparing", at=1.0)], 1.0)
    ledger.keep([node("a", "gone", at=9.0, examples=5, strikes=2)], 9.0)
    (row,) = reading(path).nodes()
    assert (row["state"], row["first_at"] - DAY, row["at"] - DAY, row["examples"], row["strikes"]) == (
        "gone",
        1,
        9,
        5,
        2,
    )


def test_times_are_kept_as_seconds_since_1970(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "ledger", epoch=DAY)
    ledger.keep([update("a", 1, 0), version(1, 1, 1.0)], now=4.0)
    ledger.keep([ReportEntry(5.0, "a", 1, 10, 7, 0.5), EventEntry(6.0, "info", "x.happened", {})], now=6.0)
    record = reading(tmp_path / "ledger")
    (row,) = record.versions()[1:]
    times = [record.updates()[0]["at"], row["opened_at"], row["closed_at"], row["kept_at"]]
    times += [record.reports()[0]["at"], record.events()[0]["at"]]
    assert [at - DAY for at in times] == [2.0, 1.0, 3.0, 4.0, 5.0, 6.0]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_kept_and_does_not_end_the_run(tmp_path: Path, loss: float) -> None:
    ledger, diverged = opened(tmp_path / "ledger"), update("a", 1, 0)
    diverged = replace(diverged, update=replace(diverged.update, loss=loss))
    ledger.keep([diverged, ReportEntry(5.0, "a", 1, 10, 7, loss)], now=1.0)
    (pending,) = ledger.past().pending
    assert repr(pending.update.loss) == repr(loss)


def test_payloads_that_a_version_has_taken_in_are_kept_but_no_longer_pending(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "ledger")
    ledger.keep([update("a", 1, 0), update("b", 1, 1), update("c", 1, 2), update("c", 2, None)], 1.0)
    before = [entry.number for entry in ledger.past().pending]
    ledger.keep([version(1, folded=2, value=1.0)], 1.0)
    assert (before, [entry.number for entry in ledger.past().pending]) == ([0, 1, 2], [2])
    assert [entry.number for entry in Points(reading(tmp_path / "ledger")).folded(0)] == [0, 1, 2]


@pytest.mark.parametrize(("kept", "expected"), [(0, [0, 1, 2, 3, 4]), (1, [0, 4]), (3, [0, 2, 3, 4])])
def test_as_many_versions_keep_their_params_as_were_asked_for_and_those_that_payloads_follow_on(
    tmp_path: Path, kept: int, expected: list[int]
) -> None:
    ledger = opened(tmp_path / "ledger", keeping=Keeping(versions=kept))
    for number in range(1, 5):
        ledger.keep([version(number, 0, float(number))], 1.0)
    found = []
    for number in range(5):
        try:
            found.append(reading(tmp_path / "ledger").params(number)[0])
        except LedgerUnusable:
            continue
    assert found == expected
    assert ledger.past().point.exact.flat[0] == 4.0


# What was not kept is not there


def test_a_batch_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "ledger")
    ledger.keep([node("a"), update("a", 1, 0)], 1.0)
    before = ledger.past()
    with pytest.raises(LedgerUnusable, match="the ledger cannot be written: UNIQUE constraint failed") as refused:
        ledger.keep([node("b"), update("b", 1, 1), update("a", 1, 2), version(1, 1, 1.0)], 2.0)
    assert refused.value.exit_code == EXIT_INPUT
    assert same(ledger.past(), before)
    ledger.keep([node("b"), update("b", 1, 1)], 3.0)
    assert [entry.node for entry in ledger.past().pending] == ["key-a", "key-b"]


def test_a_full_disk_is_told_nothing_of_the_batch_is_kept_and_with_room_it_goes_on(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "ledger")
    ledger.keep([node("a"), update("a", 1, 0)], 1.0)
    before = ledger.past()
    (pages,) = ledger._connection.execute("pragma page_count").fetchone()
    ledger._connection.execute(f"pragma max_page_count = {pages + 2}")
    big = EventEntry(1.0, "info", "x.happened", {"text": "x" * 1_000_000})
    for _ in range(2):
        with pytest.raises(LedgerUnusable, match=r"cannot be written: database or disk is full; mend that, and it"):
            ledger.keep([node("b"), update("b", 1, 1), big], 2.0)
        assert same(ledger.past(), before)
        assert reading(tmp_path / "ledger").events() == []
    ledger._connection.execute("pragma max_page_count = 100000")
    ledger.keep([node("b"), update("b", 1, 1), big], 3.0)
    ledger.close()
    assert [entry.node for entry in opened(tmp_path / "ledger").past().pending] == ["key-a", "key-b"]


def test_two_writers_keep_apart_and_the_one_who_is_late_is_told(tmp_path: Path) -> None:
    one, two = opened(tmp_path / "ledger"), opened(tmp_path / "ledger")
    one.keep([node("a"), update("a", 1, 0)], 1.0)
    with pytest.raises(LedgerUnusable, match=r"UNIQUE constraint failed: updates\.number"):
        two.keep([node("b"), update("b", 1, 0)], 1.0)
    two.keep([node("b"), update("b", 1, 1)], 1.0)
    one.keep([update("a", 2, 2)], 1.0)
    for ledger in (one, two):
        assert [(entry.node, entry.number) for entry in ledger.past().pending] == [
            ("key-a", 0),
            ("key-b", 1),
            ("key-a", 2),
        ]


# Durable, or not


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
def test_what_is_not_durable_may_be_lost_but_is_never_torn(tmp_path: Path, durable: bool, synchronous: int) -> None:
    """FULL syncs at each commit. NORMAL may lose the last commits with the power; OFF could lose the file."""
    ledger = opened(tmp_path / "ledger", keeping=Keeping(durable=durable))
    found = [ledger._connection.execute(f"pragma {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert found == ["wal", synchronous]


def test_without_durability_a_restart_begins_from_the_last_version_and_goes_on(tmp_path: Path) -> None:
    path, keeping = tmp_path / "ledger", Keeping(durable=False)
    ledger = opened(path, keeping=keeping)
    ledger.keep([node("a"), node("b"), update("a", 1, 0), version(1, folded=1, value=1.0)], 1.0)
    ledger.keep([update("a", 2, 1), update("b", 1, 2), update("b", 2, None)], 2.0)
    ledger.close()
    again = opened(path, keeping=keeping)
    past = again.past()
    assert (past.point.version, past.point.folded, past.pending) == (1, 1, ())
    assert {known.name: known.seq for known in past.nodes} == {"a": 1, "b": 2}
    again.keep([update("a", 3, 1)], 3.0)
    rows = [(row["node"], row["seq"], row["number"]) for row in reading(path).updates()]
    assert rows == [("key-a", 1, 0), ("key-b", 2, None), ("key-a", 3, 1)]


def test_durability_may_be_changed_between_two_starts(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    for seq, durable in enumerate((True, False, True), start=1):
        ledger = opened(path, keeping=Keeping(durable=durable))
        number = ledger.past().point.folded + len(ledger.past().pending)
        ledger.keep([node("a"), update("a", seq, number)], 1.0)
        ledger.close()
    assert [(entry.update.seq, entry.number) for entry in opened(path).past().pending] == [(1, 0), (3, 1)]


# Whose file it is


@pytest.mark.parametrize("key", ["federation", "feature_space", "method"])
def test_another_federations_ledger_is_refused_with_both_values(tmp_path: Path, key: str) -> None:
    opened(tmp_path / "ledger").close()
    with pytest.raises(
        LedgerUnusable, match=f"whose {key} is {ledgers.META[key]!r}, this one's is 'other'; give this federation"
    ):
        opened(tmp_path / "ledger", meta={key: "other"})


def test_a_ledger_of_other_params_is_refused_with_both_schemas(tmp_path: Path) -> None:
    opened(tmp_path / "ledger").close()
    schema = Schema((("weight", (2,)),))
    with pytest.raises(
        LedgerUnusable, match=r'whose schema is .*\["bias", \[3\]\].*, this one\'s is .*"weight", \[2\]'
    ):
        opened(tmp_path / "ledger", start=Params(Arrays(schema, full(2, 0, float32))))


def test_a_ledger_of_another_format_is_refused_with_both_numbers(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    opened(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update meta set value = '99' where key = 'format'")
    with pytest.raises(LedgerUnusable, match="it has format 99, this fedmq writes 2 and migrates 1; open it with"):
        opened(path)
    with pytest.raises(LedgerUnusable, match="has ledger format 99, this fedmq reads 1 and 2"):
        reading(path)


def test_notes_are_as_of_the_last_start_and_do_not_make_the_file_anothers(tmp_path: Path) -> None:
    for bundle in ("tiny", "large"):
        opened(tmp_path / "ledger", notes={"bundle": bundle}).close()
    found = reading(tmp_path / "ledger").meta()
    assert {key: found[key] for key in ("bundle", *ledgers.META)} == {"bundle": "large", **ledgers.META}


def test_a_file_that_is_no_ledger_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "garbage").write_bytes(b"not a database at all" * 100)
    (tmp_path / "folder").mkdir()
    with closing(sqlite3.connect(tmp_path / "other")) as connection:
        connection.execute("create table recipes (name text)")
    for name in ("garbage", "folder", "other", "missing/ledger"):
        with pytest.raises(LedgerUnusable) as refused:
            opened(tmp_path / name)
        assert (str(tmp_path / name) in str(refused.value), refused.value.reason) == (True, "ledger_unusable")


def test_a_ledger_that_was_cut_off_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    opened(path).close()
    whole = path.read_bytes()
    for size in (100, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(LedgerUnusable, match="malformed"):
            opened(path)


def test_a_ledger_whose_making_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    """A kill, or a full disk, between the file's first byte and its first commit."""
    (tmp_path / "ledger").touch()
    assert opened(tmp_path / "ledger").past().point.version == 0
    with closing(sqlite3.connect(tmp_path / "later")) as connection:
        connection.execute("pragma journal_mode = wal")
    assert opened(tmp_path / "later").past().point.version == 0


def test_a_path_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "100% of runs? #1"
    folder.mkdir()
    ledger: Ledger = opened(folder / "ledger")
    ledger.keep([node("a")], 1.0)
    assert [row["name"] for row in reading(folder / "ledger").nodes()] == ["a"]


def test_a_run_has_a_name_that_no_other_has_and_that_stays(tmp_path: Path) -> None:
    first = opened(tmp_path / "ledger")
    name = first.past().run
    first.close()
    assert len(name) == 16
    assert opened(tmp_path / "ledger").past().run == name
    assert opened(tmp_path / "other").past().run != name
