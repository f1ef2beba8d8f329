"""Ledger: what durability costs a round, beside the same round with no ledger at all, and what the ledger takes alone.

A round is that of `latency`. Federations that write everything durably, that write without waiting for the disk, and
that write nothing take turns, so that whatever else the machine does hits all three alike.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fedmq.compress import codec
from fedmq.delta import Params
from fedmq.journal import Entry, Traffic, UpdateEntry, VersionEntry
from fedmq.ledger import Keeping, Ledger
from fedmq.messages import Code, Update
from fedmq_bench import latency
from fedmq_bench.harness import Pair, Say, figures, seconds
from fedmq_bench.untrained import params

ALONE_ROUNDS = 20


def measure(
    nodes: int, name: str, rounds: int, repeats: int, seed: int, say: Say, dim: int = 512
) -> Iterator[dict[str, Any]]:
    """Yield a row with durability and one without."""
    kinds = {"durable": (True, True), "written": (False, True), "off": (False, False)}
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(repeats):
        for kind, (durable, ledger) in kinds.items():
            size = latency.Size(nodes, name, dim=dim, rounds=rounds, blocks=1, durable=durable, ledger=ledger)
            found[kind] += latency.timing(size, seed + turn).pair.ours
        say(f"turn {turn + 1} of {repeats}: {', '.join(f'{kind} {1e3 * s[-1]:.0f} ms' for kind, s in found.items())}")
    for kind in ("durable", "written"):
        pair = Pair(found[kind], found["off"])
        yield {
            "case": "ledger",
            "nodes": nodes,
            "codec": name,
            "durable": kind == "durable",
            "updates_per_s": nodes / pair.median_s,
            "off_updates_per_s": nodes / pair.other_s,
            "median_s": pair.median_s,
            "off_median_s": pair.other_s,
            **figures(pair),
            "alone_updates_per_s": nodes / alone(nodes, name, Keeping(kind == "durable", versions=1), dim, seed),
            "payload_bytes": codec(name).size_bytes(params(dim, seed).schema),
        }


def alone(nodes: int, name: str, keeping: Keeping, dim: int, seed: int) -> float:
    """Return the seconds that a ledger takes for a round's updates and its version, in one batch; the median."""
    start = params(dim, seed)
    payload = np.random.default_rng(seed).bytes(codec(name).size_bytes(start.schema))
    with tempfile.TemporaryDirectory(prefix="fedmq-bench-") as folder:
        ledger = Ledger.open(Path(folder) / "ledger", {}, {}, start, keeping, 0.0, 0.0)
        taken = []
        for version in range(1, ALONE_ROUNDS + 1):
            batch = _round(version, nodes, name, payload, start)
            taken.append(seconds(lambda batch=batch: ledger.keep(batch, 0.0)))  # type: ignore[misc]
        ledger.close()
    return float(np.median(taken))


def _round(version: int, nodes: int, name: str, payload: bytes, found: Params) -> list[Entry]:
    first = (version - 1) * nodes
    batch: list[Entry] = [
        UpdateEntry(
            at=0.0,
            node=f"node-{node}",
            update=Update(1, version, version - 1, name, 10, payload=payload),
            frame_bytes=len(payload),
            code=Code.ACCEPTED,
            number=first + node,
            weight=10.0,
            damping=1.0,
            norm=1.0,
        )
        for node in range(nodes)
    ]
    closed = VersionEntry(version, "goal", nodes, first + nodes, 1, nodes, 0.0, 0.0, 1.0, Traffic(), found)
    return [*batch, closed]
