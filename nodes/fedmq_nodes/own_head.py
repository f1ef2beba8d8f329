"""An own head: the head of all, drawn to what one node has. It takes no traffic: both are here.

The node solves least squares on its own features, drawn to the shared head as the shared head was drawn to the text
features. How strongly, it chooses by leaving out each fifth of its own examples. Nobody compares an own head with
another's, so it is solved by LAPACK, in the smaller of the two spaces: that of examples, or that of dimensions.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fedmq.stats.heads import SHARPNESS
from fedmq.stats.layout import BIAS, HEAD
from fedmq_models.classifier import normalised
from fedmq_models.examples import Examples

FOLDS = 5
PULLS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
Array = NDArray[np.float32]
Float = NDArray[np.float64]


def head(shared: Mapping[str, Array], examples: Examples) -> dict[str, Array]:
    """Return the params of an own head.

    shared      of a ridge head
    examples    the node's own, to learn from; fewer than FOLDS leave the shared head as it is
    """
    if len(examples) < FOLDS:
        return dict(shared)
    features = normalised(examples.batch(slice(None))).astype(np.float64)
    begun = shared[HEAD].astype(np.float64).T / SHARPNESS
    missing = np.eye(begun.shape[1])[examples.labels] - features @ begun
    fold = np.random.default_rng(0).permutation(len(examples)) % FOLDS
    right = dict.fromkeys(PULLS, 0)
    for number in range(FOLDS):
        kept, left = fold != number, fold == number
        drawn = _drawn(features[kept], missing[kept])
        for pull in PULLS:
            found = features[left] @ (begun + drawn(pull))
            right[pull] += int((found.argmax(axis=1) == examples.labels[left]).sum())
    # Of several that are as good, the one that stays nearest to the head of all.
    best = max(PULLS, key=lambda pull: (right[pull], pull))
    weights = begun + _drawn(features, missing)(best)
    return {HEAD: (SHARPNESS * weights.T).astype(np.float32), BIAS: shared[BIAS]}


def _drawn(features: Float, missing: Float) -> Callable[[float], Float]:
    """Return, for any pull, what to add (dim, C) to a head: argmin |features D - missing|^2 + pull |D|^2.

    missing    (n, C), what the head lacks on each example
    """
    if len(features) < features.shape[1]:
        values, vectors = np.linalg.eigh(features @ features.T)
        into, onto = vectors.T @ missing, features.T @ vectors
    else:
        values, vectors = np.linalg.eigh(features.T @ features)
        into, onto = vectors.T @ (features.T @ missing), vectors
    values = np.maximum(values, 0.0)
    return lambda pull: onto @ (into / (values + pull)[:, None])
