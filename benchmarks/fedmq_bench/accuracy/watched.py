"""Watched: a federation whose nodes know their train and validation splits, while their test splits stay outside.

What a node reports is of validation data, and from that the version is chosen. How good it is on the test splits, and
on the domain that is held out, is looked at once, for the version that was taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from fedmq.effects import Evaluate
from fedmq.plan import Settings
from fedmq_bench.accuracy.folds import Fold
from fedmq_bench.harness import Say
from fedmq_bench.virtual import Virtual
from fedmq_models.examples import Examples
from fedmq_nodes.results import Evaluated
from fedmq_nodes.sources import Data
from fedmq_nodes.task import Task
from fedmq_nodes.trainer import Trainer

TOLD = 5  # how often in a run


@dataclass(frozen=True)
class Taken:
    """The version of the best validation accuracy, mean over nodes, personal where there is that; the first of several.

    held     what each node held then
    """

    score: float = -1.0
    version: int = 0
    held: Mapping[str, Evaluate] = field(default_factory=dict, repr=False)


class Watched(Virtual):
    """One federation of the nodes of a fold, to the end."""

    def __init__(self, task: Task, fold: Fold, settings: Settings, seed: int, versions: int, say: Say) -> None:
        self.taken = Taken()
        self._fold, self._versions, self._tell = fold, versions, say
        self._held: dict[int, dict[str, tuple[Evaluate, float]]] = {}
        super().__init__(task, trained_on(fold), settings, seed)
        self.run(versions)

    def evaluate(self, name: str, trainer: Trainer, effect: Evaluate) -> Evaluated:
        """Measure on validation data, and remember what every node holds of the best version so far."""
        found = super().evaluate(name, trainer, effect)
        if effect.version:
            right = found.correct if found.personal is None else found.personal
            held = self._held.setdefault(effect.version, {})
            held[name] = effect, right / found.examples
            if len(held) == len(self.data):
                self._weigh(effect.version)
        return found

    def tests(self) -> dict[str, Evaluated]:
        """Return how good the version that was taken is on each node's test split."""
        return {
            name: tester(self.task, self._fold.nodes[name].test).evaluate(held.version, held.params, held.personal)
            for name, held in self.taken.held.items()
        }

    def elsewhere(self) -> float | None:
        """Return its accuracy on the domain held out; None where there is none."""
        if self._fold.held_out is None:
            return None
        params = next(iter(self.taken.held.values())).params
        found = tester(self.task, self._fold.held_out).evaluate(self.taken.version, params)
        return found.correct / found.examples

    def _weigh(self, version: int) -> None:
        held = self._held.pop(version)
        score = fmean(share for _, share in held.values())
        if score > self.taken.score:
            self.taken = Taken(score, version, {name: effect for name, (effect, _) in held.items()})
        if self._versions >= TOLD and version % (self._versions // TOLD) == 0:
            self._tell(f"  round {version} of {self._versions}: {score:.1%} of validation")


def trained_on(fold: Fold) -> Mapping[str, Data]:
    """Return what each node of a fold knows: train and validation."""
    return {name: Data(shares.train, shares.validation) for name, shares in fold.nodes.items()}


def tester(task: Task, examples: Examples) -> Trainer:
    """Return who measures on these examples and trains on nothing."""
    return Trainer(task, Data(examples.where(np.zeros(len(examples), np.bool_)), examples), 0)
