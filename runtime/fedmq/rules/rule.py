"""What a rule is: something that takes the deltas of a round one by one, and makes one step of them.

Whoever holds a rule numbers what it adds and says whose it is; a rule knows neither messages nor time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fedmq.delta import Delta, Schema, Vector
from fedmq.rules.combining import Combining


@dataclass(frozen=True)
class Contribution:
    """What a node has given to a version, as it was folded.

    number     its place in the order of folding
    version    the newest at that time
    """

    node: str
    number: int
    version: int
    delta: Delta
    weight: float
    damping: float
    scale: float


@dataclass(frozen=True)
class Start:
    """What a rule begins with, or goes on from: see `Rule` for `states` and `cached`.

    version    the newest
    """

    schema: Schema
    combining: Combining = Combining()
    states: Mapping[str, Vector] = field(default_factory=dict)
    cached: tuple[Contribution, ...] = ()
    version: int = 0


class Rule(Protocol):
    """Holds what a round has folded so far.

    states     what the next round goes on from, by name: vectors as long as the params
    cached     and what of earlier rounds, in order of nodes: their newest contributions
    """

    def add(
        self, delta: Delta, weight: float, damping: float, scale: float = 1.0, node: str = "", number: int = 0
    ) -> None:
        """Fold one delta: `weight` says how much it counts; `damping`, by its staleness, and `scale`, by its length,
        how much of it is taken. A delta is not written to, and may be kept.
        """

    def step(self) -> tuple[Delta, float]:
        """Return the combined delta and the mean damping in it, and start anew. At least one update was added."""

    @property
    def states(self) -> Mapping[str, Vector]:
        """Return no states, unless a rule has some."""
        return {}

    @property
    def cached(self) -> tuple[Contribution, ...]:
        """Return nothing, unless a rule goes on from it."""
        return ()
