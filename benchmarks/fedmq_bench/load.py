"""Load: as many nodes as one aggregator may have, each over a connection of its own, and how soon they are answered.

The aggregator is `fedmq serve` with a durable ledger. The nodes are real ones that train nothing and hold a small
adapter, so that what is measured is the count of them and not their bytes. Rounds close at a tenth of the nodes, and
the others' updates are carried into the next: all nodes work all the time. The run goes on for at least as many updates
as are asked for, such as those of an hour in which each node sends one a minute.
"""

import asyncio
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from fedmq.record import LEDGER, Record
from fedmq_bench.harness import Say
from fedmq_bench.processes import hear_all, processes
from fedmq_bench.served import Seen, aggregator, write_bundle
from fedmq_bench.untrained import METHOD, schema, take_part
from fedmq_bench.wires import Wire, laid
from fedmq_nodes.greeting import Introduction

NAME = "load"
LOOK_S = 0.1
SETTLED = 0.2  # share of a run after which memory is expected to grow no more
FEDERATION = """
federation = "{name}"
bundle = "{folder}/bundle"
run = "{folder}/run"
start_nodes = {nodes}
evaluate_every = 0
[link]
address = "{wire.address}"
curve = "{wire.endpoint.curve}"
key = "{wire.own_key}"
enrolled = "{wire.endpoint.enrolled}"
[rounds]
goal = {goal}
max_staleness = 1000
[stop]
versions = {versions}
[pulse]
heartbeat_s = 30.0
lost_after_s = 300.0
"""


def measure(
    link: str, nodes: int, updates: int, seed: int, say: Say, drivers: int = 4, dim: int = 32
) -> Iterator[dict[str, Any]]:
    """Yield one row.

    link       one of the wires
    drivers    processes that the nodes share
    """
    goal = max(1, nodes // 10)
    versions = -(-updates // goal)
    drivers = min(drivers, nodes)
    say(f"{nodes} nodes over {link} in {drivers} processes; {versions} versions of {goal} updates each")
    with tempfile.TemporaryDirectory(prefix="fedmq-bench-") as name, ExitStack() as ends:
        folder = Path(name)
        wire = ends.enter_context(laid(link, folder, [_name(node) for node in range(nodes)]))
        space = write_bundle(folder / "bundle", dim, seed)
        file = folder / "federation.toml"
        values = {"name": NAME, "folder": folder, "wire": wire, "nodes": nodes, "goal": goal, "versions": versions}
        file.write_text(FEDERATION.format(**values))
        with aggregator(file) as (process, address):
            seen, sizes = Seen(process.pid), list[tuple[float, int]]()
            seen.look()
            with processes(drivers, _nodes, wire, drivers, nodes, address, space, dim, seed) as pipes:
                while process.poll() is None:
                    seen.look()
                    sizes.append((time.time(), seen.last))
                    time.sleep(LOOK_S)
                if process.returncode != 0:
                    raise RuntimeError(f"fedmq serve ended with code {process.returncode}")
                waited = np.concatenate(hear_all(pipes))
        with Record.open(folder / "run" / LEDGER) as record:
            committed = record.versions()
            accepted = sum(update["code"] == "accepted" for update in record.updates())
    began, ended = committed[1]["opened_at"], committed[-1]["closed_at"]
    settled = began + SETTLED * (ended - began)
    before = [size for at, size in sizes if at < began] or [seen.first]
    during = [size for at, size in sizes if settled <= at <= ended] or [seen.last]
    yield {
        "case": "load",
        "link": link,
        "nodes": nodes,
        "updates": accepted,
        "updates_per_s": accepted / (ended - began),
        "verdict_p50_s": float(np.percentile(waited, 50)),
        "verdict_p99_s": float(np.percentile(waited, 99)),
        "bytes_per_node": (before[-1] - seen.first) / nodes,
        "settled_rss_bytes": during[0],
        "last_rss_bytes": during[-1],
        "peak_rss_bytes": seen.peak,
        "seconds": ended - began,
        "params": schema(dim).size,
        "drivers": drivers,
    }


def _name(node: int) -> str:
    return f"node-{node}"


def _nodes(
    pipe: Connection, number: int, wire: Wire, drivers: int, nodes: int, address: str, space: str, dim: int, seed: int
) -> None:
    """Be every `drivers`-th node; tell how long each update waited for its verdict."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    waited: list[float] = []

    async def main() -> None:
        people = [Introduction(NAME, _name(node), space, dim, (METHOD,)) for node in range(number, nodes, drivers)]
        connect = partial(wire.link, address, NAME)
        await asyncio.gather(*(take_part(connect, who, seed, verdict_s=waited) for who in people))

    asyncio.run(main())
    pipe.send(np.array(waited))
