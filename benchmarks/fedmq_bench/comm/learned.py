"""Learned: real training through the real cores, in memory, and accuracy against the bytes that it took.

Every node trains a local epoch per version, in rounds that wait for all (`sync`): no policy and no weather, so that
what differs between two runs of a seed is the codec alone. Bytes are the aggregator's own count. Those of version v are
what had to go up to make it, and what had to go down until every node held it.
"""

from dataclasses import dataclass

from fedmq.journal import Traffic
from fedmq.plan import Codecs, Settings
from fedmq.rounds import PRESETS
from fedmq_bench.comm.datasets import Dataset
from fedmq_bench.virtual import Virtual
from fedmq_models.training import Training
from fedmq_nodes.task import Task


@dataclass(frozen=True)
class Curve:
    """One run, by version from 0: accuracy over all test examples of all nodes, and bytes until then, of all nodes.

    zero_shot   of the frozen model alone
    """

    accuracy: tuple[float, ...]
    traffic: tuple[Traffic, ...]
    zero_shot: float


def learn(
    dataset: Dataset, codecs: Codecs, nodes: int, rounds: int, seed: int, training: Training | None = None
) -> Curve:
    """Let one federation come to its last version."""
    bundle = dataset.bundle
    task = Task(training or Training(), bundle.labels, bundle.logit_scale, bundle.text)
    data = {f"node-{number}": one for number, one in enumerate(dataset.deal(nodes, seed))}
    settings = Settings("comm", rounds=PRESETS["sync"], codec=codecs)
    fleet = Virtual(task, data, settings, seed).run(rounds)
    versions = range(rounds + 1)
    return Curve(
        tuple(_accuracy(fleet, version) for version in versions),
        tuple(fleet.traffic[version] for version in versions),
        _accuracy(fleet, None),
    )


def _accuracy(fleet: Virtual, version: int | None) -> float:
    told = fleet.reports(version).values()
    return sum(entry.correct for entry in told) / sum(entry.examples for entry in told)
