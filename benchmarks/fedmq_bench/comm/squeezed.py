"""Squeezed: one delta of real training, packed and unpacked: how fast, and how wrong, beside what theory says.

Packing is timed in turns with the local epoch that it follows on a node, so that their ratio holds whatever else the
machine does.
"""

from dataclasses import dataclass
from statistics import mean, median

import numpy as np

from fedmq.compress import codec
from fedmq.delta import Delta, Vector, subtract
from fedmq_bench.comm import theory
from fedmq_bench.comm.datasets import Dataset
from fedmq_bench.harness import in_turns, seconds
from fedmq_models.training import Training
from fedmq_nodes import task
from fedmq_nodes.trainer import Trainer

EPOCH_IMAGES = 1000  # what an epoch is scaled to


@dataclass(frozen=True)
class Squeezed:
    """Of one codec: `nmse` is |x - x'|^2 / |x|^2, a mean over seeds of the codec; `theory` where there is one.

    epoch_s      a local epoch of 1,000 images, measured beside the packing
    """

    encode_s: float
    decode_s: float
    epoch_s: float
    nmse: float
    theory: float | None


class Sample:
    """One node's local epoch, and the delta that it gives."""

    def __init__(self, dataset: Dataset, nodes: int, seed: int) -> None:
        job = task.job(dataset.bundle, Training(), seed)
        self._data = max(dataset.deal(nodes, seed), key=lambda data: len(data.train))
        self._trainer = Trainer(task.understand(job.task, job.arrays), self._data, seed)
        self._params = job.params
        self.delta: Delta = subtract(self._trainer.train(0, self._params).params, self._params)

    def squeeze(self, name: str, repeats: int) -> Squeezed:
        """Pack, unpack and compare."""
        how, delta = codec(name), self.delta
        payloads = [how.pack(delta, seed) for seed in range(repeats)]
        turns = in_turns(lambda: how.pack(delta, 0), lambda: self._trainer.train(0, self._params), repeats)
        images = len(self._data.train)
        return Squeezed(
            turns.median_s,
            median(seconds(lambda: how.unpack(payloads[0], delta.schema)) for _ in range(repeats)),
            turns.other_s * EPOCH_IMAGES / images,
            mean(_error(delta, how.unpack(payload, delta.schema).flat) for payload in payloads),
            theory.nmse(name, delta),
        )


def _error(delta: Delta, found: Vector) -> float:
    wanted = delta.flat.astype(np.float64)
    return float(((wanted - found) ** 2).sum() / (wanted**2).sum())
