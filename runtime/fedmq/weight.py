"""How much an update counts: by its examples, and less the staler its base is.

Two factors, kept apart on purpose: the weight (examples, capped) goes into the sum and into what it is divided by, the
damping (staleness) into the sum alone. Dividing by the damping too would cancel it whenever all updates are equally
stale.

Damping: constant 1; polynomial (1+t)^-a; hinge 1 up to t = b, then 1/(a(t-b)+1). Xie et al. 2019 (arXiv:1903.03934),
with t = version on admission - version trained from, so that a fresh update has t = 0 and counts in full.
"""

from dataclasses import dataclass
from typing import Literal

from fedmq.quantities import Amount, Positive


@dataclass(frozen=True)
class Weighting:
    """by: what a weight is; cap: the most examples that one update may claim; staleness, a, b: the damping; steps:
    whether a delta is taken as a whole, or per step of its training (see `budgets`).
    """

    by: Literal["examples", "updates"] = "examples"
    cap: Positive = 10_000
    staleness: Literal["constant", "polynomial", "hinge"] = "polynomial"
    a: Amount = 0.5
    b: Amount = 4.0
    steps: Literal["ignored", "normalised"] = "ignored"

    def weight(self, examples: int) -> float:
        """Return the weight of an update from so many examples."""
        return float(min(examples, self.cap)) if self.by == "examples" else 1.0

    def damping(self, staleness: int) -> float:
        """Return the factor for an update so many versions behind, 1 for a fresh one."""
        if self.staleness == "polynomial":
            return float((1.0 + staleness) ** -self.a)
        if self.staleness == "hinge" and staleness > self.b:
            return 1.0 / (self.a * (staleness - self.b) + 1.0)
        return 1.0
