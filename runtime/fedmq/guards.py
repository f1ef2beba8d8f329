"""Guards: what an update must be before it may be folded. Always on, one pass over the values.

Its size and its scales are checked by its codec. Here: finite, and no longer than a few times the median of the last
accepted ones, to which it is scaled down: a node that trains too hot is heard, but not louder than the rest. An update
over the hard cap is refused.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Annotated

from pydantic import Field

from fedmq.delta import Delta, norm
from fedmq.errors import Rejection
from fedmq.messages import Code
from fedmq.quantities import Amount

REMEMBERED = 50
ENOUGH = 10  # norms to have seen before a median means anything
# Longer than any honest delta, and short enough that no weighted sum of such deltas overflows a float32.
LONGEST = 1e15


@dataclass(frozen=True)
class Guard:
    """norm_factor: how many medians long an update may be, 0 for any; norm_cap: the longest of all, refused above."""

    norm_factor: Amount = 3.0
    norm_cap: Annotated[float, Field(gt=0, le=LONGEST)] = LONGEST


class Norms:
    """The guard that measures an update against the last accepted ones.

    recent     their lengths, oldest first
    """

    def __init__(self, guard: Guard, recent: Iterable[float] = ()) -> None:
        self.guard = guard
        self.recent = deque((length for length in recent if length > 0), maxlen=REMEMBERED)

    def check(self, delta: Delta, steps: int = 1) -> tuple[float, float]:
        """Return the delta's norm per step, and what to multiply it by: 1 unless it is too long.

        raises     Rejection if it is not finite, or over the cap
        """
        length = norm(delta)
        if not math.isfinite(length):
            raise Rejection(
                Code.NOT_FINITE, "the delta holds NaN or infinity; look at the node's learning rate and loss"
            )
        if length > self.guard.norm_cap:
            raise Rejection(Code.TOO_LARGE, f"the delta's norm is {length:.4g}, the cap {self.guard.norm_cap:.4g}")
        length /= steps
        return length, min(1.0, self.limit / length) if length > 0 else 1.0

    @property
    def limit(self) -> float:
        """The norm to which a longer delta is scaled down; infinite until enough were seen."""
        if not self.guard.norm_factor or len(self.recent) < ENOUGH:
            return math.inf
        return self.guard.norm_factor * median(self.recent)

    def accept(self, length: float) -> None:
        """Remember the norm of an accepted update, as it was folded.

        A delta of nothing says nothing of how long one is: were it counted, a fleet that once stood still would be held
        to a median of zero for ever.
        """
        if length > 0:
            self.recent.append(length)
