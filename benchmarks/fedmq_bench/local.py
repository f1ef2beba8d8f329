"""Local: one local epoch on cached features, beside the reference loop that runs both encoders on every batch.

Both sides do the same mathematics (loss `reference`, FedCLIP's optimizer and settings, batches of 32) with the same
number of threads. The reference is measured on single batches of 32, scaled to the number of images of the epoch. Its
pixels lie in memory, decoded and preprocessed, which the published loop does again in every epoch: so the ratio errs on
the low side.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fedmq_bench import machine, reference
from fedmq_bench.harness import Pair, Say, figures, in_turns
from fedmq_models.examples import Examples
from fedmq_models.export import clip
from fedmq_models.methods import method
from fedmq_models.training import fit

LABELS = tuple(f"thing {number}" for number in range(7))  # as many classes as PACS has


def measure(
    model: str, images: int, repeats: int, threads: int | None, seed: int, say: Say
) -> Iterator[dict[str, Any]]:
    """Yield one row.

    model      an open_clip name; random weights, which cost as much as any
    images     of an epoch
    repeats    cached epochs, each beside one batch of the reference
    """
    say(f"building {model} with random weights")
    made = clip.load(model, None, seed)
    with machine.torch_threads(threads) as used:
        yield run(made, images, repeats, seed, say) | {"model": model, "threads": used}


def run(made: clip.Clip, images: int, repeats: int, seed: int, say: Say) -> dict[str, Any]:
    """Return the row of one model."""
    import torch

    rng = np.random.default_rng(seed)
    batch = min(reference.TRAINING.batch_size, images)
    labels = rng.integers(0, len(LABELS), images)
    tokens = made.tokenizer([clip.DEFAULT_PROMPT.replace("{}", LABELS[label]) for label in labels[:batch]])
    size = made.preprocess.size
    pixels = torch.from_numpy(rng.standard_normal((batch, 3, size, size), dtype=np.float32))
    cached = Cached(made, labels, rng, seed)
    dim = cached.text.shape[1]
    loop = reference.Loop(made.model, reference.adapter(dim))

    say(f"an epoch of {images} cached images beside a batch of {batch} through both encoders")
    turns = in_turns(cached.epoch, lambda: loop.step(pixels, tokens), repeats, say=say)
    scaled = Pair(turns.ours, [seconds * images / batch for seconds in turns.theirs])
    return {
        "case": "local",
        "images": images,
        "cached_epoch_s": scaled.median_s,
        "reference_epoch_s": scaled.other_s,
        **figures(scaled, faster=True),
        "reference_scaled_from_images": batch,
        "dim": dim,
    }


class Cached:
    """Our side: features of some images, as a node has them after it has encoded each of them once."""

    def __init__(self, made: clip.Clip, labels: np.ndarray[Any, Any], rng: np.random.Generator, seed: int) -> None:
        self.text = clip.text_features(made, LABELS, (clip.DEFAULT_PROMPT,))
        dim = self.text.shape[1]
        features = 10 * rng.standard_normal((len(labels), dim), dtype=np.float32) / np.float32(dim**0.5)
        self._examples = Examples(features, np.arange(len(labels)), labels.astype(np.int64))
        self._start = method(reference.TRAINING.method).start(dim, rng)
        self._scale, self._seed = made.logit_scale, seed

    def epoch(self) -> float:
        """Train one local epoch, as a node does, and return its mean loss."""
        run = fit(reference.TRAINING, self._start, self._examples, self.text, self._scale, self._seed)
        return run.loss
