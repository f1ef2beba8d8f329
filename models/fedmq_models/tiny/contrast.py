"""Contrastive training: pull each image towards its own caption and away from the others in its batch.

The loss is CLIP's (Radford et al. 2021, arXiv:2103.00020, figure 3). Captions repeat within a batch, so some negatives
are false; a loss that knows this was tried and was not better.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedmq_models.tiny.model import normalised
from fedmq_models.tiny.samples import Samples

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train: AdamW, linear warm-up, then half a cosine down to zero."""

    epochs: int = 14
    batch: int = 128
    peak_rate: float = 1.5e-3
    warmup_steps: int = 50
    weight_decay: float = 0.2
    shift: int = 4  # pixels by which an image is moved at most

    def steps(self, examples: int) -> int:
        """Optimizer steps on that many examples; what does not fill a batch waits for another epoch."""
        return self.epochs * (examples // self.batch)


def train(
    model: Any, tokenize: Any, samples: Samples, recipe: Recipe, seed: int, stepped: Callable[[float], None]
) -> list[float]:
    """Train in place, and leave the model in evaluation mode; the mean loss of each epoch.

    seed       decides the order and the augmentation; with what weights the model starts is the caller's choice
    stepped    called with the loss after every step
    """
    import torch

    rng = np.random.default_rng(seed)
    tokens = tokenize(list(samples.captions))
    optimizer, schedule = _optimizer(model, recipe, recipe.steps(len(samples)))
    losses: list[list[float]] = []
    model.train()
    for _ in range(recipe.epochs):
        losses.append([])
        order = rng.permutation(len(samples))
        for start in range(0, len(samples) - recipe.batch + 1, recipe.batch):
            chosen = order[start : start + recipe.batch]
            pixels = augmented(samples.pixels[chosen], recipe.shift, rng)
            loss = clip_loss(*model(normalised(pixels), tokens[chosen]))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses[-1].append(loss.item())
            stepped(loss.item())
    model.eval()
    return [float(np.mean(epoch)) for epoch in losses]


def clip_loss(image: "torch.Tensor", text: "torch.Tensor", scale: "torch.Tensor") -> "torch.Tensor":
    """Symmetric cross-entropy over the (n, n) similarities, where image i belongs to text i.

    image, text    (n, d), rows of norm 1
    scale          what cosines are multiplied by
    """
    import torch
    from torch.nn.functional import cross_entropy

    logits = scale * image @ text.T
    own = torch.arange(len(logits))
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def augmented(pixels: NDArray[np.uint8], shift: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Mirror half of the images (n, s, s, 3) and move each by up to `shift` pixels, repeating the edge."""
    n, side = pixels.shape[:2]
    padded = np.pad(pixels, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    out = np.empty_like(pixels)
    mirrored = set(np.flatnonzero(rng.random(n) < 0.5))
    for i, (dy, dx) in enumerate(rng.integers(0, 2 * shift + 1, (n, 2))):
        view = padded[i, dy : dy + side, dx : dx + side]
        out[i] = view[:, ::-1] if i in mirrored else view
    return out


def _optimizer(
    model: Any, recipe: Recipe, steps: int
) -> "tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]":
    import torch

    # As CLIP does: no decay for gains, biases and the logit scale.
    flat = [weight for weight in model.parameters() if weight.ndim < 2]
    deep = [weight for weight in model.parameters() if weight.ndim >= 2]
    groups = [{"params": deep, "weight_decay": recipe.weight_decay}, {"params": flat, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.peak_rate, betas=(0.9, 0.98))

    def rate(step: int) -> float:
        return min((step + 1) / recipe.warmup_steps, 0.5 * (1 + math.cos(math.pi * step / max(1, steps))))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
