"""Multi-Krum: the mean of the deltas that lie closest to others.

Blanchard et al. 2017 (NeurIPS, "Machine Learning with Adversaries"): of K deltas of which f may be faulty, each is
scored by the sum of its squared distances to the K - f - 2 nearest others, and the best m are averaged; Krum itself is
m = 1. It needs K >= 2f + 3; of a smaller round it expects as few to be faulty as that allows, so one of four or fewer
is averaged. Distances take K^2 n operations. A node whose data differs from all others' looks faulty to it.
"""

import numpy as np
from numpy.typing import NDArray

from fedmq.delta import Delta
from fedmq.rules.held import Held, Holding


class Krum(Holding):
    """Holds the deltas of a round; compares them at its end."""

    def step(self) -> tuple[Delta, float]:
        """Return the mean of the best; of equally good ones the first by name are taken."""
        nodes = len(self._held)
        faulty = max(0, min(self._combining.faulty_of(nodes), (nodes - 3) // 2))
        best = min(self._combining.best or nodes - faulty, nodes)
        scores = np.sort(_distances(self._held), axis=1)[:, 1 : nodes - faulty - 1].sum(axis=1)
        chosen = np.zeros(nodes, np.bool_)
        # In float32, so that what rounds otherwise on another processor does not decide between equals.
        chosen[np.argsort(scores.astype(np.float32), kind="stable")[:best]] = True
        mean = np.empty(self._size, np.float32)
        for place, block in self._held.blocks():
            np.mean(block[chosen], axis=0, out=mean[place])
        return self._held.result(mean, chosen)


def _distances(held: Held) -> NDArray[np.float64]:
    """Return the squared distance of each to each; differences are taken first, so that equals are at exactly 0."""
    found = np.zeros((len(held), len(held)))
    for _, block in held.blocks():
        for one in range(len(held) - 1):
            apart = block[one + 1 :] - block[one]
            found[one, one + 1 :] += np.square(apart, dtype=np.float64).sum(axis=1)
    return found + found.T
