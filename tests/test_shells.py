"""Both shells in one process: real training, a real ledger, frames through memory, no socket."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedmq import control
from fedmq.codec import Limits
from fedmq.effects import Done
from fedmq.errors import AddressUnusable, LedgerUnusable
from fedmq.ledger import Keeping
from fedmq.plan import Codecs, Job, Pulse, Settings, Stop
from fedmq.record import LEDGER, Record, Row
from fedmq.rounds import PRESETS
from fedmq.serve import serve
from fedmq.summary import summarise
from fedmq.transports.memory import MemoryHub
from fedmq.transports.zmq import ZmqHub, ZmqLink
from fedmq_models.bundle import Bundle
from fedmq_nodes import task
from fedmq_nodes.errors import DataUnusable
from fedmq_nodes.greeting import Introduction
from fedmq_nodes.join import Pace, Shell
from fedmq_nodes.sources import Split
from toy import DIM, Toy, bundle, job

PATIENCE_S = 120.0
SETTINGS = Settings(
    "toy",
    rounds=PRESETS["quorum"],
    codec=Codecs("int8", "fp16"),
    start_nodes=2,
    pulse=Pulse(0.2, 2.0),
    stop=Stop(versions=4),
)


def shell(found: Bundle, name: str, toy: Toy, split: Split | None = None, **changes: object) -> Shell:
    who = Introduction("toy", name, found.feature_space, DIM, task.methods())
    rng = np.random.default_rng(toy.seed)
    return Shell(replace(who, **changes), toy, split or Split(0.3), Pace(), 1, rng)  # type: ignore[arg-type]


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await scenario()

    asyncio.run(main())


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what another task brings about, and has no event for."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def federation(
    folder: Path, settings: Settings, what: Job, shells: dict[str, Shell], stop: asyncio.Event | None = None
) -> dict[str, Done]:
    """Run to the end; return how each of them ended."""
    hub = MemoryHub()
    never = asyncio.Event()
    serving = serve(settings, what, Keeping(), folder, hub, stop or never)
    joining = [one.run(hub.connect(name), stop or never) for name, one in shells.items()]
    done = await asyncio.gather(serving, *joining)
    return dict(zip(("aggregator", *shells), done, strict=True))


def test_a_federation_in_memory_trains_commits_finishes_and_leaves_its_record(tmp_path: Path) -> None:
    found = bundle(tmp_path / "bundle")

    async def scenario() -> None:
        shells = {name: shell(found, name, Toy(80, seed)) for seed, name in enumerate("abc")}
        done = await federation(tmp_path / "run", SETTINGS, job(found), shells)
        assert {name: one.reason for name, one in done.items()} == dict.fromkeys(("aggregator", *"abc"), "finished")

    run(scenario)
    record = Record.open(tmp_path / "run" / LEDGER)
    summary = summarise(record)
    assert summary["versions"] == 4
    assert summary["federated"] > summary["zero_shot"] + 0.05
    assert {row["node"]: row["version"] for row in summary["nodes"]} == dict.fromkeys("abc", 4)
    assert record.versions()[-1]["folded"] == summary["updates"]["accepted"]


def test_the_same_shells_run_over_zeromq(tmp_path: Path) -> None:
    found = bundle(tmp_path / "bundle")

    async def scenario() -> None:
        hub = ZmqHub.bind("tcp://127.0.0.1:*", Limits())
        links = {name: ZmqLink.connect(hub.address, name, Limits()) for name in "ab"}
        never = asyncio.Event()
        try:
            done = await asyncio.gather(
                serve(SETTINGS, job(found), Keeping(), tmp_path / "run", hub, never),
                *(shell(found, name, Toy(80, 1)).run(link, never) for name, link in links.items()),
            )
        finally:
            for link in links.values():
                await link.close()
            await hub.close()
        assert [one.reason for one in done] == ["finished"] * 3

    run(scenario)
    assert summarise(Record.open(tmp_path / "run" / LEDGER))["versions"] == 4


def test_a_node_that_only_evaluates_is_never_asked_to_train(tmp_path: Path) -> None:
    found = bundle(tmp_path / "bundle")

    async def scenario() -> None:
        shells = {name: shell(found, name, Toy(80, seed)) for seed, name in enumerate("ab")}
        shells["apart"] = shell(found, "apart", Toy(50, 9), Split(train=False))
        await federation(tmp_path / "run", SETTINGS, job(found), shells)

    run(scenario)
    record = Record.open(tmp_path / "run" / LEDGER)
    assert {row["node"] for row in record.updates()} == {"a", "b"}
    (apart,) = (row for row in summarise(record)["nodes"] if row["node"] == "apart")
    assert (apart["tests"], apart["version"], apart["trains"]) == (50, 4, False)


def test_a_node_whose_data_is_unusable_tells_the_aggregator_why_and_raises(tmp_path: Path) -> None:
    found = bundle(tmp_path / "bundle")

    async def scenario() -> None:
        hub, stop = MemoryHub(), asyncio.Event()
        serving = asyncio.ensure_future(serve(SETTINGS, job(found), Keeping(), tmp_path / "run", hub, stop))
        broken = shell(found, "broken", Toy(fails=DataUnusable("no images")))
        with pytest.raises(DataUnusable, match="no images"):
            await broken.run(hub.connect("broken"), stop)
        await until(lambda: any(row["state"] == "gone" for row in _rows(tmp_path / "run", Record.nodes)))
        stop.set()
        assert (await serving).reason == "interrupted"

    run(scenario)
    events = [row for row in Record.open(tmp_path / "run" / LEDGER).events() if row["event"] == "node.left"]
    assert ["data_unusable" in row["fields"] for row in events] == [True]


def _rows(folder: Path, rows: Callable[[Record], list[Row]]) -> list[Row]:
    """What a record has so far; nothing while its file is being made."""
    try:
        return rows(Record.open(folder / LEDGER))
    except LedgerUnusable:
        return []


def test_a_node_of_another_feature_space_is_refused_with_both_values(tmp_path: Path) -> None:
    found = bundle(tmp_path / "bundle")

    async def scenario() -> None:
        hub, stop = MemoryHub(), asyncio.Event()
        serving = asyncio.ensure_future(serve(SETTINGS, job(found), Keeping(), tmp_path / "run", hub, stop))
        stranger = shell(found, "stranger", Toy(), feature_space="f" * 64)
        done = await stranger.run(hub.connect("stranger"), stop)
        assert (done.refused, done.reason) == (True, "feature_space")
        assert "f" * 16 in done.text
        assert found.feature_space[:16] in done.text
        stop.set()
        await serving

    run(scenario)


def test_an_interrupted_run_goes_on_where_it_was_and_a_finished_one_stays_finished(tmp_path: Path) -> None:
    found = bundle(tmp_path / "bundle")
    folder = tmp_path / "run"

    def shells() -> dict[str, Shell]:
        return {name: shell(found, name, Toy(80, seed)) for seed, name in enumerate("ab")}

    async def interrupted() -> None:
        stop = asyncio.Event()

        async def interrupt() -> None:
            await until(lambda: len(_rows(folder, Record.versions)) >= 3)
            stop.set()

        endless = replace(SETTINGS, stop=Stop(versions=0))
        done, _ = await asyncio.gather(federation(folder, endless, job(found), shells(), stop), interrupt())
        assert done["aggregator"].reason == "interrupted"

    run(interrupted)
    before = Record.open(folder / LEDGER).versions()

    async def resumed() -> None:
        more = replace(SETTINGS, stop=Stop(versions=len(before) + 2))
        done = await federation(folder, more, job(found), shells())
        assert done["aggregator"].reason == "finished"

    run(resumed)
    after = Record.open(folder / LEDGER).versions()
    assert after[: len(before)] == before
    assert [row["version"] for row in after] == list(range(len(before) + 3))

    async def again() -> None:
        more = replace(SETTINGS, stop=Stop(versions=len(before) + 2))
        assert (await serve(more, job(found), Keeping(), folder, MemoryHub(), asyncio.Event())).reason == "finished"

    run(again)


def test_a_run_folder_serves_one_aggregator_and_one_federation(tmp_path: Path) -> None:
    found = bundle(tmp_path / "bundle")

    async def scenario() -> None:
        stop = asyncio.Event()
        first = asyncio.ensure_future(serve(SETTINGS, job(found), Keeping(), tmp_path / "run", MemoryHub(), stop))
        await until((tmp_path / "run" / control.FILE).exists)
        with pytest.raises(LedgerUnusable, match="is in use by another process"):
            await serve(SETTINGS, job(found), Keeping(), tmp_path / "run", MemoryHub(), stop)
        stop.set()
        await first
        other = replace(SETTINGS, federation="other")
        with pytest.raises(LedgerUnusable, match="whose federation is 'toy', this one's is 'other'"):
            await serve(other, job(found), Keeping(), tmp_path / "run", MemoryHub(), stop)

    run(scenario)


def test_the_status_of_a_running_aggregator_can_be_asked_for_with_the_token_alone(tmp_path: Path) -> None:
    found = bundle(tmp_path / "bundle")
    folder = tmp_path / "run"

    async def scenario() -> None:
        stop = asyncio.Event()
        serving = asyncio.ensure_future(serve(SETTINGS, job(found), Keeping(), folder, MemoryHub(), stop))
        await until((folder / control.FILE).exists)
        answer = await asyncio.to_thread(control.ask, folder)
        assert (answer["version"], answer["round"]["reason"]) == (0, "waiting for nodes: 0 of 2 ready")
        assert (folder / control.FILE).stat().st_mode & 0o777 == 0o600
        told = (folder / control.FILE).read_text()
        (folder / control.FILE).write_text(told.replace('"token": "', '"token": "x'))
        assert await asyncio.to_thread(control.ask, folder) == {}
        stop.set()
        await serving

    run(scenario)
    with pytest.raises(AddressUnusable, match="no aggregator is running in"):
        control.ask(folder)
