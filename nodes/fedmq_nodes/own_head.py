"""An own head: the head of all, drawn to what one node has. It takes no traffic: both are here.

The node solves least squares on its own statistics, drawn to the shared head as the shared head was drawn to the text
features. How strongly, it chooses by leaving out each fifth of its own examples.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedmq.stats.heads import SHARPNESS, personal
from fedmq.stats.layout import BIAS, HEAD, Layout, Statistics, count
from fedmq.stats.sums import Sum
from fedmq_models.examples import Examples
from fedmq_models.head import solved

FOLDS = 5
PULLS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
Array = NDArray[np.float32]


def head(shared: Mapping[str, Array], examples: Examples) -> dict[str, Array]:
    """Return the params of an own head.

    shared      of a ridge head
    examples    the node's own, to learn from; fewer than FOLDS leave the shared head as it is
    """
    if len(examples) < FOLDS:
        return dict(shared)
    layout = Layout(*shared[HEAD].shape)
    fold = np.random.default_rng(0).permutation(len(examples)) % FOLDS
    parts = [_counted(examples.where(fold == number), layout) for number in range(FOLDS)]
    right = dict.fromkeys(PULLS, 0)
    for number in range(FOLDS):
        left = examples.where(fold == number)
        features = left.batch(slice(None))
        for pull in PULLS:
            found = _solved(shared, parts[:number] + parts[number + 1 :], layout, pull)
            right[pull] += int((solved(found, features).argmax(axis=1) == left.labels).sum())
    # Of several that are as good, the one that stays nearest to the head of all.
    best = max(PULLS, key=lambda pull: (right[pull], pull))
    return _solved(shared, parts, layout, best)


def _counted(examples: Examples, layout: Layout) -> Statistics:
    return count(((examples.batch(chosen), examples.labels[chosen]) for chosen in examples.chunks()), layout)


def _solved(shared: Mapping[str, Array], parts: list[Statistics], layout: Layout, pull: float) -> dict[str, Array]:
    total = Sum(layout)
    for part in parts:
        total.add(part)
    weights = personal(total.totals(), shared[HEAD].astype(np.float64) / SHARPNESS, pull)
    return {HEAD: (SHARPNESS * weights).astype(np.float32), BIAS: shared[BIAS]}
