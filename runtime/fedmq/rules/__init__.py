"""Rules: how the updates of a round become one step. One small file each."""

from collections.abc import Callable, Mapping
from typing import Protocol

from fedmq.delta import Delta, Schema
from fedmq.rules.mean import Mean


class Rule(Protocol):
    """Holds what a round has folded so far."""

    def add(self, delta: Delta, weight: float, damping: float, scale: float = 1.0) -> None:
        """Fold one delta: `weight` says how much it counts; `damping`, by its staleness, and `scale`, by its length,
        how much of it is taken.
        """

    def step(self) -> tuple[Delta, float]:
        """Return the combined delta and the mean damping in it, and start anew."""


RULES: Mapping[str, Callable[[Schema], Rule]] = {"mean": Mean}
