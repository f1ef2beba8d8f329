"""One run in real time: `fedmq serve`, a process and a link for each node, and the row that the ledger then gives."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, nullcontext
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from fedmq.config import Endpoint, Federation
from fedmq.delta import digest_of
from fedmq.errors import ConfigInvalid
from fedmq.ledger import Keeping, Ledger
from fedmq.record import LEDGER
from fedmq_bench import broker
from fedmq_bench.harness import Say
from fedmq_bench.scenario import policies, recorded
from fedmq_bench.scenario.case import Case
from fedmq_bench.scenario.data import Pool
from fedmq_bench.scenario.device import Role
from fedmq_bench.scenario.form import Scenario
from fedmq_bench.scenario.ground import Ground
from fedmq_bench.scenario.host import UP, Host
from fedmq_bench.scenario.mqtt import Mqtt
from fedmq_bench.scenario.wire import Splitter, Wire
from fedmq_bench.scenario.zmtp import Zmtp
from fedmq_models import bundle as bundles
from fedmq_models.bundle import Bundle
from fedmq_models.examples import Examples
from fedmq_nodes import task as tasks
from fedmq_nodes.fleet import RunningFleet
from fedmq_nodes.fleetfile import Fleet
from fedmq_nodes.sources import Data

LOOK_S, TELL_S = 0.1, 10.0
LOOPBACK = "127.0.0.1"


class Over(StrEnum):
    """What a run goes over."""

    ZMQ = "zmq"
    MQTT = "mqtt"

    @classmethod
    def named(cls, word: str) -> "Over":
        """Return it; raises ConfigInvalid for another word."""
        if word not in list(cls):
            raise ConfigInvalid(f"--link is {word!r}; there are {', '.join(cls)}")
        return cls(word)

    @contextmanager
    def laid(self, folder: Path) -> Iterator[str]:
        """Run the broker, where there is one, and yield the address that the aggregator is to be given."""
        with broker.running(folder) if self is Over.MQTT else nullcontext() as mosquitto:
            yield mosquitto.address if mosquitto else f"tcp://{LOOPBACK}:*"

    def splitter(self, direction: str) -> Splitter:
        """Return what tells frames apart on a new connection."""
        return Mqtt() if self is Over.MQTT else Zmtp(envelope=1 if direction == UP else 0)


def run(
    scenario: Scenario,
    policy: str,
    pool: Pool,
    trains: bool = True,
    over: Over = Over.ZMQ,
    say: Say = lambda _line: None,
) -> dict[str, Any]:
    """Run it, and return the row.

    pool       what there is to learn from: `data.pool` of the scenario's source
    trains     False leaves training out: what the system does, without what is learned
    say        told every few seconds how far it is
    raises     RuntimeError if a process ends that neither the plan nor we have ended
    """
    began = time.perf_counter()
    case = Case.of(scenario, policy, pool, trains)
    folder = Path(tempfile.mkdtemp(prefix="fedmq-scenario-"))
    try:
        with over.laid(folder) as address:
            found = asyncio.run(_run(case, _settings(case, pool.bundle, folder, address), folder, over, say))
    except BaseException as error:
        error.add_note(f"logs and ledger are in {folder}")
        raise
    shutil.rmtree(folder)
    return case.row("real", {"link": over.value, **found}, time.perf_counter() - began)


async def _run(case: Case, settings: Federation, folder: Path, over: Over, say: Say) -> dict[str, Any]:
    file = folder / "federation.toml"
    file.write_text("\n".join(policies.lines(asdict(settings))), encoding="utf-8")
    trains = case.gauge is not None
    async with AsyncExitStack() as stack:
        aggregator = RunningFleet(Fleet(settings, ()), file, [])
        stack.push_async_callback(aggregator.stop)
        await aggregator.start_aggregator()
        scheme, _, rest = aggregator.address.partition("://")
        ground = Ground(trains)
        for name, member in case.fleet.plan.members.items():
            host = Host(member, None, 0, handshakes=0.0)
            wire = Wire(host, int(rest.rpartition(":")[2]), over.splitter, ground.carrier(host), ground.clock)
            await stack.enter_async_context(wire)
            address = f"{scheme}://{LOOPBACK}:{wire.port}"
            data = _compact(case.fleet.dealt[name].data) if trains else None
            ground.add(host, Role(member, settings.federation, case.job, address, data, folder))
        stack.push_async_callback(ground.end)
        await ground.begin()
        began_at = time.time() - ground.clock()
        ended_at = await _until_over(case, settings.run, ground, aggregator, began_at, say)
    traffic = recorded.replayed(settings.run, case.log, began_at)
    case.log.sent_bytes = ground.sent_bytes
    return case.log.row(traffic, ended_at, case.log.is_over or 0 < case.time_s <= ended_at)


async def _until_over(
    case: Case, run: Path, ground: Ground, aggregator: RunningFleet, began_at: float, say: Say
) -> float:
    """Wait until as many updates are accepted as are wanted, it is time, or nothing has come for too long; say when."""
    patience_s, wanted, ended = case.fleet.plan.patience_s, case.log.updates, asyncio.ensure_future(aggregator.wait())
    tell_at = TELL_S
    while True:
        await asyncio.wait({ended}, timeout=LOOK_S)
        if ended.done():
            raise RuntimeError(f"the aggregator ended: {aggregator.last_words('aggregator')}")
        if ground.failure is not None:
            raise RuntimeError(ground.failure)
        now, accepted = ground.clock(), [at - began_at for at in recorded.accepted(run)]
        if 0 < wanted <= len(accepted):
            await asyncio.sleep(LOOK_S)  # for the version that the last of them may have closed
            return accepted[wanted - 1]
        if 0 < case.time_s <= now or now - (accepted[-1] if accepted else 0.0) > patience_s:
            return now
        if now >= tell_at:
            tell_at = now + TELL_S
            say(f"{now:.0f} s: {len(accepted)}{f' of {wanted}' if wanted else ''} updates")


def _settings(case: Case, bundle: Bundle, folder: Path, address: str) -> Federation:
    """Return the settings of the aggregator's process: every version stays in its ledger, to be measured afterwards."""
    if not bundle.path.is_dir():
        bundle = bundles.write(
            folder / "bundle", name=bundle.name, labels=bundle.labels, text=bundle.text, declared_space=bundle.name
        )
    drawn = digest_of(tasks.job(bundle, case.scenario.task).params) != digest_of(case.job.params)
    return replace(
        case.settings,
        bundle=str(bundle.path),
        run=folder / "run",
        start_from=_beginning(case, folder) if drawn else None,
        link=Endpoint(address),
        keeping=replace(case.settings.keeping, versions=0),
        task=asdict(case.scenario.task),
    )


def _beginning(case: Case, folder: Path) -> Path:
    """Return a run that ended with the version 0 that the seed draws: `fedmq serve` draws always the same."""
    run, job = folder / "beginning", case.job
    run.mkdir()
    meta = {"federation": case.settings.federation, "feature_space": job.feature_space, "method": job.method}
    Ledger.open(run / LEDGER, meta, job.notes, job.params, Keeping(), epoch=0.0, now=0.0).close()
    return run


def _compact(data: Data) -> Data:
    """Return the same without the rows of others, which would travel with them to another process."""
    train, test = (
        Examples(each.batch(slice(None)), np.arange(len(each)), each.labels) for each in (data.train, data.test)
    )
    return Data(train, test)
