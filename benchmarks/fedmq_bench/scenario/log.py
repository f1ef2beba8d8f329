"""The log of a run: what came of it, noted as the aggregator keeps it, and the row that tells it."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np

from fedmq.delta import Params, digest_of
from fedmq.journal import Entry, Traffic, UpdateEntry, VersionEntry
from fedmq.messages import Code
from fedmq_bench.scenario.fleet import Plan
from fedmq_bench.scenario.gauge import Quality

MOST_BARS = 5_000


@dataclass(frozen=True)
class Point:
    """A version that was measured: when it was there, and what it had taken until then."""

    at: float
    version: int
    updates: int
    traffic: Traffic
    quality: Quality


@dataclass
class RunLog:
    """What came of one policy under one scenario.

    every         accepted updates after which a version is measured
    measure       None where nothing is trained
    updates       accepted updates after which it is over: what comes later is not noted; 0 is never
    sent_bytes    of updates that were put on links, again where they had to be, and in part where a link broke
    """

    plan: Plan
    every: int
    measure: Callable[[Params], Quality] | None
    updates: int = 0
    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    staleness: Counter[int] = field(default_factory=Counter)
    points: list[Point] = field(default_factory=list)
    rounds: list[tuple[float, float, str]] = field(default_factory=list)  # (opened, closed, cause)
    commits: list[tuple[float, int, int]] = field(default_factory=list)  # (closed, goodput up, application both ways)
    bars: list[tuple[str, float, float, int]] = field(default_factory=list)  # staleness -1: refused
    sent_bytes: int = 0
    useful_bytes: int = 0
    changed_at: float = 0.0
    _due: int = 0
    _digest: Any = field(default_factory=sha256)

    @property
    def is_over(self) -> bool:
        """Whether as many updates were accepted as are wanted."""
        return 0 < self.updates <= self.accepted.total()

    def begin(self, zero: Params) -> None:
        """Measure version 0."""
        self._note(0.0, 0, Traffic(), zero)

    def keep(self, entry: Entry) -> None:
        """Note an entry of the ledger."""
        if self.is_over and not (isinstance(entry, VersionEntry) and entry.closed_at <= self.changed_at):
            return  # but for the version that the last update has closed
        if isinstance(entry, UpdateEntry):
            is_in = entry.code is Code.ACCEPTED
            if is_in:
                self.accepted[entry.node] += 1
                self.staleness[entry.staleness] += 1
                self.useful_bytes += entry.frame_bytes
                self.changed_at = entry.at
            else:
                self.refused[entry.code.value] += 1
            if len(self.bars) < MOST_BARS:
                train_s = entry.update.train_s
                self.bars.append((entry.node, entry.at - train_s, entry.at, entry.staleness if is_in else -1))
        elif isinstance(entry, VersionEntry):
            self._digest.update(bytes.fromhex(digest_of(entry.params)))
            self.rounds.append((entry.opened_at, entry.closed_at, str(entry.cause)))
            carried = entry.traffic
            both = carried.up_application + carried.down_application
            self.commits.append((entry.closed_at, carried.up_goodput, both))
            if self.accepted.total() >= self._due:
                self._note(entry.closed_at, entry.version, entry.traffic, entry.params)

    def _note(self, at: float, version: int, traffic: Traffic, params: Params) -> None:
        if self.measure is not None:
            self.points.append(Point(at, version, self.accepted.total(), traffic, self.measure(params)))
        self._due = self.accepted.total() + self.every

    def row(self, traffic: Traffic, ended_at: float, finished: bool) -> dict[str, Any]:
        """Return the figures."""
        counts = {name: self.accepted[name] for name in self.plan.members}
        open_s = np.array([closed - opened for opened, closed, _ in self.rounds] or [0.0])
        return {
            "nodes": len(counts),
            "finished": finished,
            "ended_s": ended_at,
            "versions": len(self.rounds),
            "accepted": self.accepted.total(),
            "refused": dict(self.refused),
            "traffic": asdict(traffic),
            "sent_bytes": self.sent_bytes,
            "wasted_bytes": max(0, self.sent_bytes - self.useful_bytes),
            "round_s": {"p50": float(np.median(open_s)), "p95": float(np.quantile(open_s, 0.95)),
                        "max": float(open_s.max())},
            "commits": self.commits,
            "causes": dict(Counter(cause for _, _, cause in self.rounds)),
            "staleness": {str(behind): count for behind, count in sorted(self.staleness.items())},
            "participation": counts,
            "participation_min": min(counts.values()),
            "stragglers": list(self.plan.stragglers),
            "curve": [_plain(point) for point in self.points],
            "digest": self._digest.hexdigest(),
        }  # fmt: skip


def _plain(point: Point) -> Mapping[str, float]:
    traffic, quality = point.traffic, point.quality
    return {
        "at": point.at,
        "version": point.version,
        "updates": point.updates,
        "up_goodput": traffic.up_goodput,
        "bytes": traffic.up_application + traffic.down_application,
        "accuracy": quality.accuracy,
        "worst": quality.worst,
        "stragglers": quality.stragglers,
    }
