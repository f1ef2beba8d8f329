"""Budgets: what a delta is worth when nodes have trained for different numbers of steps.

A node that takes ten times as many steps moves ten times as far, and a mean of deltas then goes towards its optimum and
not towards everyone's. FedNova (Wang et al. 2020, arXiv:2007.07481) combines deltas per step, and makes of them a step
as long as one budget. Any budget will do for that (their tau_eff); here it is the median of the round, one vote per
node: with equal budgets nothing changes, and no node that lies about its own changes more than its vote.

A step is an optimizer step without momentum, as the paper's a_i for plain SGD; for Adam it is an approximation.
"""

from statistics import median_low

import numpy as np

from fedmq.delta import Arrays, Delta
from fedmq.errors import Rejection
from fedmq.messages import Code, Update
from fedmq.weight import Weighting


class Budgets:
    """The budgets of the nodes in a round; all are 1 where steps are ignored."""

    def __init__(self, weighting: Weighting) -> None:
        self._ignored = weighting.steps == "ignored"
        self._found: dict[str, int] = {}

    def of(self, update: Update) -> int:
        """Return the steps in a delta.

        raises     Rejection if it should have some and has none
        """
        if self._ignored:
            return 1
        if update.steps == 0:
            raise Rejection(Code.NO_EXAMPLES, 'trained for 0 steps, and weight.steps = "normalised" divides by them')
        return update.steps

    def add(self, node: str, steps: int) -> None:
        """Know what a delta was divided by."""
        self._found[node] = steps

    def whole(self, step: Delta) -> Delta:
        """Return what was combined per step as long as one budget is, and start anew."""
        budget, self._found = median_low(self._found.values()), {}
        return step if budget == 1 else Delta(Arrays(step.schema, np.float32(budget) * step.flat))
