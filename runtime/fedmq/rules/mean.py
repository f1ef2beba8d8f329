"""The weighted mean: sum(weight x factor x delta) / sum(weight).

One running sum, so memory does not grow with the nodes and nothing waits for the round's end. The factors (staleness
damping, norm scaling) are left out of the divisor, or they would cancel when all updates are equally stale; FedBuff
(arXiv:2106.06639) divides by the count in the same way.
"""

import numpy as np

from fedmq.delta import Arrays, Delta, Schema, require_same


class Mean:
    """A running weighted sum in float32."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._sum = np.zeros(schema.size, np.float32)
        self._scratch = np.empty(schema.size, np.float32)
        self._weight = self._factored = 0.0

    def add(self, delta: Delta, weight: float, factor: float) -> None:
        """Fold one delta in place; the scratch vector spares an allocation of its size per update."""
        require_same(self._schema, delta.schema)
        np.multiply(delta.flat, np.float32(weight * factor), out=self._scratch)
        np.add(self._sum, self._scratch, out=self._sum)
        self._weight += weight
        self._factored += weight * factor

    def step(self) -> tuple[Delta, float]:
        """Return sum / weight and the mean factor, and start anew. At least one update was added."""
        mean = Delta(Arrays(self._schema, self._sum / np.float32(self._weight)))
        factor = self._factored / self._weight
        self._sum[:] = 0.0
        self._weight = self._factored = 0.0
        return mean, factor
