"""Heads: from sums to class weights, in closed form.

    means          w_c = the direction of the mean of class c (nearest class mean, as FedNCM)
    ridge          (G + penalty I) w_c = sum of class c + penalty * text_weight * t_c: least squares, drawn to the text
                   feature t_c, so that a class that nobody has stays what it was at zero shots
    even           the rows of ridge, each then as long as they are in the mean (Fed3R, Fani et al. 2024,
                   arXiv:2402.06300): least squares makes those of frequent classes longer
    discriminant   the linear discriminant (Fisher): S the covariance within the classes, + penalty / n I;
                   w_c = S^-1 m_c, b_c = -1/2 m_c' S^-1 m_c + log of the share of class c

A head gives the logits W x / |x| + b. Means and text are compared by cosine times the logit scale, as the frozen model
does; least squares gives scores of about 0 to 1, and their differences times SHARPNESS are logits.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedmq.delta import Arrays, Params, Schema, gather
from fedmq.stats.layout import BIAS, HEAD, Float
from fedmq.stats.settings import Statistics as Settings
from fedmq.stats.solve import solve
from fedmq.stats.sums import Totals

SHARPNESS = 10.0


def head(settings: Settings, penalty: float, totals: Totals, beginning: Params) -> Params:
    """Return the head of these sums.

    penalty      above 0
    beginning    version 0: the text features times the logit scale
    """
    text, scale = prior(beginning)
    match settings.head:
        case "means":
            found, bias = scale * means(totals, text), np.zeros(len(text))
        case "ridge":
            found, bias = SHARPNESS * ridge(totals, text, penalty, settings.text_weight), np.zeros(len(text))
        case "even":
            found, bias = SHARPNESS * even(ridge(totals, text, penalty, settings.text_weight)), np.zeros(len(text))
        case "discriminant":
            found, bias = discriminant(totals, penalty)
    return _params(beginning.schema, found, bias)


def means(totals: Totals, text: Float) -> Float:
    """Return the directions of the class means (C, dim); the text where a class has none."""
    return _directions(np.where(totals.counts[:, None] > 0, totals.sums, text))


def ridge(totals: Totals, text: Float, penalty: float, text_weight: float) -> Float:
    """Return the rows w_c (C, dim) of least squares drawn to the text."""
    found, _ = solve(totals.gram, (totals.sums + penalty * text_weight * text).T, penalty)
    return np.ascontiguousarray(found.T)


def even(rows: Float) -> Float:
    """Return rows (C, dim) of the same directions, all as long as these are in the mean."""
    length = math.fsum(_length(row) for row in rows) / len(rows)
    return length * _directions(rows)


Solver = Callable[[Float, Float, float], tuple[Float, float]]


def discriminant(totals: Totals, penalty: float, by: Solver = solve) -> tuple[Float, Float]:
    """Return the rows w_c (C, dim) and the biases (C,) of the linear discriminant.

    A class that nobody has is given the mean of all, and every share is counted with one example more (Laplace).
    """
    counts, examples = totals.counts.astype(np.float64), float(totals.examples)
    overall = totals.sums[0].copy()
    for row in totals.sums[1:]:
        overall += row
    centres = np.where(counts[:, None] > 0, totals.sums / np.maximum(counts, 1.0)[:, None], overall / max(1, examples))
    within = totals.gram.copy()
    for centre, number in zip(centres, counts, strict=True):
        within -= number * (centre[:, None] * centre)
    found, _ = by(within / examples, centres.T, penalty / examples)
    rows = np.ascontiguousarray(found.T)
    shares = [math.log((number + 1) / (examples + len(counts))) for number in counts]
    quadratic = [math.fsum(products) for products in centres * rows]
    return rows, np.array([share - length / 2 for share, length in zip(shares, quadratic, strict=True)])


def prior(beginning: Params) -> tuple[Float, float]:
    """Return the text features, rows of norm 1, and the logit scale, of which version 0 is the product."""
    rows = beginning.named()[HEAD].astype(np.float64)
    return _directions(rows), float(np.median([_length(row) for row in rows]))


def _directions(rows: Float) -> Float:
    found: Float = rows / np.array([_length(row) or 1.0 for row in rows])[:, None]
    return found


def _length(row: NDArray[np.float64]) -> float:
    """Return the norm, its squares summed as if exactly: the same bits everywhere."""
    return math.sqrt(math.fsum(row * row))


def _params(schema: Schema, weights: Float, bias: Float) -> Params:
    found = gather({HEAD: weights.astype(np.float32), BIAS: bias.astype(np.float32)})
    return Params(Arrays(schema, found.flat))
