"""The coordinate-wise median: value by value, the one in the middle, or the mean of the two in the middle.

Yin et al. 2018 (arXiv:1803.01498). It holds as long as fewer than half of the nodes are faulty, needs no guess of how
many are, and ignores all but the middle of what the others have learned: where domains differ, a small one is not
heard.
"""

from fedmq.delta import Delta
from fedmq.rules.held import Holding
from fedmq.rules.trimmed import middle


class Median(Holding):
    """Holds the deltas of a round; sorts them at its end."""

    def step(self) -> tuple[Delta, float]:
        """Return the median."""
        return self._held.result(middle(self._held, len(self._held), self._size))
