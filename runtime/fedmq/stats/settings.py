"""How a head is solved from statistics; part of a federation's settings."""

from dataclasses import dataclass
from typing import Literal

from fedmq.quantities import Amount


@dataclass(frozen=True)
class Statistics:
    """head: which; penalty: of ridge and discriminant, 0 lets each node in turn choose for the others; text_weight: how
    long the text features are to which ridge draws.
    """

    head: Literal["ridge", "even", "means", "discriminant"] = "ridge"
    penalty: Amount = 0.0
    text_weight: Amount = 3.0
