"""Samples: many drawn images as arrays, for training and for scoring."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmq_models.tiny.images import CLASSES, SIZE, caption, draw


@dataclass(frozen=True)
class Samples:
    """Pixels (n, SIZE, SIZE, 3) uint8, class numbers (n,), and one caption per image."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


def drawn(
    domain: str, per_class: int, first_seed: int, workers: int = 1, drew: Callable[[int], None] = lambda n: None
) -> Samples:
    """Draw `per_class` images of every class, class by class, with seeds from `first_seed` on.

    workers    processes that draw; the result is the same for any number
    drew       called with the number of images whenever some are ready
    """
    jobs = [(domain, label, first_seed, per_class) for label in CLASSES]
    pixels, texts = [], []
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) if workers > 1 else None
    try:
        for some, said in (pool.map if pool else map)(_one_class, jobs):
            pixels.append(some)
            texts += said
            drew(len(said))
    finally:
        if pool:
            pool.shutdown()
    return Samples(np.concatenate(pixels), np.repeat(np.arange(len(CLASSES)), per_class), tuple(texts))


def _one_class(job: tuple[str, str, int, int]) -> tuple[NDArray[np.uint8], list[str]]:
    domain, label, first, count = job
    pixels = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for i in range(count):
        pixels[i] = np.asarray(draw(domain, label, first + i))
    return pixels, [caption(domain, label, first + i) for i in range(count)]
