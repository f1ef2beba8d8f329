"""Calibrated: the mean of a round, corrected by what the nodes that are not in it sent last.

CA2FL (Wang et al., ICLR 2024, "Tackling the Data Heterogeneity in Asynchronous Federated Learning with Cached Update
Calibration"): v = h + mean over the round of (delta_i - h_i), where h_i is the node's last delta and h the mean of all
h_i; afterwards h_i is the new one. As in SAGA, what a round lacks of the fleet is put in its place by memory. A round
of everyone gives the mean.

Published, h_i is 0 for a node that was never heard, of a known number of nodes. Here nobody knows how many will come,
so the mean h is taken for its last one: it then moves the params by just its own delta. Weights and damping stay with
each delta in the cache; `weight.by = "updates"` and `weight.staleness = "constant"` are as published. `oldest` is as in
`cached`.
"""

import numpy as np

from fedmq.delta import Arrays, Delta, Vector
from fedmq.rules.cached import Cache, share
from fedmq.rules.rule import Contribution, Rule, Start


class Calibrated(Rule):
    """Keeps the cache, the mean of it when the round began, and the sum of what this round differs by."""

    def __init__(self, start: Start) -> None:
        self._schema, self._oldest, self._version = start.schema, start.combining.oldest, start.version
        self._cache = Cache(start.schema, start.cached)
        self._mean = self._begin()
        self._apart = np.zeros(start.schema.size, np.float32)
        self._weight = self._damped = 0.0

    def add(
        self, delta: Delta, weight: float, damping: float, scale: float = 1.0, node: str = "", number: int = 0
    ) -> None:
        """Add what this delta differs by from its node's last one, and keep it in the place of that."""
        new = Contribution(node, number, self._version, delta, weight, damping, scale)
        old = self._cache.replace(new)
        self._apart += share(new, 1.0) * delta.flat
        if old is None:
            self._apart -= np.float32(weight) * self._mean
        else:
            self._apart -= np.float32(weight * old.damping * old.scale) * old.delta.flat
        self._weight += weight
        self._damped += weight * damping

    def step(self) -> tuple[Delta, float]:
        """Return h + mean(delta_i - h_i) and the mean damping in the round."""
        step = self._mean + self._apart / np.float32(self._weight)
        damping = self._damped / self._weight
        if self._oldest:
            self._cache.forget(before=self._version - self._oldest)
        self._version += 1
        self._mean = self._begin()
        self._apart[:] = 0.0
        self._weight = self._damped = 0.0
        return Delta(Arrays(self._schema, step)), damping

    @property
    def cached(self) -> tuple[Contribution, ...]:
        """Return the cache."""
        return tuple(self._cache)

    def _begin(self) -> Vector:
        return self._cache.mean()[0] if len(self._cache) else np.zeros(self._schema.size, np.float32)
