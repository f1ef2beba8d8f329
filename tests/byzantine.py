"""Nodes that send what they should not, and a toy federation for them to send it to.

Twenty nodes learn a softmax classifier by gradient descent, in closed form and all at once; their updates are judged
and folded by the real Collector, guards included. Attackers know each other and every honest delta of the round, which
is more than a node can know. `python tests/byzantine.py` prints the table that docs/lab-notes.md has.
"""

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist, mean

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedmq.collect import Collector
from fedmq.delta import Arrays, Params, Schema
from fedmq.guards import Guard
from fedmq.journal import Traffic
from fedmq.messages import Update
from fedmq.past import Past
from fedmq.plan import Codecs, Settings
from fedmq.rounds import Cause
from fedmq.rules.combining import Combining

Matrix = NDArray[np.float64]
# (deltas of the honest, what the attackers would send if they were, rng) -> what they send
Attack = Callable[[Matrix, Matrix, Generator], Matrix]

NODES, EXAMPLES, FEATURES, CLASSES = 20, 40, 16, 4
ROUNDS, STEPS, RATE = 40, 5, 0.5
SHARES = (0.0, 0.1, 0.2, 0.3)


def flip(by: float) -> Attack:
    """-by x what an honest node would send."""
    return lambda honest, own, rng: -by * own


def scale(honest: Matrix, own: Matrix, rng: Generator) -> Matrix:
    """A hundred times what an honest node would send."""
    return 100.0 * own


def gaussian(honest: Matrix, own: Matrix, rng: Generator) -> Matrix:
    """Noise as long as ten deltas."""
    noise: Matrix = rng.standard_normal(own.shape)
    noise *= 10.0 * np.linalg.norm(own, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    return noise


def little(honest: Matrix, own: Matrix, rng: Generator) -> Matrix:
    """ALIE, Baruch et al. 2019 (arXiv:1902.06156): as far from the mean as can be without being conspicuous."""
    nodes, faulty = len(honest) + len(own), len(own)
    supporters = nodes // 2 + 1 - faulty
    z = NormalDist().inv_cdf((nodes - faulty - supporters) / (nodes - faulty))
    return np.repeat([honest.mean(axis=0) - z * honest.std(axis=0)], faulty, axis=0)


def against(by: float) -> Attack:
    """IPM, Xie et al. 2019 (arXiv:1903.03936): the mean of the honest, turned round."""
    return lambda honest, own, rng: np.repeat([-by * honest.mean(axis=0)], len(own), axis=0)


def honestly(honest: Matrix, own: Matrix, rng: Generator) -> Matrix:
    """What the attackers' data says."""
    return own


@dataclass(frozen=True)
class Plot:
    """What attackers do: to what they send, to their labels, and how many examples they claim."""

    send: Attack = honestly
    flips_labels: bool = False
    claims: int = EXAMPLES


PLOTS: dict[str, Plot] = {
    "sign flip": Plot(flip(1.0)),
    "sign flip x 10": Plot(flip(10.0)),
    "sign flip, 10,000 examples claimed": Plot(flip(1.0), claims=10_000),
    "scaled x 100": Plot(scale),
    "gaussian": Plot(gaussian),
    "ALIE": Plot(little),
    "IPM 0.1": Plot(against(0.1)),
    "IPM 1.1": Plot(against(1.1)),
    "IPM 2": Plot(against(2.0)),
    "label flip": Plot(flips_labels=True),
}

SHIPPED = Settings("toy", codec=Codecs("fp32", "fp32"), combine=Combining(faulty=0.3))
RULES: dict[str, Settings] = {
    "mean, no guard": replace(SHIPPED, guard=Guard(norm_factor=0.0)),
    **{rule: replace(SHIPPED, rule=rule) for rule in ("mean", "clipping", "trimmed", "median", "krum")},
}


@dataclass(frozen=True)
class Data:
    """x (nodes, examples, features), y (nodes, examples), and a test set."""

    x: Matrix
    y: NDArray[np.int64]
    test_x: Matrix
    test_y: NDArray[np.int64]


def drawn(seed: int, skewed: bool) -> Data:
    """Draw classes that overlap; skewed, a node has two thirds of its examples from one class."""
    rng = np.random.default_rng([seed, 11])
    centres = 0.6 * rng.standard_normal((CLASSES, FEATURES))
    y = rng.integers(0, CLASSES, (NODES, EXAMPLES))
    if skewed:
        own = np.arange(NODES)[:, np.newaxis] % CLASSES
        y = np.where(rng.random(y.shape) < 2 / 3, own, y)
    test_y = rng.integers(0, CLASSES, 2000)
    x, test_x = (centres[labels] + rng.standard_normal((*labels.shape, FEATURES)) for labels in (y, test_y))
    return Data(x, y, test_x, test_y)


def accuracy(settings: Settings, plot: Plot, share: float, seed: int, skewed: bool = False) -> float:
    """Return the accuracy after so many rounds in which this share of the nodes attacks."""
    data, rng = drawn(seed, skewed), np.random.default_rng([seed, 12])
    faulty = rng.permutation(NODES) < round(share * NODES)
    y = np.where(faulty[:, np.newaxis] & plot.flips_labels, CLASSES - 1 - data.y, data.y)
    schema = Schema((("w", (FEATURES, CLASSES)),))
    start = Params(Arrays(schema, np.zeros(schema.size, np.float32)))
    collector = Collector(settings, Past.none(start).point)
    for version in range(ROUNDS):
        now = collector.versions.exact.flat.reshape(FEATURES, CLASSES).astype(np.float64)
        deltas = _trained(now, data.x, y)
        if faulty.any():
            deltas[faulty] = plot.send(deltas[~faulty], deltas[faulty], rng)
        for node in rng.permutation(NODES):
            examples = plot.claims if faulty[node] else EXAMPLES
            payload = deltas[node].astype("<f4").tobytes()
            collector.judge(f"node-{node:02}", Update(1, 1, version, "fp32", examples, STEPS, payload=payload), 0, 0.0)
        collector.commit(Cause.GOAL, Traffic(), 0.0)
    found = data.test_x @ collector.versions.exact.flat.reshape(FEATURES, CLASSES)
    return float(np.mean(found.argmax(axis=1) == data.test_y))


def _trained(params: Matrix, x: Matrix, y: NDArray[np.int64]) -> Matrix:
    """Return the delta of each node after so many steps of gradient descent, (nodes, values)."""
    own, truth = np.repeat(params[np.newaxis], len(x), axis=0), np.eye(CLASSES)[y]
    for _ in range(STEPS):
        logits = x @ own
        odds = np.exp(logits - logits.max(axis=2, keepdims=True))
        own = own - RATE * x.transpose(0, 2, 1) @ (odds / odds.sum(axis=2, keepdims=True) - truth) / EXAMPLES
    return (own - params).reshape(len(x), -1)


def table(seeds: int, skewed: bool) -> Iterator[tuple[str, str, list[float]]]:
    """Yield (rule, attack, mean accuracy by share of attackers)."""
    for rule, plot in itertools.product(RULES, PLOTS):
        yield (
            rule,
            plot,
            [
                mean(accuracy(RULES[rule], PLOTS[plot], share, seed, skewed) for seed in range(seeds))
                for share in SHARES
            ],
        )


if __name__ == "__main__":
    for skewed in (False, True):
        for rule, plot, found in table(3, skewed):
            sys.stdout.write(f"{'skewed' if skewed else 'alike':7} {rule:15} {plot:36} ")
            sys.stdout.write(" ".join(f"{100 * value:5.1f}" for value in found) + "\n")
            sys.stdout.flush()
