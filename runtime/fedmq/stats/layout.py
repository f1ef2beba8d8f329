"""Layout: what a node counts of its features, and how a symmetric matrix lies in a vector.

Features are scaled to norm 1, so that each example weighs the same and the trace of the Gram matrix is the count. One
without a direction is not counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedmq.delta import Schema
from fedmq.errors import ConfigInvalid

Float = NDArray[np.float64]
Int = NDArray[np.int64]

HEAD, BIAS = "head.weight", "head.bias"  # the params that statistics give: (classes, dim) and (classes,)
NORM_FLOOR = 1e-12


@dataclass(frozen=True)
class Layout:
    """How many classes, and the dimension of a feature."""

    classes: int
    dim: int

    @classmethod
    def of(cls, schema: Schema) -> "Layout":
        """Return the layout of the statistics that give a head of this schema.

        raises     ConfigInvalid if it is no head's
        """
        shapes = dict(schema.entries)
        head = shapes.get(HEAD, ())
        if len(head) != 2 or shapes != {HEAD: head, BIAS: head[:1]}:
            raise ConfigInvalid(
                f"statistics give {HEAD} (classes, dim) and {BIAS} (classes,), not {schema}; they need the method "
                "'statistics'"
            )
        return cls(*head)

    @property
    def triangle(self) -> int:
        """How many values a symmetric matrix of this dimension has."""
        return self.dim * (self.dim + 1) // 2


@dataclass(frozen=True, eq=False)
class Statistics:
    """One node's.

    counts     (classes,) int64, examples per class
    sums       (classes, dim) float64, of the unit features of each class
    gram       (dim (dim + 1) / 2,) float64, upper triangle of the sum of x x', row by row
    """

    counts: Int
    sums: Float = field(repr=False)
    gram: Float = field(repr=False)

    @property
    def examples(self) -> int:
        """How many examples were counted."""
        return int(self.counts.sum())


def count(batches: Iterable[tuple[NDArray[np.float32], Int]], layout: Layout) -> Statistics:
    """Return the statistics of (features (n, dim) of any norm, labels (n,)), batch by batch."""
    counts = np.zeros(layout.classes, np.int64)
    sums = np.zeros((layout.classes, layout.dim))
    gram = np.zeros((layout.dim, layout.dim))
    for features, labels in batches:
        rows = features.astype(np.float64)
        norms = np.linalg.norm(rows, axis=1)
        has_direction = norms > NORM_FLOOR
        unit, kept = rows[has_direction] / norms[has_direction, None], labels[has_direction]
        counts += np.bincount(kept, minlength=layout.classes)
        np.add.at(sums, kept, unit)
        gram += unit.T @ unit
    return Statistics(counts, sums, triangle(gram))


def triangle(matrix: Float) -> Float:
    """Return the upper triangle of a symmetric matrix (d, d), row by row."""
    found: Float = matrix[np.triu_indices(len(matrix))]
    return found


def square(values: Float, dim: int) -> Float:
    """Return the symmetric matrix (dim, dim) of a triangle."""
    matrix = np.zeros((dim, dim))
    matrix[np.triu_indices(dim)] = values
    matrix.T[np.triu_indices(dim)] = values
    return matrix
