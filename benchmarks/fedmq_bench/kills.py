"""Kills: SIGKILL at random moments in a federation of real processes, and what its ledger says afterwards.

Whoever is killed, the aggregator or a node, is started again at once. How long that takes is measured from the start of
the process to the next version in the ledger, and with the aggregator this includes that Python starts and the ledger
is read. In the end nothing may be lost, nothing may count twice, and versions must have risen by one.
"""

import asyncio
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from fedmq.errors import LedgerUnusable
from fedmq.record import LEDGER, Record
from fedmq_bench.harness import Say
from fedmq_bench.served import LABELS, write_bundle
from fedmq_nodes import fleetfile
from fedmq_nodes.audit import audit
from fedmq_nodes.fleet import RunningFleet

AGGREGATOR = "aggregator"
LOOK_S = 0.05
PATIENCE_S = 120.0
EXAMPLES = 200
FLEET = """
[federation]
federation = "kills"
bundle = "./bundle"
run = "run"
rounds.preset = "quorum"
rounds.deadline_s = 5.0
pulse.heartbeat_s = 0.5
pulse.lost_after_s = 2.0
evaluate_every = 0
link.address = "tcp://127.0.0.1:{port}"
[defaults]
bundle = "./bundle"
examples_per_s = 1000.0
"""


def measure(kills: int, seed: int, say: Say, nodes: int = 4, dim: int = 64) -> Iterator[dict[str, Any]]:
    """Yield one row. Each kill takes a few seconds."""
    rng = np.random.default_rng(seed)
    names = [f"node-{number}" for number in range(nodes)]
    with tempfile.TemporaryDirectory(prefix="fedmq-bench-") as name:
        folder = Path(name)
        write_bundle(folder / "bundle", dim, seed)
        file = folder / "fleet.toml"
        file.write_text(FLEET.format(port=_free_port()) + "".join(map(_node, names)))
        for node in names:
            _features(folder / f"{node}.npz", rng, dim)
        victims, recovery_s = asyncio.run(_run(file, kills, rng, say))
        run = fleetfile.read(file, []).federation.run
        with Record.open(run / LEDGER) as record:
            versions = [row["version"] for row in record.versions()]
            updates = record.updates()
            found = audit(record, run / "logs")
    if versions != list(range(len(versions))):
        raise RuntimeError(f"versions do not rise by one: {versions}")
    yield {
        "case": "kills",
        "link": "zmq",
        "nodes": nodes,
        "kills": kills,
        "killed": dict(Counter("aggregator" if victim == AGGREGATOR else "node" for victim in victims)),
        "versions": versions[-1],
        "updates": sum(update["code"] == "accepted" for update in updates),
        **found,
        "recovery_p50_s": float(np.percentile(recovery_s, 50)),
        "recovery_p95_s": float(np.percentile(recovery_s, 95)),
        "recovery_max_s": max(recovery_s),
    }


async def _run(file: Path, kills: int, rng: Generator, say: Say) -> tuple[list[str], list[float]]:
    """Kill and start again; return who was killed, and how long it took each time to the next version."""
    fleet = fleetfile.read(file, [])
    running = RunningFleet(fleet, file, [])
    ledger = fleet.federation.run / LEDGER
    victims: list[str] = []
    recovery_s: list[float] = []
    try:
        await running.start()
        await _commit_after(ledger, 0.0)
        for number in range(kills):
            # A moment of its own within a round, which takes about as long.
            await asyncio.sleep(float(rng.uniform(0.0, 0.5)))
            victim = str(rng.choice([AGGREGATOR, *running.nodes]))
            if victim == AGGREGATOR:
                await running.kill_aggregator()
                began = time.time()
                await running.start_aggregator()
            else:
                running.kill_node(victim)
                began = time.time()
                await running.start_node(victim)
            recovery_s.append(await _commit_after(ledger, began) - began)
            victims.append(victim)
            say(f"kill {number + 1} of {kills}: {victim}, {recovery_s[-1]:.2f} s to the next version")
    finally:
        await running.stop()
    return victims, recovery_s


async def _commit_after(ledger: Path, moment: float) -> float:
    """Wait for a version that is kept after this moment, and return when it was."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if (kept_at := _last_kept_at(ledger)) > moment:
                return kept_at
            await asyncio.sleep(LOOK_S)


def _last_kept_at(ledger: Path) -> float:
    """Return when the newest version that came of a round was kept; 0 if there is none."""
    with suppress(LedgerUnusable), Record.open(ledger) as record:
        last = record.versions()[-1]
        return float(last["kept_at"]) if last["version"] else 0.0
    return 0.0


def _node(name: str) -> str:
    return f'[[nodes]]\nname = "{name}"\nfeatures = "{name}.npz"\n'


def _features(path: Path, rng: Generator, dim: int) -> None:
    labels = rng.integers(0, len(LABELS), EXAMPLES)
    np.savez(path, features=rng.standard_normal((EXAMPLES, dim), dtype=np.float32), labels=labels, classes=LABELS)


def _free_port() -> int:
    """Return a port that was free a moment ago: an aggregator that is started again must listen where it did."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
