"""Memory: what an aggregator needs while many nodes send to it.

The aggregator is `fedmq serve` itself, started from the command line; its peak is what the kernel remembers of it. The
nodes are real ones over real connections that train nothing, a few processes with many nodes each: how many processes
there are at the other end is nothing that an aggregator could notice.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from numpy.random import Generator

from fedmq.codec import Limits
from fedmq.compress import codec
from fedmq.transports import Link
from fedmq.transports.zmq import ZmqLink
from fedmq_bench.harness import Say
from fedmq_bench.processes import hear_all, processes
from fedmq_bench.served import Seen, aggregator, write_bundle
from fedmq_bench.untrained import METHOD, schema, take_part
from fedmq_nodes.greeting import Introduction

LOOK_S = 0.05
FEDERATION = """
federation = "memory"
bundle = "{folder}/bundle"
run = "{folder}/run"
start_nodes = {nodes}
evaluate_every = 0
[link]
address = "tcp://127.0.0.1:*"
[codec]
up = "{codec}"
[stop]
versions = {rounds}
[pulse]
heartbeat_s = 10.0
lost_after_s = 120.0
"""


def measure(
    nodes: int, codec_name: str, rounds: int, seed: int, say: Say, drivers: int = 4, dim: int = 512
) -> Iterator[dict[str, Any]]:
    """Yield one row.

    drivers    processes that the nodes share
    """
    codec(codec_name)
    drivers = min(drivers, nodes)
    say(f"{nodes} nodes in {drivers} processes, {rounds} rounds of {codec_name} to fedmq serve")
    with tempfile.TemporaryDirectory(prefix="fedmq-bench-") as name:
        folder = Path(name)
        space = write_bundle(folder / "bundle", dim, seed)
        file = folder / "federation.toml"
        file.write_text(FEDERATION.format(folder=folder, nodes=nodes, codec=codec_name, rounds=rounds))
        began = time.monotonic()
        with aggregator(file) as (process, address):
            seen = Seen(process.pid)
            seen.look()
            with processes(drivers, _nodes, drivers, nodes, address, space, dim, seed) as pipes:
                while process.poll() is None:
                    seen.look()
                    time.sleep(LOOK_S)
                if process.returncode != 0:
                    raise RuntimeError(f"fedmq serve ended with code {process.returncode}")
                adopted = [version for versions in hear_all(pipes) for version in versions]
    if adopted != [rounds] * nodes:
        raise RuntimeError(f"the nodes ended with versions {adopted}, the federation with {rounds}")
    if seen.loaded:
        raise RuntimeError(f"the aggregator has loaded {', '.join(sorted(seen.loaded))}, which it must do without")
    yield {
        "case": "memory",
        "nodes": nodes,
        "codec": codec_name,
        "rounds": rounds,
        "peak_rss_bytes": seen.peak,
        "first_rss_bytes": seen.first,
        "last_rss_bytes": seen.last,
        "torch_loaded": "torch" in seen.loaded,
        "onnxruntime_loaded": "onnxruntime" in seen.loaded,
        "params": schema(dim).size,
        "payload_bytes": codec(codec_name).size_bytes(schema(dim)),
        "seconds": time.monotonic() - began,
        "drivers": drivers,
    }


def _nodes(
    pipe: Connection, number: int, drivers: int, nodes: int, address: str, space: str, dim: int, seed: int
) -> None:
    """Be every `drivers`-th node; tell the version that each held in the end."""

    def connect(name: str, _rng: Generator) -> Link:
        return ZmqLink.connect(address, name, Limits())

    async def main() -> None:
        names = [f"node-{node}" for node in range(number, nodes, drivers)]
        people = [Introduction("memory", name, space, dim, (METHOD,)) for name in names]
        notes = await asyncio.gather(*(take_part(connect, who, seed) for who in people))
        pipe.send([adoptions[-1].version for adoptions in notes])

    asyncio.run(main())
