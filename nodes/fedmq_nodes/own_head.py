"""An own head: the head of all, drawn to what one node has. It takes no traffic: both are here.

The node solves least squares on its own features, drawn to the shared head as the shared head was drawn to the text
features. How strongly, it chooses by leaving out each fifth of its own examples. Nobody compares an own head with
another's, so it is solved by LAPACK, in the smaller of the two spaces: that of examples, or that of dimensions.
"""

from collections.abc import Iterable, Iterator, Mapping

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
    return Own(examples).head(shared)


class Own:
    """One node's examples, taken apart once for any number of shared heads."""

    def __init__(self, examples: Examples) -> None:
        self._labels = examples.labels
        self._features = normalised(examples.batch(slice(None))).astype(np.float64)
        self._fold = np.random.default_rng(0).permutation(len(examples)) % FOLDS
        self._apart = [_Apart(self._features[self._fold != number]) for number in range(FOLDS)]
        self._whole = _Apart(self._features)

    def head(self, shared: Mapping[str, Array]) -> dict[str, Array]:
        """Return the params of this node's head beside this shared one."""
        if len(self._labels) < FOLDS:
            return dict(shared)
        begun = shared[HEAD].astype(np.float64).T / SHARPNESS
        missing = np.eye(begun.shape[1])[self._labels] - self._features @ begun
        right = dict.fromkeys(PULLS, 0)
        for number, apart in enumerate(self._apart):
            left = self._fold == number
            for pull, drawn in zip(PULLS, apart.drawn(missing[~left], PULLS), strict=True):
                found = self._features[left] @ (begun + drawn)
                right[pull] += int((found.argmax(axis=1) == self._labels[left]).sum())
        # Of several that are as good, the one that stays nearest to the head of all.
        best = max(PULLS, key=lambda pull: (right[pull], pull))
        weights = begun + next(self._whole.drawn(missing, [best]))
        return {HEAD: (SHARPNESS * weights.T).astype(np.float32), BIAS: shared[BIAS]}


class _Apart:
    """Features (n, dim) as eigenpairs of their Gram matrix, over examples or over dimensions, whichever are fewer."""

    def __init__(self, features: Float) -> None:
        self._features, self._is_wide = features, len(features) < features.shape[1]
        values, self._vectors = np.linalg.eigh(features @ features.T if self._is_wide else features.T @ features)
        self._values = np.maximum(values, 0.0)

    def drawn(self, missing: Float, pulls: Iterable[float]) -> Iterator[Float]:
        """Yield per pull what to add (dim, C) to a head: argmin |features D - missing|^2 + pull |D|^2.

        missing    (n, C), what the head lacks on each example
        """
        if self._is_wide:
            into, onto = self._vectors.T @ missing, self._features.T @ self._vectors
        else:
            into, onto = self._vectors.T @ (self._features.T @ missing), self._vectors
        for pull in pulls:
            yield onto @ (into / (self._values + pull)[:, None])
