"""The coordinate-wise median: value by value, the one in the middle, or the mean of the two in the middle.

Yin et al. 2018 (arXiv:1803.01498). It holds as long as fewer than half of the nodes are faulty, needs no guess of how
many are, and ignores all but the middle of what the others have learned: where domains differ, a small one is not
heard.
"""

from fedmq.delta import Delta, Schema
from fedmq.rules.held import Held
from fedmq.rules.rule import Rule
from fedmq.rules.trimmed import middle


class Median(Rule):
    """Holds the deltas of a round; sorts them at its end."""

    def __init__(self, schema: Schema) -> None:
        self._held, self._size = Held(schema), schema.size

    def add(
        self, delta: Delta, weight: float, damping: float, scale: float = 1.0, node: str = "", number: int = 0
    ) -> None:
        """Hold this delta."""
        self._held.add(delta, damping, scale, node)

    def step(self) -> tuple[Delta, float]:
        """Return the median."""
        return self._held.result(middle(self._held, len(self._held), self._size))
