"""Examples: features and labels, where the features may be a memory-mapped file of which only some rows are meant."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CHUNK = 4096


@dataclass(frozen=True)
class Examples:
    """Rows of a feature matrix, each with its class.

    features     (N, d) float32; rows are read when they are needed
    rows         (n,) int64, which of them are meant
    labels       (n,) int64, class of each
    """

    features: NDArray[np.float32] = field(repr=False)
    rows: NDArray[np.int64] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, chosen: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """Return a copy of the chosen examples' features, (b, d)."""
        return np.ascontiguousarray(self.features[self.rows[chosen]])

    def where(self, mask: NDArray[np.bool_]) -> "Examples":
        """Return those for which the mask (n,) holds."""
        return Examples(self.features, self.rows[mask], self.labels[mask])

    def chunks(self) -> list[slice]:
        """Return slices that cover all examples, each small enough to hold in memory."""
        return [slice(start, start + CHUNK) for start in range(0, len(self), CHUNK)]
