"""Latency: how long a round takes when nobody trains, beside a bare echo of the same bytes in the same run.

A round here is from "version v is committed and delivered to all" to "version v + 1 is committed and delivered to all":
v has reached N node processes, N updates come up, are judged and folded, v + 1 is written to the ledger, goes down, and
is adopted by the last of them. Every node notes when it adopted a version, by the clock that all processes of a Linux
machine share, and hands its notes over in the end; a version is delivered when the last node has it.

Rounds and echoes take turns in blocks, in the same N processes: a node that is asked to train from the last version of
a block echoes first. So whatever else the machine does hits both alike, and neither side runs beside the other.
"""

import asyncio
import resource
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fedmq import observe
from fedmq.compress import codec
from fedmq.config import Federation
from fedmq.journal import Entry, VersionEntry
from fedmq.ledger import Keeping, Ledger
from fedmq.plan import Codecs, Job, Pulse, Stop
from fedmq.serve import serve
from fedmq_bench import floor, floor_mqtt
from fedmq_bench.harness import Pair, Say, figures
from fedmq_bench.processes import hear, hear_all, processes
from fedmq_bench.untrained import METHOD, params, schema, take_part
from fedmq_bench.wires import Wire, laid
from fedmq_nodes import links
from fedmq_nodes.greeting import Introduction

SPACE = "0" * 64
NAME = "latency"
# Nodes do not ping while they echo, and must not be taken for dead.
PULSE = Pulse(heartbeat_s=600.0, lost_after_s=3600.0)


@dataclass(frozen=True)
class Size:
    """One federation of the benchmark.

    link       one of the wires
    rounds     that are counted in a block, and as many echoes; one more before each of them warms up
    durable    whether each version is on the disk before it is announced; an echo writes nothing
    ledger     whether there is a ledger at all; without one, nothing of what the federation does is written down
    """

    nodes: int
    link: str = "zmq"
    up: str = "fp32"
    down: str = "fp32"
    dim: int = 512
    rounds: int = 10
    blocks: int = 5
    durable: bool = False
    ledger: bool = True

    @property
    def bytes_each_way(self) -> tuple[int, int]:
        """Payload of a model on its way down, and of an update on its way up."""
        return codec(self.down).size_bytes(schema(self.dim)), codec(self.up).size_bytes(schema(self.dim))

    @property
    def versions(self) -> int:
        """Of all blocks together."""
        return self.blocks * (self.rounds + 1)

    def ends_block(self, version: int) -> bool:
        """Whether nodes echo before they train from this version."""
        return version > 0 and version % (self.rounds + 1) == 0

    def counts(self, version: int) -> bool:
        """Whether the round that begins with this version is counted: neither the first of a block, nor the last of
        all, which is there so that the last block, too, ends in a request to train.
        """
        return version % (self.rounds + 1) != 0 and version < self.versions


def measure(sizes: Sequence[Size], seed: int, say: Say) -> Iterator[dict[str, Any]]:
    """Yield a row per size."""
    for size in sizes:
        federation = f"{size.nodes} nodes over {size.link}, {size.up} up, {size.down} down"
        say(f"{federation}: {size.blocks} x {size.rounds} rounds and echoes")
        yield run(size, seed)


@dataclass(frozen=True)
class Timing:
    """Seconds of each round and echo that counts, of each commit, and of the processors."""

    pair: Pair
    commits: Sequence[float]
    cpu_s: float
    aggregator_cpu_s: float
    floor_cpu_s: float
    floor_hub_cpu_s: float


def run(size: Size, seed: int) -> dict[str, Any]:
    """Return the row of one federation."""
    down_bytes, up_bytes = size.bytes_each_way
    found = timing(size, seed)
    return {
        "case": NAME,
        "link": size.link,
        "nodes": size.nodes,
        "codec": size.up,
        "down": size.down,
        "durable": size.durable,
        "median_s": found.pair.median_s,
        "floor_median_s": found.pair.other_s,
        **figures(found.pair),
        "commit_median_s": median(found.commits),
        "cpu_s": found.cpu_s,
        "aggregator_cpu_s": found.aggregator_cpu_s,
        "floor_cpu_s": found.floor_cpu_s,
        "floor_hub_cpu_s": found.floor_hub_cpu_s,
        "params": schema(size.dim).size,
        "up_bytes": up_bytes,
        "down_bytes": down_bytes,
    }


def timing(size: Size, seed: int) -> Timing:
    """Run one federation, and its echoes, to the end."""
    down_bytes, _ = size.bytes_each_way
    with tempfile.TemporaryDirectory(prefix="fedmq-bench-") as name, ExitStack() as ends:
        folder = Path(name)
        wire = ends.enter_context(laid(size.link, folder, [_name(number) for number in range(size.nodes)]))
        bare = (floor_mqtt if wire.brokered else floor).hub
        (echo,) = ends.enter_context(processes(1, bare, wire, size.nodes, down_bytes, size.rounds + 1, size.blocks))
        (aggregator,) = ends.enter_context(processes(1, _aggregator, wire, size, folder, seed))
        addresses = hear(aggregator), hear(echo)
        nodes = ends.enter_context(processes(size.nodes, _node, wire, *addresses, size, seed))
        echoes, (cpu_s, closed), *notes = hear_all([echo, aggregator, *nodes])
    pair = Pair(
        _steps(_delivered([adoptions for adoptions, _, _ in notes]), size),
        [seconds for block, _ in echoes for seconds in block[1:]],
    )
    hub_cpu_s = sum(cpu for _, cpu in echoes)
    return Timing(
        pair,
        _steps(closed, size),
        cpu_s=(cpu_s + sum(own for _, own, _ in notes)) / size.versions,
        aggregator_cpu_s=cpu_s / size.versions,
        floor_cpu_s=(hub_cpu_s + sum(own for _, _, own in notes)) / size.versions,
        floor_hub_cpu_s=hub_cpu_s / size.versions,
    )


def _delivered(adoptions: Sequence[dict[int, float]]) -> dict[int, float]:
    """Return when the last node had each version."""
    return {version: max(held[version] for held in adoptions) for version in adoptions[0]}


def _steps(at: dict[int, float], size: Size) -> list[float]:
    """Return the seconds from each version that counts to the next."""
    return [at[version + 1] - at[version] for version in sorted(at) if size.counts(version)]


def _name(number: int) -> str:
    return f"node-{number}"


def _aggregator(pipe: Connection, _number: int, wire: Wire, size: Size, folder: Path, seed: int) -> None:
    """Serve one federation; tell its address, and in the end this process's CPU seconds since then, and when each
    version was closed.
    """
    observe.configure("error")
    federation = Federation(
        NAME,
        link=wire.endpoint,
        start_nodes=size.nodes,
        evaluate_every=0,
        codec=Codecs(size.up, size.down),
        stop=Stop(versions=size.versions + 1),
        pulse=PULSE,
    )
    job = Job(SPACE, size.dim, METHOD, {}, b"", params(size.dim, seed))
    closed: dict[int, float] = {}

    class Noting(Ledger):
        """Notes when versions were closed, and keeps what it is told to, where the benchmark wants a ledger."""

        def keep(self, entries: Iterable[Entry], now: float) -> None:
            entries = tuple(entries)
            if size.ledger:
                super().keep(entries, now)
            closed.update({entry.version: entry.closed_at for entry in entries if isinstance(entry, VersionEntry)})

    async def main() -> None:
        hub = await links.hub(federation, np.random.default_rng(seed))
        keeping = Keeping(size.durable, versions=1)
        try:
            pipe.send(hub.address)
            await serve(federation, job, keeping, folder, hub.link, asyncio.Event(), hub.admitted, Noting)
        finally:
            await hub.link.close()

    began = _cpu_s()
    asyncio.run(main())
    pipe.send((_cpu_s() - began, closed))


def _node(pipe: Connection, number: int, wire: Wire, address: str, echo_address: str, size: Size, seed: int) -> None:
    """Take part in rounds and echoes; in the end tell when each version was held, and CPU seconds of both."""
    echo = (floor_mqtt if wire.brokered else floor).Echo(wire, echo_address, size.bytes_each_way[1])
    echo_cpu_s = 0.0

    def before_training(version: int) -> None:
        nonlocal echo_cpu_s
        if size.ends_block(version):
            began = _cpu_s()
            echo.block()
            echo_cpu_s += _cpu_s() - began

    who = Introduction(NAME, _name(number), SPACE, size.dim, (METHOD,))
    began = _cpu_s()
    adoptions = asyncio.run(take_part(partial(wire.link, address, NAME), who, seed, before_training))
    pipe.send(({note.version: note.at for note in adoptions}, _cpu_s() - began - echo_cpu_s, echo_cpu_s))
    echo.close()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
