"""Parity: whether an exported encoder computes what its source computes.

Compared on random pixels and on edge inputs (black, white, the mean colour, a checkerboard at the highest frequency),
in batches of 1, 3 and 8, because an exporter that has frozen a shape is right for one batch only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from fedmq_models.bundle import Preprocess
from fedmq_models.errors import ParityFailed

FLOOR = 0.9999
BATCHES = (1, 3, 8)

Encode = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Parity:
    """How far an export is from its source: the largest difference of a value, the smallest cosine of an image."""

    max_abs_diff: float
    min_cosine: float
    largest_feature: float
    images: int
    batches: tuple[int, ...] = BATCHES
    floor: float = FLOOR

    def as_json(self) -> dict[str, object]:
        """The form in a bundle's provenance."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"min cosine {self.min_cosine:.7f} (floor {self.floor}), max |diff| {self.max_abs_diff:.2e} "
            f"on features up to {self.largest_feature:.3g}, {self.images} images in batches of "
            f"{', '.join(str(batch) for batch in self.batches)}"
        )


def measure(source: Encode, export: Encode, how: Preprocess, seed: int = 0) -> Parity:
    """Run both on the same pixels.

    raises     ParityFailed below the floor, or if either gives NaN or Inf
    """
    pixels = probes(how, seed)
    diffs, cosines, largest = [], [], []
    start = 0
    for batch in BATCHES:
        part = pixels[start : start + batch]
        start += batch
        expected, found = source(part), export(part)
        if expected.shape != found.shape:
            raise ParityFailed(f"a batch of {batch} gives shape {found.shape}, its source gives {expected.shape}")
        if not np.isfinite(expected).all() or not np.isfinite(found).all():
            whose = "source" if not np.isfinite(expected).all() else "export"
            raise ParityFailed(f"the {whose} gives NaN or Inf on a batch of {batch}; try --precision fp32")
        diffs.append(float(np.abs(expected - found).max()))
        cosines.append(float(_cosines(expected, found).min()))
        largest.append(float(np.abs(expected).max()))
    parity = Parity(max(diffs), min(cosines), max(largest), len(pixels))
    if parity.min_cosine < FLOOR:
        raise ParityFailed(f"the exported encoder is not its source: {parity}")
    return parity


def probes(how: Preprocess, seed: int = 0) -> npt.NDArray[np.float32]:
    """Pixels (12, 3, size, size) float32 after preprocessing: four edge inputs among eight random ones."""
    mean = np.array(how.mean, dtype=np.float32).reshape(3, 1, 1)
    std = np.array(how.std, dtype=np.float32).reshape(3, 1, 1)
    side = how.size
    checks = (np.indices((side, side)).sum(axis=0) % 2).astype(np.float32)
    edges = [np.broadcast_to(plane, (3, side, side)) for plane in (np.float32(0), np.float32(1), mean, checks)]
    rng = np.random.default_rng(seed)
    noise = list(rng.random((8, 3, side, side), dtype=np.float32))
    # One edge alone, then random and edge images side by side.
    images = [edges[0], noise[0], edges[1], noise[1], edges[2], edges[3], *noise[2:]]
    return ((np.stack(images) - mean) / std).astype(np.float32)


def _cosines(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    wide_left, wide_right = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(wide_left, axis=1) * np.linalg.norm(wide_right, axis=1)
    dots = (wide_left * wide_right).sum(axis=1)
    # Two zero features agree; a zero beside something else does not.
    both_zero = (np.abs(wide_left).max(axis=1) == 0) & (np.abs(wide_right).max(axis=1) == 0)
    cosines: npt.NDArray[np.float64] = np.where(both_zero, 1.0, dots / np.where(norms > 0, norms, np.inf))
    return cosines
