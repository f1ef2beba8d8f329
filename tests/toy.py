"""A toy task: separable features in 8 dimensions, so that a federation learns something in milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmq.plan import Job
from fedmq_models import bundle as bundles
from fedmq_models.bundle import Bundle
from fedmq_models.examples import Examples
from fedmq_models.training import Training
from fedmq_nodes import task
from fedmq_nodes.sources import Data, Progress, Split

DIM = 8
LABELS = ("cat", "dog", "owl")


def text() -> NDArray[np.float32]:
    return np.eye(len(LABELS), DIM, dtype=np.float32)


def bundle(folder: Path) -> Bundle:
    return bundles.write(folder, name="toy", labels=LABELS, text=text(), logit_scale=20.0, declared_space="toy")


def job(found: Bundle, training: Training | None = None) -> Job:
    return task.job(found, training or Training(lr=0.05, epochs=2, batch_size=16))


def features(count: int, seed: int, blur: float = 0.6) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features around the text of their class, with a strong distractor that an adapter learns to turn down."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(LABELS), count)
    values = text()[labels] * 3 + rng.normal(0, blur, (count, DIM)).astype(np.float32)
    values[:, 0] += 4 * rng.random(count).astype(np.float32)
    return values.astype(np.float32), labels


def settle(folder: Path, monkeypatch: pytest.MonkeyPatch, names: str, count: int = 80) -> None:
    """Work in this folder, with a bundle in it and a file of features for each of these nodes."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    bundle(folder / "toy")
    for seed, name in enumerate(names):
        values, labels = features(count, seed)
        np.savez(folder / f"{name}.npz", features=values, labels=labels)


@dataclass
class Toy:
    """A source of so many features, without a file or an encoder."""

    count: int = 60
    seed: int = 0
    fails: Exception | None = None

    def load(self, labels: Sequence[str], split: Split, progress: Progress) -> Data:
        progress(0, self.count)
        if self.fails is not None:
            raise self.fails
        values, numbers = features(self.count, self.seed)
        keys = [bytes([i * 37 % 256]) * 32 for i in range(self.count)]
        return Data(*split.apply(Examples(values, np.arange(self.count), numbers), keys))
