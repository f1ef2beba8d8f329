"""A disk that is full, or cannot be written: nothing is accepted, nothing is lost, and with room it goes on."""

import asyncio
import resource
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import ledgers
from desk import HELLO, PAIR, Desk, kinds, update
from fedmq import journal, terms
from fedmq.errors import LedgerUnusable, NotKept
from fedmq.journal import Entry, EventEntry, Journal, NodeEntry
from fedmq.ledger import Keeping, Ledger
from fedmq.messages import Code, Ping, Pong, Verdict, Welcome
from fedmq.past import Past
from fedmq.plan import Codecs, Pulse, Settings, Stop
from fedmq.points import Points
from fedmq.record import LEDGER, Record
from fedmq.replay import Outcome, replay
from fedmq.rounds import PRESETS
from fedmq.serve import serve
from fedmq.status import status
from fedmq.transports.memory import MemoryHub
from ledgers import Life, opened, reading
from pair import Fleet, Worker, params
from test_shells import SETTINGS, run, shell
from toy import Toy, bundle, job

FULL = "the ledger cannot be written: database or disk is full; mend that, and it goes on by itself"


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    ledgers.close_all()


class Disk:
    """A desk whose ledger refuses what it is told while `full`."""

    def __init__(self, settings: Settings) -> None:
        self.desk = Desk(settings)
        self.desk.hold = True

    def refuse(self) -> list[object]:
        batch = self.desk.held.pop(0)
        effects = self.desk.aggregator.unkept(batch.number, FULL, self.desk.now)
        return self.desk._carry_out(effects)  # type: ignore[return-value]


def joined(settings: Settings = PAIR) -> Disk:
    disk = Disk(settings)
    disk.desk.hold = False
    disk.desk.join("a", "b")
    disk.desk.hold = True
    return disk


# What the aggregator says and does


def test_while_the_disk_is_full_an_update_is_put_off_with_the_reason_and_the_time_and_not_looked_at() -> None:
    disk = joined()
    disk.desk.say("a", update(100))
    disk.refuse()
    assert disk.desk.say("b", update(101)) == [("b", Verdict(101, 1, Code.BUSY, FULL, retry_after_s=1.0))]
    assert disk.desk.aggregator.collector.round.updates == 1
    disk.desk.wait(0.5)
    disk.desk.keep()
    assert kinds(disk.desk.say("b", update(101))) == []  # fresh: it now waits for the ledger
    assert disk.desk.aggregator.collector.round.number == 2


def test_the_same_batch_is_tried_again_ever_less_often_and_kept_whole() -> None:
    disk = joined()
    disk.desk.say("a", update(100))
    first = disk.desk.held[0]
    tries = []
    for _ in range(9):
        disk.refuse()
        retry_at = disk.desk.aggregator.stall.retry_at
        assert retry_at is not None
        tries.append(retry_at - disk.desk.now)
        disk.desk.wait(tries[-1])
        assert disk.desk.held == [first]
    assert tries == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    disk.desk.keep()
    ((_, welcome), *_) = disk.desk.say("a", replace(HELLO, session=100, name="a"))
    assert isinstance(welcome, Welcome)
    assert welcome.verdict is not None
    assert (welcome.seq, welcome.verdict.code) == (1, Code.ACCEPTED)
    assert [log.event for log in disk.desk.logs if log.event.startswith("ledger.")] == [
        "ledger.stalled",
        "ledger.resumed",
    ]


def test_status_says_why_nothing_is_accepted_and_when_it_is_tried_again() -> None:
    disk = joined()
    before = status(disk.desk.aggregator, 0.0)
    disk.desk.say("a", update(100))
    disk.refuse()
    found = status(disk.desk.aggregator, 0.1)
    assert before["ledger"] == {"problem": None, "retry_in_s": None, "waiting_bytes": 0}
    assert found["ledger"] == {"problem": FULL, "retry_in_s": 0.4, "waiting_bytes": 60}
    assert found["round"]["reason"] == f"accepting nothing: {FULL}"


def test_nodes_are_greeted_and_answered_while_the_disk_is_full() -> None:
    disk = joined()
    disk.desk.say("a", update(100))
    disk.refuse()
    assert kinds(disk.desk.say("c", replace(HELLO, session=102, name="c"))) == [Welcome]
    assert kinds(disk.desk.say("b", Ping(101, 0, "training"))) == [Pong]


def test_a_duplicate_of_an_update_that_waits_for_the_disk_is_not_put_off() -> None:
    disk = joined()
    disk.desk.say("a", update(100))
    disk.refuse()
    assert disk.desk.say("a", update(100)) == []


def test_more_bytes_than_may_wait_are_put_off_and_one_update_always_fits() -> None:
    disk = joined(replace(PAIR, backlog_bytes=100))
    disk.desk.say("a", update(100))
    ((_, busy),) = disk.desk.say("b", update(101))
    assert isinstance(busy, Verdict)
    assert (busy.code, busy.retry_after_s) == (Code.BUSY, 0.5)
    assert busy.text == "60 bytes wait for the ledger, with these 60 over 100 (backlog_bytes)"
    disk.desk.keep()
    assert disk.desk.say("b", update(101)) == []
    tiny = joined(replace(PAIR, backlog_bytes=1))
    assert tiny.desk.say("a", update(100)) == []


def test_what_waits_is_bounded_also_for_what_only_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MOST_QUEUED", 3)
    found = Journal()
    found.add(NodeEntry(0.0, "a", "a", "idle"))
    assert found.next_batch() == (1, (NodeEntry(0.0, "a", "a", "idle"),))
    for at in range(5):
        found.add(NodeEntry(float(at), "a", "a", "gone"))
        found.add(EventEntry(float(at), "info", "x.happened", {}))
    assert found.again()[0] == 1
    found.kept(1)
    batch = found.next_batch()
    assert batch is not None
    assert batch[1] == (
        NodeEntry(4.0, "a", "a", "gone"),
        EventEntry(0.0, "info", "x.happened", {}),
        EventEntry(1.0, "info", "x.happened", {}),
    )
    assert found.dropped == 3


# Fleets


class Faulty(Ledger):
    """Its disk is full in some windows of time."""

    windows: tuple[tuple[float, float], ...] = ()

    def keep(self, entries: Iterable[Entry], now: float) -> None:
        if any(begin <= now < end for begin, end in self.windows):
            raise NotKept(FULL)
        super().keep(entries, now)


@pytest.mark.parametrize("preset", ["sync", "quorum", "fedbuff"])
def test_a_fleet_whose_disk_was_full_for_a_while_loses_nothing_and_goes_on(preset: str, tmp_path: Path) -> None:
    settings = Settings(
        "test",
        rounds=PRESETS[preset],
        codec=Codecs("int8", "fp16"),
        start_nodes=3,
        pulse=Pulse(1.0, 5.0),
        stop=Stop(versions=8),
    )
    fleet = Fleet(settings, {name: Worker(step=0.1, train_s=1.0 + i, tests=4) for i, name in enumerate("abc")})
    path = tmp_path / "ledger"
    ledger = Faulty.open(path, ledgers.META, {}, fleet.start, Keeping(), 0.0, 0.0, terms.written(settings))
    assert isinstance(ledger, Faulty)
    ledger.windows = ((1.5, 9.0), (12.0, 12.5), (14.0, 75.0))
    fleet.ledger = ledger
    fleet.run(until_s=900.0)
    ledger.close()
    record = reading(path)
    accepted = sorted(row["number"] for row in record.updates() if row["code"] == "accepted")
    told = [log.fields["seq"] for _, _, log in fleet.simulation.logs if log.event == "update.judged"]
    assert [row["version"] for row in record.versions()] == list(range(9))
    assert accepted == list(range(len(accepted)))
    assert len(told) == len(record.updates())
    assert fleet.done["aggregator"].reason == "finished"
    assert [one.outcome for one in replay(record)] == [Outcome.SAME] * 9
    assert {log.event for _, _, log in fleet.simulation.logs} >= {"ledger.stalled", "ledger.resumed", "update.put_off"}


# Real disks


@contextmanager
def no_room(limit_bytes: int) -> Iterator[None]:
    """Have the kernel refuse to let any file of this process grow beyond this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_batch_whose_payloads_the_kernel_refuses_is_not_kept_and_with_room_it_is(tmp_path: Path) -> None:
    ledger, life = opened(tmp_path / "ledger"), Life.after(Past.none(params()))
    batches = life.take(ledgers.updates(9))
    for batch in batches[:4]:
        ledger.keep(batch, 0.0)
    for _ in range(2):
        with no_room(100), pytest.raises(NotKept, match=r"cannot be written: \[Errno 27\] File too large; mend that"):
            ledger.keep(batches[5], 0.0)
    for batch in batches[4:]:
        ledger.keep(batch, 0.0)
    numbers = [entry.number for entry in Points(reading(tmp_path / "ledger")).folded(0)]
    assert numbers == list(range(8))
    assert {one.outcome for one in replay(reading(tmp_path / "ledger"))} == {Outcome.SAME}


def test_a_ledger_that_has_become_read_only_is_waited_for(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "ledger")
    ledger._connection.execute("pragma query_only = on")
    with pytest.raises(NotKept, match="attempt to write a readonly database; mend that, and it goes on by itself"):
        ledger.keep([NodeEntry(0.0, "a", "a", "idle")], 0.0)
    ledger._connection.execute("pragma query_only = off")
    ledger.keep([NodeEntry(0.0, "a", "a", "idle")], 0.0)
    assert [row["name"] for row in reading(tmp_path / "ledger").nodes()] == ["a"]


def test_what_can_never_be_written_is_not_tried_again(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "ledger")
    event = EventEntry(0.0, "info", None, {})  # type: ignore[arg-type]
    with pytest.raises(LedgerUnusable, match="NOT NULL constraint failed: .*; mend that, then start again") as refused:
        ledger.keep([event], 0.0)
    assert not isinstance(refused.value, NotKept)


class Flaky(Ledger):
    """Cannot be written from the first version on, until it has refused three batches."""

    refused = 0

    def keep(self, entries: Iterable[Entry], now: float) -> None:
        try:
            super().keep(entries, now)
        except NotKept:
            type(self).refused += 1
            if self.refused == 3:
                self._connection.execute("pragma query_only = off")
            raise
        (newest,) = self._connection.execute("select max(version) from versions").fetchone()
        if newest and not self.refused:
            self._connection.execute("pragma query_only = on")


def test_a_real_federation_waits_until_its_ledger_can_be_written_again_and_then_finishes(tmp_path: Path) -> None:
    found = bundle(tmp_path / "bundle")

    async def scenario() -> None:
        hub, never = MemoryHub(), asyncio.Event()
        shells = {name: shell(found, name, Toy(80, seed)) for seed, name in enumerate("ab")}
        serving = serve(SETTINGS, job(found), Keeping(), tmp_path / "run", hub, never, kind=Flaky)
        done = await asyncio.gather(serving, *(one.run(hub.connect(name), never) for name, one in shells.items()))
        assert [one.reason for one in done] == ["finished"] * 3

    run(scenario)
    with Record.open(tmp_path / "run" / LEDGER) as record:
        assert record.versions()[-1]["version"] == 4
        assert [row["event"] for row in record.events() if row["event"].startswith("ledger.")] == [
            "ledger.stalled",
            "ledger.resumed",
        ]
        assert {one.outcome for one in replay(record)} == {Outcome.SAME}
    assert Flaky.refused == 3
