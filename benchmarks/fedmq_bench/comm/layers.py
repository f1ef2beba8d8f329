"""Layers: a federation of real processes, and how many bytes of it there are at each of four layers.

    goodput         payloads of accepted updates, and of versions         what the aggregator counts
    application     + envelopes, tasks, verdicts                          what the aggregator counts
    transport       + ZeroMQ's framing                                    what the kernel counts per TCP connection
    wire            + TCP/IP, acknowledgements, Ethernet                  what the interfaces of a cable count

All four are read at the same moments, when a version goes to the ledger, in the aggregator's process. Between two such
moments lie whole rounds, so joining is not in them. On the wire, an acknowledgement counts in its own direction: with a
small codec upwards and a large one downwards, a good part of what goes up are acknowledgements.

Nodes train nothing (`untrained`); both directions use one codec each. Where the link is to be slow, the nodes connect
through a relay instead, and what counts is the time of a round.
"""

import asyncio
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from fedmq import observe
from fedmq.codec import Limits
from fedmq.journal import Entry, VersionEntry
from fedmq.ledger import Keeping, Ledger
from fedmq.plan import Codecs, Job, Pulse, Settings, Stop
from fedmq.serve import serve
from fedmq.transports.zmq import ZmqHub, ZmqLink
from fedmq_bench import cables, relay, sockets
from fedmq_bench.processes import hear, hear_all, processes
from fedmq_bench.untrained import METHOD, params, take_part
from fedmq_nodes.greeting import Introduction

SPACE = "0" * 64
NAME = "comm"
LAYERS = ("goodput", "application", "transport", "wire")
# A node that sends for minutes over a slow link does not ping meanwhile, and must not be taken for dead.
PULSE = Pulse(heartbeat_s=600.0, lost_after_s=3600.0)


@dataclass(frozen=True)
class Plan:
    """One federation.

    rounds     that are counted; one more before them is not
    link       what each node's link is like, both ways; None is as fast as this machine
    """

    up: str
    down: str
    nodes: int
    rounds: int
    dim: int = 512
    link: relay.Shape | None = None


@dataclass(frozen=True)
class Bytes:
    """Bytes of one direction at each layer; wire is None where it could not be counted."""

    goodput: float
    application: float
    transport: float
    wire: float | None

    def __sub__(self, before: "Bytes") -> "Bytes":
        pairs = zip(self.values, before.values, strict=True)
        return Bytes(*(None if a is None or b is None else a - b for a, b in pairs))  # type: ignore[arg-type]

    def __truediv__(self, count: int) -> "Bytes":
        return Bytes(*(None if value is None else value / count for value in self.values))  # type: ignore[arg-type]

    @property
    def values(self) -> tuple[float | None, ...]:
        """All four, in their order."""
        return self.goodput, self.application, self.transport, self.wire

    def named(self) -> dict[str, float | None]:
        """Return them by layer."""
        return dict(zip(LAYERS, self.values, strict=True))


@dataclass(frozen=True)
class Reading:
    """What was counted until a version went to the ledger, and when its round was closed."""

    version: int
    closed_at: float
    up: Bytes
    down: Bytes


@dataclass(frozen=True)
class Found:
    """Bytes of a round, per node and direction, and the median seconds of one."""

    up: Bytes
    down: Bytes
    round_s: float


def measure(plan: Plan, seed: int, cable: cables.Cable | None = None) -> Found:
    """Run one federation to its end: over a cable, over loopback where there is none, or over a slow link."""
    readings = {reading.version: reading for reading in _run(plan, seed, cable)}
    first, last = readings[1], readings[plan.rounds + 1]
    updates = plan.nodes * plan.rounds
    closed = [readings[version].closed_at for version in sorted(readings)]
    return Found(
        (last.up - first.up) / updates,
        (last.down - first.down) / updates,
        median(after - before for before, after in pairwise(closed)),
    )


def _run(plan: Plan, seed: int, cable: cables.Cable | None) -> Sequence[Reading]:
    assert cable is None or plan.link is None
    with tempfile.TemporaryDirectory(prefix="fedmq-bench-") as name, ExitStack() as ends:
        near, far = (cable.near, cable.far) if cable else (0, 0)
        (aggregator,) = ends.enter_context(processes(1, _aggregator, plan, Path(name), seed, near))
        port: int = hear(aggregator)
        with ExitStack() as links:
            if plan.link is not None:
                port = links.enter_context(_slow(port, plan.link))
            address = f"tcp://{cables.NEAR if cable else '127.0.0.1'}:{port}"
            nodes = ends.enter_context(processes(plan.nodes, _node, address, plan, seed, far))
            readings, *_ = hear_all([aggregator, *nodes])
    found: Sequence[Reading] = readings
    return found


@contextmanager
def _slow(port: int, shape: relay.Shape) -> Iterator[int]:
    """Yield the port of a relay, in a process of its own, to this one."""
    with processes(1, _relay, port, shape) as (end,):
        yield hear(end)
        end.send("enough")


def _relay(pipe: Connection, _number: int, port: int, shape: relay.Shape) -> None:
    asyncio.run(relay.run("127.0.0.1", port, shape, shape, pipe.send, asyncio.to_thread(pipe.recv)))


def _aggregator(pipe: Connection, _number: int, plan: Plan, folder: Path, seed: int, namespace: int) -> None:
    """Serve one federation; tell its port, and in the end what was read at each version."""
    observe.configure("error")
    if namespace:
        cables.enter(namespace)
    settings = Settings(
        NAME,
        start_nodes=plan.nodes,
        evaluate_every=0,
        codec=Codecs(plan.up, plan.down),
        stop=Stop(versions=plan.rounds + 1),
        pulse=PULSE,
    )
    job = Job(SPACE, plan.dim, METHOD, {}, b"", params(plan.dim, seed))
    readings: list[Reading] = []
    host = cables.NEAR if namespace else "127.0.0.1"

    async def main() -> None:
        hub = ZmqHub.bind(f"tcp://{host}:*", Limits())
        port = int(hub.address.rpartition(":")[2])

        class Reads(Ledger):
            """Reads all counters when a version comes."""

            def keep(self, entries: Iterable[Entry], now: float) -> None:
                entries = tuple(entries)
                readings.extend(
                    _reading(entry, port, namespace) for entry in entries if isinstance(entry, VersionEntry)
                )
                super().keep(entries, now)

        try:
            pipe.send(port)
            keeping = Keeping(durable=False, versions=1)
            await serve(settings, job, keeping, folder, hub, asyncio.Event(), kind=Reads)
        finally:
            await hub.close()

    asyncio.run(main())
    pipe.send(readings)


def _reading(entry: VersionEntry, port: int, namespace: int) -> Reading:
    traffic = entry.traffic
    received, sent = sockets.carried(port)
    wire_in, wire_out = cables.counted() if namespace else (None, None)
    return Reading(
        entry.version,
        entry.closed_at,
        Bytes(traffic.up_goodput, traffic.up_application, received, wire_in),
        Bytes(traffic.down_goodput, traffic.down_application, sent, wire_out),
    )


def _node(pipe: Connection, number: int, address: str, plan: Plan, seed: int, namespace: int) -> None:
    """Take part until the federation has finished."""
    if namespace:
        cables.enter(namespace)
    who = Introduction(NAME, f"node-{number}", SPACE, plan.dim, (METHOD,))
    asyncio.run(take_part(lambda name, _: ZmqLink.connect(address, name, Limits()), who, seed))
    pipe.send("finished")
