"""The weighted mean: sum(weight x damping x scale x delta) / sum(weight).

One running sum, so memory does not grow with the nodes and nothing waits for the round's end. The damping of
staleness and the scale of a delta that was too long are left out of the divisor, or they would cancel when they are the
same for all; FedBuff (arXiv:2106.06639) divides by the count in the same way.
"""

import numpy as np

from fedmq.delta import Arrays, Delta, Schema, require_same
from fedmq.rules.rule import Rule

# Values folded at a time: the scratch vector then stays in the cache between its two uses.
BLOCK = 2**18


class Mean(Rule):
    """A running weighted sum in float32."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._sum = np.zeros(schema.size, np.float32)
        self._scratch = np.empty(min(schema.size, BLOCK), np.float32)
        self._weight = self._damped = 0.0

    def add(
        self, delta: Delta, weight: float, damping: float, scale: float = 1.0, node: str = "", number: int = 0
    ) -> None:
        """Fold one delta in place; the scratch vector spares an allocation per update."""
        require_same(self._schema, delta.schema)
        by = np.float32(weight * damping * scale)
        for start in range(0, self._schema.size, BLOCK):
            block = self._sum[start : start + BLOCK]
            scaled = np.multiply(delta.flat[start : start + BLOCK], by, out=self._scratch[: block.size])
            np.add(block, scaled, out=block)
        self._weight += weight
        self._damped += weight * damping

    def step(self) -> tuple[Delta, float]:
        """Return sum / weight and the mean damping, and start anew. At least one update was added."""
        mean = Delta(Arrays(self._schema, self._sum / np.float32(self._weight)))
        damping = self._damped / self._weight
        self._sum[:] = 0.0
        self._weight = self._damped = 0.0
        return mean, damping
