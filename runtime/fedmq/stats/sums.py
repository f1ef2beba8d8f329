"""Sums: statistics added and subtracted in fixed point, exactly.

A value is rounded once, to a multiple of 2^-32, and is from then on an integer of 64 bits. So the sum depends on which
nodes are in it and on nothing else: in any order it has the same bits, and what is subtracted is gone without a trace.
No entry of a sum is larger than the number of its examples, so 2^30 of them fit with room to spare.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedmq.errors import Rejection
from fedmq.messages import Code
from fedmq.stats.layout import Float, Int, Layout, Statistics, square

UNIT = 2.0**32
MOST = 2**30


@dataclass(frozen=True, eq=False)
class Totals:
    """A sum as a head reads it: counts (C,) int64, sums (C, dim) and gram (dim, dim) float64."""

    counts: Int
    sums: Float = field(repr=False)
    gram: Float = field(repr=False)

    @property
    def examples(self) -> int:
        """How many examples are in it."""
        return int(self.counts.sum())


class Sum:
    """A running sum of statistics."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._counts = np.zeros(layout.classes, np.int64)
        self._sums = np.zeros((layout.classes, layout.dim), np.int64)
        self._gram = np.zeros(layout.triangle, np.int64)

    @property
    def examples(self) -> int:
        """How many examples are in it."""
        return int(self._counts.sum())

    def add(self, found: Statistics) -> None:
        """Add them.

        raises     Rejection if more examples would be in the sum than it has bits for
        """
        if self.examples + found.examples > MOST:
            raise Rejection(
                Code.TOO_LARGE, f"with these {found.examples} examples the sum has {self.examples}, limit is {MOST}"
            )
        self._counts += found.counts
        self._sums += _fixed(found.sums)
        self._gram += _fixed(found.gram)

    def subtract(self, found: Statistics) -> None:
        """Take away what was added before."""
        self._counts -= found.counts
        self._sums -= _fixed(found.sums)
        self._gram -= _fixed(found.gram)

    def totals(self) -> Totals:
        """Return the sum in floating point; each value is rounded by itself."""
        gram = square(self._gram / UNIT, self._layout.dim)
        return Totals(self._counts.copy(), self._sums / UNIT, gram)

    def __sub__(self, other: "Sum") -> "Sum":
        """Return this sum without another that is in it."""
        left = Sum(self._layout)
        left._counts = self._counts - other._counts
        left._sums = self._sums - other._sums
        left._gram = self._gram - other._gram
        return left


def _fixed(values: Float) -> NDArray[np.int64]:
    return np.rint(values * UNIT).astype(np.int64)
