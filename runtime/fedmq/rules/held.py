"""Held: the deltas of a round, one of each node, for the rules that must see them side by side.

One of each: whoever sends twice in a round is heard once, with what came last. So a node cannot outvote others, and
there are never more deltas here than nodes. In order of the nodes' names, so that what is made of them does not depend
on who came first. Deltas are kept as they came, and laid side by side a block of values at a time: nothing else is made
that grows with both nodes and params.

What comes out is scaled by length, but not damped for staleness: late deltas are then as long as others, and are not
taken for outliers because they were damped. Their damping is applied to the result, as its mean.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedmq.delta import Arrays, Delta, Schema, Vector, require_same
from fedmq.rules.combining import Combining
from fedmq.rules.rule import Rule

BLOCK = 2**18  # values side by side at a time


class Held:
    """What the nodes have sent in this round."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._found: dict[str, tuple[Vector, float, float]] = {}

    def add(self, delta: Delta, damping: float, scale: float, node: str) -> None:
        """Hold this delta in the place of an earlier one of this node."""
        require_same(self._schema, delta.schema)
        self._found[node] = delta.flat, damping, scale

    def __len__(self) -> int:
        return len(self._found)

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield a stretch of the params, and what each node has there: (nodes, values), to be used at once."""
        rows = [(flat, np.float32(scale)) for _, (flat, _, scale) in sorted(self._found.items())]
        width = max(1, BLOCK // len(rows))
        scratch = np.empty((len(rows), min(width, self._schema.size)), np.float32)
        for start in range(0, self._schema.size, width):
            place = slice(start, min(start + width, self._schema.size))
            block = scratch[:, : place.stop - start]
            for row, (flat, scale) in zip(block, rows, strict=True):
                np.multiply(flat[place], scale, out=row)
            yield place, block

    def result(self, combined: Vector, chosen: NDArray[np.bool_] | None = None) -> tuple[Delta, float]:
        """Damp what was made of these deltas by the mean damping of the chosen, which is all, and let go of them."""
        dampings = [damping for _, (_, damping, _) in sorted(self._found.items())]
        if chosen is not None:
            dampings = [damping for damping, is_chosen in zip(dampings, chosen, strict=True) if is_chosen]
        mean = math.fsum(dampings) / len(dampings)
        self._found = {}
        return Delta(Arrays(self._schema, combined if mean == 1 else np.float32(mean) * combined)), mean


class Holding(Rule):
    """A rule that holds the deltas of a round until its end."""

    def __init__(self, schema: Schema, combining: Combining) -> None:
        self._held, self._size, self._combining = Held(schema), schema.size, combining

    def add(
        self, delta: Delta, weight: float, damping: float, scale: float = 1.0, node: str = "", number: int = 0
    ) -> None:
        """Hold this delta. Nodes count alike: how many examples a node has is only its word."""
        self._held.add(delta, damping, scale, node)
