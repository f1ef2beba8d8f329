"""Combining: what may be set about the rules beside which one it is."""

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fedmq.quantities import Amount, Count, Positive


@dataclass(frozen=True)
class Combining:
    """What the rules are told; each takes what it knows.

    memory_bytes   that deltas held by a rule may take, one of each node
    faulty         share of a round's nodes whose deltas may be anything
    best           deltas that krum averages, 0 is all but the faulty
    radius         how far from the centre clipping lets a delta be, 0 is the median distance
    passes         how often clipping moves its centre in a round
    oldest         versions for which a node's delta stays cached after it has come, 0 is for ever
    """

    memory_bytes: Positive = 2 * 2**30
    faulty: Annotated[float, Field(strict=True, ge=0, lt=0.5)] = 0.2
    best: Count = 0
    radius: Amount = 0.0
    passes: Positive = 1
    oldest: Count = 100

    def faulty_of(self, nodes: int) -> int:
        """Return how many of so many may be faulty, rounded up: 0.3 of 10 is 3, although the product is more."""
        return math.ceil(round(self.faulty * nodes, 9))
