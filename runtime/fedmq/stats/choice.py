"""Choice: the penalty by leave-one-node-out, from the statistics alone.

A head is solved without one node and measured on it, for every node in turn. The measure needs no example: the squared
error of W on a node is tr(W'GW) - 2 tr(W'B) + n, with that node's G and B, and the likelihood of its features under
class means m_c and a covariance S within the classes is of the same kind. Nodes count alike, whatever their examples:
what is sought is a head for a node that was not there. With more nodes than FOLDS they are left out in groups.
"""

import math
from collections.abc import Sequence

import numpy as np

from fedmq.delta import Params
from fedmq.stats.heads import prior
from fedmq.stats.layout import Float
from fedmq.stats.settings import Statistics as Settings
from fedmq.stats.sums import Sum, Totals

FOLDS = 8
PENALTIES: tuple[float, ...] = tuple(10.0 ** (half / 2) for half in range(-6, 7))
UNCHOSEN = 3.0  # where there is nobody to leave out
AGREED = 9  # significant digits of a measure: what lies behind them is BLAS, and must not choose


def penalty(settings: Settings, whole: Sum, folds: Sequence[Sum], beginning: Params) -> float:
    """Return the penalty of the smallest mean error on the folds left out, the largest of several."""
    if settings.penalty or settings.head == "means":
        return settings.penalty or UNCHOSEN
    if len(folds) < 2:
        return UNCHOSEN
    text, _ = prior(beginning)
    errors = [0.0] * len(PENALTIES)
    for fold in folds:
        rest, left = (whole - fold).totals(), fold.totals()
        is_ridge = settings.head in ("ridge", "even")
        found = _squared(rest, left, text, settings.text_weight) if is_ridge else _unlikely(rest, left)
        errors = [error + new / left.examples for error, new in zip(errors, found, strict=True)]
    rounded = [float(f"{error:.{AGREED}g}") for error in errors]
    return max(each for each, error in zip(PENALTIES, rounded, strict=True) if error == min(rounded))


def _squared(rest: Totals, left: Totals, text: Float, text_weight: float) -> list[float]:
    """Return per penalty the squared error on `left` of the ridge head of `rest`."""
    values, vectors = np.linalg.eigh(rest.gram)
    values = np.maximum(values, 0.0)
    sums, drawn = vectors.T @ rest.sums.T, vectors.T @ (text_weight * text.T)
    gram, wanted = vectors.T @ left.gram @ vectors, vectors.T @ left.sums.T
    errors = []
    for each in PENALTIES:
        head = (sums + each * drawn) / (values + each)[:, None]
        errors.append(float(np.sum(head * (gram @ head)) - 2 * np.sum(head * wanted)) + left.examples)
    return errors


def _unlikely(rest: Totals, left: Totals) -> list[float]:
    """Return per penalty twice the negative log-likelihood of `left` under the classes of `rest`, but for a constant.

    A class that the rest has not is measured from the origin.
    """
    known = (rest.counts > 0) & (left.counts > 0)
    counts = rest.counts[rest.counts > 0].astype(np.float64)
    spread = (rest.sums[rest.counts > 0] / np.sqrt(counts)[:, None]).T
    values, vectors = np.linalg.eigh((rest.gram - spread @ spread.T) / rest.examples)
    values = np.maximum(values, 0.0)
    centres = (rest.sums[known] / rest.counts[known][:, None]) @ vectors
    sums, numbers = left.sums[known] @ vectors, left.counts[known].astype(np.float64)
    gram = np.einsum("ji,jk,ki->i", vectors, left.gram, vectors, optimize=True)
    scatter = gram - 2 * np.sum(sums * centres, axis=0) + numbers @ (centres * centres)
    errors = []
    for each in PENALTIES:
        lifted = values + each / rest.examples
        errors.append(float(np.sum(scatter / lifted)) + left.examples * math.fsum(np.log(lifted)))
    return errors
