"""Comparing policies: from the rows of their runs to one figure each, seed by seed against the synchronous one.

The protocol is that of time-to-accuracy: the target is a share of the best accuracy that `sync` has reached with the
same seed, which is the same data, fleet and weather; a policy has reached it at the first version measured that has it.
One that has not by the end of its run did not finish. Medians and quartiles are over seeds, a run that did not finish
being later than any that did.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmq.errors import ConfigInvalid
from fedmq_bench.scenario.policies import SYNC

Row = Mapping[str, Any]
CASE, FAST = "scenario compare", "times_as_fast"
SHARES = {"95": 0.95, "99": 0.99}
LATE = 1.1  # of a deadline: no round should wait longer


@dataclass(frozen=True)
class Reached:
    """When a target was reached, and at what price; infinite where it was not."""

    at_s: float = math.inf
    bytes: float = math.inf
    up_goodput: float = math.inf
    updates: float = math.inf


def require_sync(policies: Sequence[str]) -> None:
    """Raise ConfigInvalid if there would be nothing to compare with."""
    if SYNC not in policies:
        raise ConfigInvalid(
            f"--policies is {','.join(policies)}: it takes {SYNC} as well, by which others are measured"
        )


def figures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one row of figures for each run, each seed with the synchronous one of that seed."""
    sync = {row["seed"]: row for row in rows if row["policy"] == SYNC}
    return [_figures(row, sync[row["seed"]]) for row in rows]


def _figures(row: Row, sync: Row) -> dict[str, Any]:
    told: dict[str, Any] = {
        "case": CASE,
        **{key: row[key] for key in ("preset", "policy", "engine", "seed", "nodes", "accepted", "ended_s", "finished")},
        "versions": row["versions"],
        "wasted_bytes": row["wasted_bytes"],
        "refused": sum(row["refused"].values()),
        "participation_min": row["participation_min"],
        "participation_max": max(row["participation"].values()),
        "participation_gini": gini(list(row["participation"].values())),
        "staleness": row["staleness"],
        "round_max_s": row["round_s"]["max"],
        "digest": row["digest"],
    }
    if not sync["curve"] or not row["curve"]:
        return told
    best = max(point["accuracy"] for point in sync["curve"])
    for name, share in SHARES.items():
        found = reached(row["curve"], share * best)
        finite = math.isfinite(found.at_s)
        told |= {
            f"time_to_{name}_s": found.at_s if finite else None,
            f"bytes_to_{name}": found.bytes if finite else None,
            f"useful_to_{name}": found.up_goodput if finite else None,
            f"updates_to_{name}": found.updates if finite else None,
        }
    last, beside = settled(row["curve"]), settled(sync["curve"])
    sync_s = reached(sync["curve"], SHARES["99"] * best).at_s
    return told | {
        FAST: sync_s / told["time_to_99_s"] if told["time_to_99_s"] else None,
        "straggler_gap": beside["stragglers"] - last["stragglers"],
        "finished": told["time_to_99_s"] is not None,
        "accuracy": max(point["accuracy"] for point in row["curve"]),
        "accuracy_settled": last["accuracy"],
        "worst_accuracy": last["worst"],
        "straggler_accuracy": last["stragglers"],
    }


def reached(curve: Sequence[Mapping[str, float]], target: float) -> Reached:
    """Return the price of the first version measured that has this accuracy."""
    for point in curve:
        if point["accuracy"] >= target:
            return Reached(point["at"], point["bytes"], point["up_goodput"], point["updates"])
    return Reached()


def settled(curve: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the means over the last fifth of what was measured: one version may be better or worse by chance."""
    last = curve[-max(1, len(curve) // 5) :]
    return {key: float(np.mean([point[key] for point in last])) for key in ("accuracy", "worst", "stragglers")}


def gini(counts: Sequence[float]) -> float:
    """Return how unequally something is spread: 0 where all have the same, towards 1 where one has all."""
    ordered = np.sort(np.array(counts, np.float64))
    if not ordered.sum():
        return 0.0
    ranks = np.arange(1, len(ordered) + 1)
    return float((2 * ranks - len(ordered) - 1) @ ordered / (len(ordered) * ordered.sum()))


@dataclass(frozen=True)
class Summary:
    """One policy over all seeds; each figure is (quartile, median, quartile), None where that did not finish."""

    policy: str
    seeds: int
    finished: int
    values: Mapping[str, tuple[float | None, float | None, float | None]]
    staleness: Mapping[int, int]

    def median(self, key: str) -> float | None:
        """Return the median of a figure."""
        return self.values[key][1] if key in self.values else None


def summaries(found: Iterable[Mapping[str, Any]]) -> list[Summary]:
    """Return one summary per policy, in the order in which they come."""
    by_policy: dict[str, list[Mapping[str, Any]]] = {}
    for row in found:
        by_policy.setdefault(row["policy"], []).append(row)
    return [_summary(policy, rows) for policy, rows in by_policy.items()]


def _summary(policy: str, rows: Sequence[Mapping[str, Any]]) -> Summary:
    keys = [
        key for key in rows[0] if isinstance(rows[0][key], int | float | None) and not isinstance(rows[0][key], bool)
    ]
    staleness: dict[int, int] = {}
    for row in rows:
        for behind, count in row["staleness"].items():
            staleness[int(behind)] = staleness.get(int(behind), 0) + count
    return Summary(
        policy,
        len(rows),
        sum(row["finished"] for row in rows),
        {key: _quartiles([row[key] for row in rows], -1.0 if key == FAST else 1.0) for key in keys if key != "seed"},
        dict(sorted(staleness.items())),
    )


def _quartiles(values: Sequence[float | None], worse: float) -> tuple[float | None, float | None, float | None]:
    """Return the lower quartile, the median and the upper one, each an observed value.

    worse     1 where more is worse, -1 where less is: None is worse than all
    """
    ordered = sorted(worse * math.inf if value is None else value for value in values)
    picked = [ordered[round(share * (len(ordered) - 1))] for share in (0.25, 0.5, 0.75)]
    low, middle, high = (value if math.isfinite(value) else None for value in picked)
    return low, middle, high
