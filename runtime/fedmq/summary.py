"""The summary of a run, from its record: what it reached, what it cost, how long rounds took. Plain values."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

import numpy as np

from fedmq.plan import CAVEAT, STAYS
from fedmq.record import Record, Row
from fedmq.stats.forms import FORMS, Fp32
from fedmq.stats.layout import Layout

ACCEPTED = "accepted"


def summarise(record: Record) -> dict[str, Any]:
    """Return the facts of a run.

    zero_shot, federated     mean over nodes of the accuracy on each one's own test split: of the frozen model, and of
                             the newest version that the node reported on
    personal                 the same with each node's own part, over the nodes that have one; null if none has
    caveat                   what these must be read with, or nothing
    stays                    what each node keeps to itself of what it learns, or nothing
    updates                  accepted, refused, by_code
    bytes                    application layer: per accepted update upwards (its frame) and downwards (all that was sent
                             down, shared out), and what its values are as float32
    round_s                  p50 and p95 of the time from a round's first invitation to its close
    """
    versions, updates, nodes = record.versions(), record.updates(), record.nodes()
    accepted = [update for update in updates if update["code"] == ACCEPTED]
    codes = [update["code"] for update in updates]
    accuracies = accuracy_by_node(record.reports(), nodes)
    seconds = [row["closed_at"] - row["opened_at"] for row in versions[1:]]
    behind = [update["staleness"] for update in accepted]
    last, meta = versions[-1], record.meta()
    return {
        "federation": meta["federation"],
        "caveat": meta.get(CAVEAT, ""),
        "stays": meta.get(STAYS, ""),
        "versions": last["version"],
        "seconds": round(last["closed_at"] - versions[0]["closed_at"], 3),
        "zero_shot": _mean([row["zero_shot"] for row in accuracies]),
        "federated": _mean([row["federated"] for row in accuracies]),
        "personal": _mean([row["personal"] for row in accuracies]),
        "nodes": accuracies,
        "updates": {
            "accepted": len(accepted),
            "refused": len(updates) - len(accepted),
            "by_code": {code: codes.count(code) for code in sorted(set(codes))},
        },
        "bytes": {
            "up_per_update": round(_mean([update["frame_bytes"] for update in accepted]) or 0),
            "down_per_update": round(last["down_application"] / max(1, len(accepted))),
            "fp32_per_update": _fp32_bytes(record, accepted),
            "up_total": last["up_application"],
            "down_total": last["down_application"],
        },
        "round_s": {"p50": percentile(seconds, 50), "p95": percentile(seconds, 95)},
        "staleness": {"mean": _mean(behind), "max": max(behind, default=0)},
    }


def accuracy_by_node(reports: Sequence[Row], nodes: Sequence[Row]) -> list[dict[str, Any]]:
    """Return per node its name, test examples, zero-shot accuracy, and that of the newest version it reported on.

    personal     of that version with the node's own part; None where it has none
    """
    found = []
    for node in nodes:
        own = [report for report in reports if report["node"] == node["node"] and report["examples"]]
        frozen = [report for report in own if report["version"] is None]
        adapted = [report for report in own if report["version"] is not None]
        newest = max(adapted, key=lambda report: report["version"], default=None)
        found.append(
            {
                "node": node["name"] or node["node"],
                "trains": node["examples"] > 0,
                "tests": node["tests"],
                "version": newest["version"] if newest else None,
                "zero_shot": share(frozen[-1]) if frozen else None,
                "federated": share(newest) if newest else None,
                "personal": share(newest, "personal") if newest and newest["personal"] is not None else None,
            }
        )
    return found


def share(report: Row, of: str = "correct") -> float:
    """Return the accuracy in a report: with what is shared, or `of` the personal model."""
    return float(report[of]) / float(report["examples"])


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return a percentile, or None of nothing."""
    return round(float(np.percentile(values, percent)), 4) if values else None


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return round(mean(present), 4) if present else None


def _fp32_bytes(record: Record, accepted: Sequence[Row]) -> int:
    """Return what one update is as float32: a delta, or statistics."""
    if accepted and accepted[-1]["codec"] in FORMS:
        return Fp32().size_bytes(Layout.of(record.schema()))
    return 4 * record.schema().size
