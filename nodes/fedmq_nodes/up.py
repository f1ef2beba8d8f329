"""Up: run a whole fleet on this machine to its end, show how it goes, and say what came of it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedmq import control
from fedmq.config import Federation
from fedmq.errors import AddressUnusable, ConfigInvalid, LedgerUnusable
from fedmq.record import LEDGER, Record
from fedmq.summary import summarise
from fedmq_nodes.audit import audit
from fedmq_nodes.fleet import ProcessFailed, RunningFleet
from fedmq_nodes.fleetfile import Fleet
from fedmq_nodes.live import View
from fedmq_nodes.options import NodeOptions
from fedmq_nodes.wiring import until_interrupted

ASKED_EVERY_S = 0.2


class Watch:
    """What a fleet's aggregator says of itself, as of a moment ago; what happens in the fleet can wait for it."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}
        self._changed = asyncio.Condition()

    async def tell(self, status: dict[str, Any]) -> None:
        """Take note of a new status."""
        async with self._changed:
            self.status = status
            self._changed.notify_all()

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the status is such that `holds`."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self.status) and holds(self.status))


Story = Callable[[RunningFleet, Watch, View], Awaitable[None]]


async def no_story(fleet: RunningFleet, watch: Watch, view: View) -> None:
    """Let the fleet run undisturbed."""


async def run(
    fleet: Fleet, file: Path, overrides: Sequence[str], view: View, story: Story = no_story
) -> dict[str, Any]:
    """Run the fleet to its end and return the summary of its run.

    story      what is done to the fleet meanwhile
    raises     ProcessFailed if the aggregator fails, or so many nodes that it would wait for ever; DataUnusable,
               before anything is started; KeyboardInterrupt if a person stops it
    """
    for node in fleet.nodes:
        node.require_data()
    running, watch = RunningFleet(fleet, file, overrides), Watch()
    folder = fleet.federation.run
    with until_interrupted() as stop:
        try:
            is_over = _is_over(fleet.federation)
            await running.start_aggregator()
            if is_over:
                view.say(f"the run in {folder} is over, and this is what came of it; --set run=FOLDER begins another")
            joining = asyncio.ensure_future(_join(() if is_over else fleet.nodes, running, watch))
            watching = asyncio.ensure_future(_watch(folder, running, watch, view))
            ending = asyncio.ensure_future(running.wait())
            stopping = asyncio.ensure_future(stop.wait())
            ends, tasks = {ending, stopping, watching}, [watching, joining, stopping]
            await asyncio.wait({*ends, joining}, return_when=asyncio.FIRST_COMPLETED)
            if joining.done() and joining.exception() is None:
                tasks.append(asyncio.ensure_future(story(running, watch, view)))
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            failed = next((one.exception() for one in (watching, joining) if one.done() and one.exception()), None)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if not ending.done():
                ending.cancel()
                raise failed or KeyboardInterrupt
            if (code := ending.result()) != 0:
                raise ProcessFailed(f"the aggregator ended with code {code}: {running.last_words('aggregator')}", code)
        finally:
            await running.stop()
    with Record.open(folder / LEDGER) as record:
        summary = summarise(record)
        summary["updates"] |= audit(record, running.logs)
    return summary | {
        "run": str(folder),
        "failed": {one.name: one.last_words for one in running.ended() if one.code > 0},
    }


def held_out(fleet: Fleet, name: str) -> tuple[Fleet, list[str]]:
    """Return the fleet in which this node only evaluates, on all of its examples, in a run folder of its own.

    Also returned are the overrides with which its aggregator is started.

    raises     ConfigInvalid if there is no such node
    """
    names = [node.name for node in fleet.nodes]
    if name not in names:
        raise ConfigInvalid(f"no node named {name!r} to hold out; there are {', '.join(names)}, or each")
    nodes = tuple(replace(node, train=False) if node.name == name else node for node in fleet.nodes)
    run = (fleet.federation.run / f"without-{name}").absolute()
    least = min(fleet.federation.start_nodes, sum(node.train for node in nodes))
    federation = replace(fleet.federation, run=run, start_nodes=least)
    return Fleet(federation, nodes), [f'run="{run}"', f"start_nodes={least}"]


def _is_over(federation: Federation) -> bool:
    """Whether the run has its last version from an earlier start."""
    try:
        with Record.open(federation.run / LEDGER) as record:
            return federation.stop.is_last(record.versions()[-1]["version"])
    except LedgerUnusable:
        return False  # there is none, or the aggregator will say what is wrong with it


async def _join(nodes: Sequence[NodeOptions], running: RunningFleet, watch: Watch) -> None:
    """Start the nodes, and first those that only evaluate: a round of statistics may be over before they are ready."""
    apart = {node.name for node in nodes if not node.train}

    def are_there(status: dict[str, Any]) -> bool:
        ready = {row["name"] for row in status["nodes"] if row["state"] == "idle"}
        return apart <= ready | {one.name for one in running.ended()}

    for name in apart:
        await running.start_node(name)
    if apart:
        await watch.until(are_there)
    for node in nodes:
        if node.train:
            await running.start_node(node.name)


async def _watch(folder: Path, running: RunningFleet, watch: Watch, view: View) -> None:
    """Show how the fleet does, until it is cancelled; raises ProcessFailed once nothing can come of it any more."""
    while True:
        begun = bool(watch.status) and (watch.status["version"] > 0 or watch.status["round"]["open_s"] is not None)
        if (one := running.failure(begun)) is not None:
            raise ProcessFailed(f"node {one.name} ended with code {one.code}: {one.last_words}", one.code)
        with suppress(AddressUnusable):
            status = await asyncio.to_thread(control.ask, folder)
            view.update(status, running.ended())
            await watch.tell(status)
        await asyncio.sleep(ASKED_EVERY_S)
