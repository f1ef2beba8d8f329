"""The target domain: settings of adapting to it, and batches of the unlabelled features that stand for it.

A method that adapts (FAA-CLIP, FACMIC) sees, beside a node's own examples, features of the domain where the adapter is
to be used: no labels and no images, published once by the aggregator.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

Array = NDArray[np.float32]
STEEPNESS = 10.0  # of the ramp, as in DANN


@dataclass(frozen=True)
class Target:
    """How a method adapts to a target domain.

    pool           file of features of that domain at the aggregator, of which only
    where, part    rows with these values, and of these the k-th of n equal parts ("k/n"), are taken; labels never are
    rows           drawn from these and published; 0 is all of them
    weight         of the term in the loss; None is the method's own
    sides          whose features the term moves: the node's alone, or both domains'; None is the method's own
    ramp_steps     steps of a node over which the adaptation comes on; 0 has it on from the start, as published
    transductive   the pool holds images that accuracy is measured on, as in the papers; every report says so
    """

    pool: str = ""
    where: Mapping[str, str] = field(default_factory=dict)
    part: Annotated[str, Field(pattern=r"^[1-9]\d*/[1-9]\d*$")] = "1/1"
    rows: Annotated[int, Field(ge=0)] = 256
    weight: Annotated[float, Field(ge=0)] | None = None
    sides: Literal["node", "both"] | None = None
    ramp_steps: Annotated[int, Field(ge=0)] = 1000
    transductive: bool = False


class Ramp:
    """How much of the adaptation is on: 2 / (1 + exp(-10 p)) - 1 after the share p of its steps, and then 1 or nearly.

    source     Ganin et al. 2016, Domain-Adversarial Training of Neural Networks, arXiv:1505.07818
    """

    def __init__(self, steps: int) -> None:
        self._steps, self._taken = steps, 0

    def next(self) -> float:
        """Take a step, and return the strength that it is taken with: 0 for the first, or always 1 without a ramp."""
        if not self._steps:
            return 1.0
        share = min(self._taken, self._steps) / self._steps
        self._taken += 1
        return 2 / (1 + exp(-STEEPNESS * share)) - 1


class Pool:
    """Target features (n, dim) in batches: a new order each time that all of them were drawn."""

    def __init__(self, features: Array, batch_size: int) -> None:
        self._features, self._size = features, min(batch_size, len(features))
        self.begin(0)

    def begin(self, seed: int) -> None:
        """Draw from here on as this seed wants, whatever was drawn before."""
        # Not the stream that orders the node's own examples, which is of the seed alone.
        self._rng = np.random.default_rng([seed, 1])
        self._left: NDArray[np.int64] = np.zeros(0, np.int64)

    def batch(self) -> Array:
        """Return the next features, (b, dim), none of them twice."""
        if len(self._left) < self._size:
            self._left = self._rng.permutation(len(self._features))
        chosen, self._left = self._left[: self._size], self._left[self._size :]
        return self._features[chosen]
