"""Load: as many nodes as one aggregator may have, each over a connection of its own, and how soon they are answered.

The aggregator is `fedmq serve` with a durable ledger. The nodes are real ones that train nothing and hold a small
adapter, so that what is measured is the count of them and not their bytes. Rounds close at a tenth of the nodes, and
the others' updates are carried into the next: all nodes work all the time. The run goes on for at least as many updates
as are asked for, such as those of an hour in which each node sends one a minute.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from fedmq.record import LEDGER, Record
from fedmq.summary import ACCEPTED
from fedmq_bench.crowd import Crowd, drive, names
from fedmq_bench.harness import Say
from fedmq_bench.processes import hear_all, processes
from fedmq_bench.served import Seen, aggregator, write_bundle
from fedmq_bench.untrained import schema
from fedmq_bench.wires import laid

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
        wire = ends.enter_context(laid(link, folder, names(nodes)))
        space = write_bundle(folder / "bundle", dim, seed)
        file = folder / "federation.toml"
        values = {"name": NAME, "folder": folder, "wire": wire, "nodes": nodes, "goal": goal, "versions": versions}
        file.write_text(FEDERATION.format(**values))
        with aggregator(file) as (process, address):
            seen = Seen(process.pid)
            seen.look()
            with processes(
                drivers, drive, Crowd(wire, address, NAME, space, nodes, drivers, dim, seed, stale=True)
            ) as pipes:
                sizes = seen.follow(process, LOOK_S)
                waited = np.concatenate([told.verdict_s for told in hear_all(pipes)])
        with Record.open(folder / "run" / LEDGER) as record:
            committed = record.versions()
            accepted = sum(update["code"] == ACCEPTED for update in record.updates())
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
