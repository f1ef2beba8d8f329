"""The trimmed mean: value by value, the mean of what is left when the largest and the smallest are dropped.

Yin et al. 2018 (arXiv:1803.01498). As many are dropped at each end as may be faulty, so that no value of theirs is
beyond all honest ones. Nodes count alike: how many examples a node has is only its word.

A round of fewer than three nodes has no middle, and is averaged.
"""

import numpy as np

from fedmq.delta import Delta, Vector
from fedmq.rules.held import Held, Holding


class Trimmed(Holding):
    """Holds the deltas of a round; sorts them at its end."""

    def step(self) -> tuple[Delta, float]:
        """Return the mean of the middle."""
        drop = self._combining.faulty_of(len(self._held))
        return self._held.result(middle(self._held, drop, self._size))


def middle(held: Held, drop: int, size: int) -> Vector:
    """Return, value by value, the mean without the `drop` largest and smallest; one or two values are always left."""
    found = np.empty(size, np.float32)
    drop = min(drop, (len(held) - 1) // 2)
    for place, block in held.blocks():
        block.sort(axis=0)
        np.mean(block[drop : len(held) - drop], axis=0, out=found[place])
    return found
