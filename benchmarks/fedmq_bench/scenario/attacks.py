"""Attacks: what a node sends in place of what it has learned. Each is told nothing that a node could not know.

Those that look at the deltas of the honest (ALIE, IPM) need them all at once, and are played where they are: in the
tests of the rules (docs/lab-notes.md).
"""

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from fedmq.delta import Arrays, Delta, Params, add, norm, subtract
from fedmq_bench.scenario.form import Byzantine
from fedmq_models.examples import Examples
from fedmq_nodes.results import Trained

CLAIMED = 10_000


def forged(attack: Byzantine, before: Params, honest: Trained, rng: Generator) -> Trained:
    """Return what is sent in place of `honest`, which was trained from `before`."""
    delta = subtract(honest.params, before)
    match attack.attack:
        case "flip":
            values = np.float32(-attack.by) * delta.flat
        case "scale":
            values = np.float32(attack.by) * delta.flat
        case "noise":
            values = rng.standard_normal(delta.schema.size).astype(np.float32)
            values *= np.float32(attack.by * norm(delta) / np.linalg.norm(values))
        case "zero":
            values = np.zeros_like(delta.flat)
        case "nan":
            values = np.full_like(delta.flat, np.nan)
        case "claim":
            return replace(honest, examples=CLAIMED)
        case _:
            return honest  # it has learned from turned labels
    return replace(honest, params=add(before, Delta(Arrays(delta.schema, values))))


def turned(attack: Byzantine, train: Examples, classes: int) -> Examples:
    """Return what an attacker learns from: the same, or with label y in the place of classes - 1 - y."""
    return replace(train, labels=classes - 1 - train.labels) if attack.attack == "labels" else train
