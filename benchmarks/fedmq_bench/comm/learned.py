"""Learned: real training through the real cores, in memory, and accuracy against the bytes that it took.

Every node trains a local epoch per version, in rounds that wait for all (`sync`): no policy and no weather, so that
what differs between two runs of a seed is the codec alone. Bytes are the aggregator's own count. Those of version v are
what had to go up to make it, and what had to go down until every node held it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from fedmq.aggregator import Aggregator
from fedmq.core import Event
from fedmq.effects import Effect, Evaluate, Keep, Prepare, Remember, Train
from fedmq.journal import ReportEntry, Traffic
from fedmq.past import Past
from fedmq.plan import Codecs, Job, Settings, Stop
from fedmq.rounds import PRESETS
from fedmq.simulate import Perform, Simulation
from fedmq.transports import AGGREGATOR
from fedmq_bench.comm.datasets import Dataset
from fedmq_models.training import Training
from fedmq_nodes import task
from fedmq_nodes.greeting import Introduction
from fedmq_nodes.node import Node
from fedmq_nodes.sources import Data
from fedmq_nodes.trainer import Trainer

NAME = "comm"
TRAIN_S = 1.0  # of virtual time; every node takes as long


@dataclass(frozen=True)
class Curve:
    """One run, by version from 0: accuracy over all test examples of all nodes, and bytes until then, of all nodes.

    zero_shot   of the frozen model alone
    """

    accuracy: tuple[float, ...]
    traffic: tuple[Traffic, ...]
    zero_shot: float


class Federation:
    """One federation in memory, with real data on its nodes."""

    def __init__(
        self, dataset: Dataset, codecs: Codecs, nodes: int, rounds: int, seed: int, training: Training | None = None
    ) -> None:
        self.job = task.job(dataset.bundle, training or Training(), seed)
        settings = Settings(
            NAME, start_nodes=nodes, rounds=PRESETS["sync"], codec=codecs, stop=Stop(versions=rounds), most_nodes=nodes
        )
        start = Past.none(self.job.params)
        self.aggregator = Aggregator(settings, self.job, start, np.random.default_rng(seed), 0.0)
        self.traffic: dict[int, Traffic] = {}
        self.simulation = Simulation(seed)
        self._right: dict[int | None, list[tuple[int, int]]] = {}
        self.simulation.add(AGGREGATOR, self.aggregator, self._keep)
        for number, data in enumerate(dataset.deal(nodes, seed)):
            self._add(number, data, seed)

    def run(self) -> Curve:
        """Let the federation come to its end."""
        self.simulation.run()
        versions = sorted(self.traffic)
        return Curve(
            tuple(self._accuracy(version) for version in versions),
            tuple(self.traffic[version] for version in versions),
            self._accuracy(None),
        )

    def _accuracy(self, version: int | None) -> float:
        told = self._right[version]
        return sum(correct for correct, _ in told) / sum(examples for _, examples in told)

    def _add(self, number: int, data: Data, seed: int) -> None:
        name = f"node-{number}"
        who = Introduction(NAME, name, self.job.feature_space, self.job.dim, (self.job.method,))
        rng = np.random.default_rng([seed, number])
        node = Node(who, int(rng.integers(1, 2**63)), rng, 0.0)
        self.simulation.add(name, node, self._work(node, _trainer(self.job, data, seed + number), data))

    def _keep(self, effect: Effect, now: float) -> Iterable[tuple[float, Event]]:
        if isinstance(effect, Keep):
            for entry in effect.entries:
                if isinstance(entry, ReportEntry):
                    self._right.setdefault(entry.version, []).append((entry.correct, entry.examples))
            number = effect.number
            yield 0.0, lambda now: self.aggregator.kept(number, now)

    def _work(self, node: Node, trainer: Trainer, data: Data) -> Perform:
        def perform(effect: Effect, now: float) -> Iterable[tuple[float, Event]]:
            match effect:
                case Prepare():
                    yield 0.0, lambda now: node.prepared(len(data.train), len(data.test), now)
                case Train(version, params):
                    trained = replace(trainer.train(version, params), train_s=TRAIN_S)
                    yield TRAIN_S, lambda now: node.trained(trained, now)
                case Evaluate(version, params):
                    if version is not None:
                        self.traffic[version] = replace(self.aggregator.traffic)  # the last node to get it has it right
                    evaluated = trainer.evaluate(version, params)
                    yield 0.0, lambda now: node.evaluated(evaluated, now)
                case Remember(memory):
                    yield 0.0, lambda now: node.remembered(memory, now)

        return perform


def _trainer(job: Job, data: Data, seed: int) -> Trainer:
    return Trainer(task.understand(job.task, job.arrays), data, seed)
