"""Centered clipping: the mean of what the deltas are away from a centre, each cut to a radius.

Karimireddy et al. 2021 (arXiv:2012.10333): v <- v + mean of (delta - v) x min(1, radius / |delta - v|), a few times
over, from what the last round gave: who lies a little in each round must lie against what all have agreed on before.
The radius is the median of the distances, so that at least half of the nodes are cut unless it is set. Nodes count
alike.

The centre is of deltas that are not damped, and survives a restart.
"""

import numpy as np

from fedmq.delta import Delta, Schema, Vector
from fedmq.outer import States
from fedmq.rules.combining import Combining
from fedmq.rules.held import Holding

CENTRE = "centre"


class Clipping(Holding):
    """Holds the deltas of a round, and the centre that the last one ended with."""

    def __init__(self, schema: Schema, combining: Combining, states: States) -> None:
        super().__init__(schema, combining)
        self._centre: Vector = states.get(CENTRE, np.zeros(schema.size, np.float32))

    def step(self) -> tuple[Delta, float]:
        """Return the new centre."""
        centre = self._centre.copy()
        for _ in range(self._combining.passes):
            self._move(centre)
        self._centre = centre
        return self._held.result(centre)

    @property
    def states(self) -> States:
        """Return the centre."""
        return {CENTRE: self._centre}

    def _move(self, centre: Vector) -> None:
        squares = np.zeros(len(self._held))
        for place, block in self._held.blocks():
            squares += np.square(block - centre[place], dtype=np.float64).sum(axis=1)
        away = np.sqrt(squares)
        radius = self._combining.radius or float(np.median(away))
        parts = np.divide(radius, away, out=np.ones(len(away)), where=away > radius) / len(away)
        for place, block in self._held.blocks():
            block -= centre[place]
            # In float32: what was rounded otherwise on another processor is rounded away.
            block *= parts.astype(np.float32)[:, np.newaxis]
            centre[place] += block.sum(axis=0)
