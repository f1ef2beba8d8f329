"""Curves: runs of the same codecs with several seeds, what they have in common, and what it took to reach a target.

Targets are shares of the best accuracy that fp32 reached in both directions with the same seed, so that a seed's split
and start are the same on both sides. Where the frozen model is nearly as good, every codec is there at once; so there
are also shares of what fp32 gained over it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any

from fedmq.journal import Traffic
from fedmq_bench.comm.learned import Curve

SHARES = (0.95, 0.99)
UP, DOWN, BOTH = "up", "down", "both"


@dataclass(frozen=True)
class Runs:
    """One curve per seed, of so many nodes."""

    curves: Sequence[Curve]
    nodes: int

    @property
    def rounds(self) -> int:
        """Of each run."""
        return len(self.curves[0].accuracy) - 1

    def payload(self, direction: str) -> float:
        """Return goodput per node and round, without the first whole version, which goes out before any round."""
        total = mean(goodput(run.traffic[-1], direction) - goodput(run.traffic[0], direction) for run in self.curves)
        return total / self.nodes / self.rounds

    def accuracy(self, beside: "Runs") -> dict[str, Any]:
        """Return the accuracy in the end, its spread, and what was lost beside other runs of the same seeds."""
        last = [run.accuracy[-1] for run in self.curves]
        lost = [run.accuracy[-1] - ours for run, ours in zip(beside.curves, last, strict=True)]
        return {
            "accuracy": mean(last),
            "accuracy_std": _spread(last),
            "accuracy_lost": mean(lost),
            "accuracy_lost_std": _spread(lost),
            "zero_shot": mean(run.zero_shot for run in self.curves),
        }

    def targets(self, beside: "Runs", direction: str) -> dict[str, Any]:
        """Return, by share of the best of the other runs, how many seeds got there, and at what cost, per node.

        A cost is the median over seeds, and None unless all got there.
        """
        found: dict[str, Any] = {}
        for share in SHARES:
            for name, low in (("", lambda _run: 0.0), ("_of_gain", lambda run: run.zero_shot)):
                there = [_first(run, _aim(other, share, low)) for run, other in self._pairs(beside)]
                reached = [at for at in there if at is not None]
                costs: dict[str, Any] = {"reached": len(reached), "rounds": None, "goodput": None, "application": None}
                if len(reached) == len(there):
                    spent = [run.traffic[at] for run, at in zip(self.curves, reached, strict=True)]
                    costs["rounds"] = median(reached)
                    costs["goodput"] = median(goodput(traffic, direction) for traffic in spent) / self.nodes
                    costs["application"] = median(application(traffic, direction) for traffic in spent) / self.nodes
                found[f"to_{100 * share:.0f}{name}"] = costs
        return found

    def points(self, direction: str) -> list[list[float]]:
        """Return per version the bytes per node until then, of the application layer, and accuracy and its spread."""
        return [
            [
                mean(application(run.traffic[at], direction) for run in self.curves) / self.nodes,
                mean(run.accuracy[at] for run in self.curves),
                _spread([run.accuracy[at] for run in self.curves]) or 0.0,
            ]
            for at in range(self.rounds + 1)
        ]

    def _pairs(self, beside: "Runs") -> list[tuple[Curve, Curve]]:
        return list(zip(self.curves, beside.curves, strict=True))


def goodput(traffic: Traffic, direction: str) -> int:
    """Return a direction's payloads, or those of both."""
    return {UP: traffic.up_goodput, DOWN: traffic.down_goodput}.get(
        direction, traffic.up_goodput + traffic.down_goodput
    )


def application(traffic: Traffic, direction: str) -> int:
    """Return a direction's frames, or those of both."""
    return {UP: traffic.up_application, DOWN: traffic.down_application}.get(
        direction, traffic.up_application + traffic.down_application
    )


def _aim(other: Curve, share: float, low: Callable[[Curve], float]) -> float:
    return low(other) + share * (max(other.accuracy) - low(other))


def _first(run: Curve, aim: float) -> int | None:
    return next((at for at, accuracy in enumerate(run.accuracy) if accuracy >= aim), None)


def _spread(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
