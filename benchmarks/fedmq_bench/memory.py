"""Memory: what an aggregator needs while many nodes send to it.

The aggregator is `fedmq serve` itself, started from the command line; its peak is what the kernel remembers of it. The
nodes are real ones over real connections that train nothing, a few processes with many nodes each: how many processes
there are at the other end is nothing that an aggregator could notice.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from fedmq.compress import codec
from fedmq_bench.harness import Say
from fedmq_bench.processes import hear_all, processes
from fedmq_bench.untrained import METHOD, schema, take_part
from fedmq_models import bundle
from fedmq_nodes.greeting import Introduction

LABELS = ("dog", "cat", "fish")
HEAVY = ("torch", "onnxruntime")
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


@dataclass
class Seen:
    """What was seen of a process: resident bytes at first, at last and at most, and which heavy libraries it had."""

    pid: int
    first: int = 0
    last: int = 0
    peak: int = 0
    loaded: set[str] = field(default_factory=set)

    def look(self) -> None:
        """Look again; a process that has ended leaves what was seen last."""
        folder = Path(f"/proc/{self.pid}")
        with suppress(OSError, KeyError):
            facts = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            self.last, self.peak = (1024 * int(facts[key].split()[0]) for key in ("VmRSS", "VmHWM"))
            self.first = self.first or self.last
            maps = (folder / "maps").read_text()
            self.loaded |= {name for name in HEAVY if f"/{name}/" in maps}


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
        space = _bundle(folder / "bundle", dim, seed)
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


@contextmanager
def aggregator(file: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run `fedmq serve` and yield its process and its address, once it listens."""
    words = [sys.executable, "-m", "fedmq", "serve", str(file), "--json", "--log-level", "error"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)  # noqa: S603
    assert process.stdout is not None
    try:
        told = process.stdout.readline()
        if not told:
            raise RuntimeError(f"fedmq serve did not start: code {process.wait()}")
        yield process, json.loads(told)["listening"]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _bundle(folder: Path, dim: int, seed: int) -> str:
    """Write a bundle of the size of CLIP's, without an encoder, and return its feature space."""
    text = np.random.default_rng(seed).standard_normal((len(LABELS), dim))
    return bundle.write(folder, name="memory", labels=LABELS, text=text, declared_space="memory").feature_space


def _nodes(
    pipe: Connection, number: int, drivers: int, nodes: int, address: str, space: str, dim: int, seed: int
) -> None:
    """Be every `drivers`-th node; tell the version that each held in the end."""

    async def main() -> None:
        names = [f"node-{node}" for node in range(number, nodes, drivers)]
        people = [Introduction("memory", name, space, dim, (METHOD,)) for name in names]
        notes = await asyncio.gather(*(take_part(address, who, seed) for who in people))
        pipe.send([adoptions[-1].version for adoptions in notes])

    asyncio.run(main())
