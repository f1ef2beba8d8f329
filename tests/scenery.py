"""A small scenario: toy features in two domains, links with a rate, and a bundle of three classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import toy
from fedmq_bench.scenario import data, file, simulated
from fedmq_bench.scenario.form import Scenario

GROUP = {"name": "node", "count": 4, "up": {"mbps": 1.0, "rtt_ms": 20.0}, "down": {"mbps": 2.0, "rtt_ms": 20.0}}


def features(folder: Path, count: int = 400) -> Path:
    """Write a file of toy features in two domains."""
    path = folder / "toy.npz"
    values, labels = toy.features(count, seed=3)
    domains = np.where(np.arange(count) % 2, "photo", "sketch")
    np.savez(path, features=values, labels=labels, domains=domains, classes=np.array(toy.LABELS), text=toy.text())
    return path


def scenario(folder: Path, *groups: dict[str, Any], **tables: Any) -> Scenario:
    """Return a scenario on toy features, of these groups: each is what it says beside GROUP."""
    if not (folder / "toy.npz").is_file():
        features(folder)
    table = {
        "data": {"source": "toy.npz"},
        "task": {"lr": 0.05, "batch_size": 16},
        "stop": {"updates_per_node": 5},
        "groups": [GROUP | group for group in groups or ({},)],
    }
    return file.scenario(table | tables, "test", folder)


def run(what: Scenario, policy: str = "sync", trains: bool = False) -> dict[str, Any]:
    """Return the row of a run."""
    return simulated.run(what, policy, data.pool(what.data.source, lambda _line: None), trains)


def digests(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what versions rows have come to."""
    return [row["digest"] for row in rows]
