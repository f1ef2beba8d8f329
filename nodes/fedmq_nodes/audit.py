"""The audit: what the nodes were told, against what the ledger has."""

import json
from collections.abc import Iterator
from pathlib import Path

from fedmq.record import Record
from fedmq.summary import ACCEPTED


def audit(record: Record, logs: Path) -> dict[str, int]:
    """Return how many updates were lost, and how many were counted twice.

    lost          a node was told that it is accepted, and the ledger has not folded it into a version
    duplicated    folded into versions more often than accepted
    """
    folded = record.versions()[-1]["folded"]
    accepted = [row for row in record.updates() if row["code"] == ACCEPTED]
    in_versions = {(row["node"], row["seq"]) for row in accepted if row["number"] < folded}
    told = set(_acknowledged(logs, {row["name"]: row["node"] for row in record.nodes()}))
    counted = sum(row["updates"] for row in record.versions())
    return {"lost": len(told - in_versions), "duplicated": counted - len(in_versions)}


def _acknowledged(logs: Path, nodes: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Yield (node, seq) of every update whose acceptance a node has logged."""
    for path in logs.glob("*.log"):
        for line in path.read_text(errors="replace").splitlines():
            if '"update.judged"' in line:
                fields = json.loads(line)
                if fields["code"] == ACCEPTED:
                    yield nodes.get(fields["node"], fields["node"]), fields["seq"]
