"""Memory: what an aggregator needs while many nodes send to it.

The aggregator is `fedmq serve` itself, started from the command line; its peak is what the kernel remembers of it. The
nodes are real ones over real connections that train nothing, a few processes with many nodes each.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedmq.compress import codec
from fedmq_bench.crowd import Crowd, drive
from fedmq_bench.harness import Say
from fedmq_bench.processes import hear_all, processes
from fedmq_bench.served import Seen, aggregator, write_bundle
from fedmq_bench.untrained import schema
from fedmq_bench.wires import laid

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
    with tempfile.TemporaryDirectory(prefix="fedmq-bench-") as name, laid("zmq", Path(name), ()) as wire:
        folder = Path(name)
        space = write_bundle(folder / "bundle", dim, seed)
        file = folder / "federation.toml"
        file.write_text(FEDERATION.format(folder=folder, nodes=nodes, codec=codec_name, rounds=rounds))
        began = time.monotonic()
        with aggregator(file) as (process, address):
            seen = Seen(process.pid)
            seen.look()
            crowd = Crowd(wire, address, "memory", space, nodes, drivers, dim, seed)
            with processes(drivers, drive, crowd) as pipes:
                seen.follow(process, LOOK_S)
                adopted = [version for told in hear_all(pipes) for version in told.versions]
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
