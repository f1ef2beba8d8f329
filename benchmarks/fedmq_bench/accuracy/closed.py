"""Closed: the penalty and the text weight of a head in closed form, as validation data would have them.

Two things are wanted of a head: to be good for those who take part, and for a domain that nobody has seen. So what is
compared is the accuracy on the participants' validation splits with everybody's statistics, and that with the
statistics of their own domain left out, in the mean. Nodes would answer each head that they are sent with a count:
heads travel down for it, and next to nothing up. The solving is BLAS's here, and the aggregator's own for the head that
is taken.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from fedmq.delta import Params
from fedmq.stats.forms import FORMS
from fedmq.stats.heads import discriminant, even, prior
from fedmq.stats.layout import Float, Layout, Statistics, count
from fedmq.stats.settings import Statistics as Settings
from fedmq.stats.sums import Sum, Totals
from fedmq_bench.accuracy.folds import Fold
from fedmq_bench.accuracy.ways import PENALTIES, TEXT_WEIGHTS
from fedmq_models.classifier import normalised
from fedmq_models.examples import Examples


def chosen(settings: Settings, form: str, beginning: Params, fold: Fold) -> tuple[float, Settings]:
    """Return the best mean validation accuracy and the settings that have it: of several the largest penalty."""
    if settings.head == "means":
        return 0.0, settings
    text, _ = prior(beginning)
    counted = {name: _counted(shares.train, form, Layout(*text.shape)) for name, shares in fold.nodes.items()}
    groups = sorted(set(fold.groups.values()))
    scores: dict[Settings, list[float]] = {}
    for left in [None, *(groups if len(groups) > 1 else ())]:
        there = _totals([one for name, one in counted.items() if fold.groups[name] != left], Layout(*text.shape))
        judges = [fold.nodes[name].validation for name in fold.nodes if left in (None, fold.groups[name])]
        features = [normalised(judge.batch(slice(None))).astype(np.float64) for judge in judges]
        # A domain that is left out counts as one of several; the participants as they are count as much as all of them.
        share = 1.0 if left is None else 1.0 / len(groups)
        for candidate, weights, bias in _heads(settings, there, text):
            right = [
                float(((rows @ weights.T + bias).argmax(axis=1) == judge.labels).mean())
                for rows, judge in zip(features, judges, strict=True)
            ]
            scores.setdefault(candidate, []).append(share * fmean(right))
    whole = {candidate: sum(parts) for candidate, parts in scores.items()}
    best = max(whole, key=lambda each: (round(whole[each], 9), each.penalty))
    return scores[best][0], best


def _counted(examples: Examples, form: str, layout: Layout) -> Statistics:
    """Return a node's statistics as they arrive."""
    batches = ((examples.batch(part), examples.labels[part]) for part in examples.chunks())
    return FORMS[form].unpack(FORMS[form].pack(count(batches, layout)), layout)


def _totals(parts: Sequence[Statistics], layout: Layout) -> Totals:
    total = Sum(layout)
    for part in parts:
        total.add(part)
    return total.totals()


def _heads(settings: Settings, totals: Totals, text: Float) -> Iterator[tuple[Settings, Float, Float]]:
    """Yield every candidate, its rows (C, dim) and its biases (C,)."""
    none = np.zeros(len(text))
    if settings.head == "discriminant":
        for penalty in PENALTIES:
            yield replace(settings, penalty=penalty), *discriminant(totals, penalty, _lapack)
        return
    values, vectors = np.linalg.eigh(totals.gram)
    sums, drawn = vectors.T @ totals.sums.T, vectors.T @ text.T
    for penalty in PENALTIES:
        for weight in TEXT_WEIGHTS:
            rows = (vectors @ ((sums + penalty * weight * drawn) / (np.maximum(values, 0.0) + penalty)[:, None])).T
            rows = even(rows) if settings.head == "even" else rows
            yield replace(settings, penalty=penalty, text_weight=weight), rows, none


def _lapack(matrix: Float, right: Float, lift: float) -> tuple[Float, float]:
    return np.asarray(np.linalg.solve(matrix + lift * np.eye(len(matrix)), right), np.float64), lift
