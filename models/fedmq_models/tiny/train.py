"""Train the tiny CLIP from nothing: draw its pictures, train it, score it, and write what ships.

    python -m fedmq_models.tiny.train --out DIR      writes DIR/clip and DIR/bundle; a few minutes on one core

It is trained on photos only, 1,000 per class, so that "photo" is its home and sketch, cartoon and painting are truly
new to it: it reads them half as well, and a federation has something to win. The three were drawn so that the gap is
one that can be closed: what they do differently they do in the same way each time (lines without surfaces; a white rim
round the subject; bare canvas between the colours). FedCLIP's adapter on a frozen encoder can learn a habit, but it
cannot bring back what the encoder does not see: cartoons with loud random backgrounds fell further, and half as much
came back.

The same seed gives the same weights on one kind of CPU with one thread and the same torch, not across them. So the
weights ship with their digest, and tests hold accuracies, not bytes.
"""

import argparse
import dataclasses
import functools
import json
import platform
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedmq_models.bundle.digest import sha256_file
from fedmq_models.tiny import model, score
from fedmq_models.tiny.contrast import Recipe, train
from fedmq_models.tiny.images import CLASSES, DOMAINS
from fedmq_models.tiny.samples import Samples, drawn

if TYPE_CHECKING:
    from rich.progress import Progress

RECORD = "training.json"
FEATURE_NORM = 10.0  # FedCLIP's adapter takes raw CLIP features, which have about this norm
# Scored on seeds that were used neither for training nor while the domains and this recipe were chosen.
TEST_SEED, ADAPT_SEED = 300_000, 400_000


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much of everything; the defaults made the shipped model."""

    seed: int = 0
    photos: int = 1000  # training images per class
    tests: int = 100  # per class and domain
    adapting: int = 100  # per class and domain, for the adapter that is measured
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    workers: int = 1


QUICK = Plan(photos=24, tests=2, adapting=2, recipe=Recipe(epochs=4, batch=32, warmup_steps=5))


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m fedmq_models.tiny.train", description="Train the tiny CLIP.")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets clip/ and bundle/")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes, and a useless model")
    parser.add_argument("--bundle-only", action="store_true", help="remake OUT/bundle from OUT/clip")
    chosen = parser.parse_args(argv)
    if not chosen.bundle_only:
        plan = dataclasses.replace(QUICK if chosen.quick else Plan(), seed=chosen.seed, workers=chosen.workers)
        run(plan, chosen.out / "clip")
    from fedmq_models.tiny.pack import pack

    made = pack(chosen.out / "clip", chosen.out / "bundle")
    print(f"bundle {made.path}, parity {made.source['parity']['min_cosine']:.7f}")


def run(plan: Plan, folder: Path) -> dict[str, Any]:
    """Draw, train and score; write configuration, merges, weights and the record, and return the record."""
    import torch
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn

    torch.set_num_threads(1)  # two threads sum in another order, and the weights would depend on the machine's load
    with Progress(SpinnerColumn(), *Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn()) as bars:
        started = time.monotonic()
        photos = _draw(bars, "photo", plan.photos, 0, plan.workers)
        drawn_at = time.monotonic()

        model.prepare(folder)
        torch.manual_seed(plan.seed)
        made, tokenize = model.untrained(folder), model.tokenizer(folder)
        bar = bars.add_task("training", total=plan.recipe.steps(len(photos)))
        losses = train(made, tokenize, photos, plan.recipe, plan.seed, lambda _loss: bars.advance(bar))
        set_feature_norm(made, photos.pixels[:: max(1, len(photos) // 1000)], FEATURE_NORM)
        model.save(made, folder)
        trained_at = time.monotonic()

        scores = scored(folder, plan, functools.partial(_draw, bars, workers=plan.workers))
    record = {
        "plan": dataclasses.asdict(plan),
        "seconds": {"draw": round(drawn_at - started, 1), "train": round(trained_at - drawn_at, 1)},
        "losses": [round(loss, 4) for loss in losses],
        "weights_sha256": sha256_file(folder / model.WEIGHTS),
        **scores,
        "versions": _versions(),
        "machine": {"cpu": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()},
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    return record


def scored(folder: Path, plan: Plan, draw: Callable[[str, int, int], Samples]) -> dict[str, Any]:
    """Score the weights as saved: per domain the mean feature norm and the images read, before and after adapting."""
    made = model.load(folder)
    text, scale = score.class_text(made, model.tokenizer(folder)), float(made.logit_scale.detach().exp())
    tests = {domain: draw(domain, plan.tests, TEST_SEED) for domain in DOMAINS}
    images = {domain: score.features(made, some.pixels) for domain, some in tests.items()}
    pool = [draw(domain, plan.adapting, ADAPT_SEED) for domain in DOMAINS]
    seen = np.concatenate([score.features(made, some.pixels) for some in pool])
    after = score.adapted(seen, np.concatenate([some.labels for some in pool]), text, scale, images, plan.seed)

    def read(features: dict[str, score.Features]) -> dict[str, int]:
        return {domain: score.correct(features[domain], text, tests[domain].labels) for domain in DOMAINS}

    return {
        "adapter": dataclasses.asdict(score.ADAPTING),
        "tests_per_domain": plan.tests * len(CLASSES),
        "zero_shot_correct": read(images),
        "adapted_correct": read(after),
        "feature_norms": {domain: round(float(np.linalg.norm(x, axis=1).mean()), 2) for domain, x in images.items()},
        "logit_scale": round(scale, 3),
    }


def set_feature_norm(made: Any, pixels: "np.typing.NDArray[np.uint8]", norm: float) -> None:
    """Scale the last layer so that the features of these images (n, s, s, 3) have that mean norm; cosines stay."""
    import torch

    factor = norm / float(np.linalg.norm(score.features(made, pixels), axis=1).mean())
    with torch.no_grad():
        for weight in made.visual.attnpool.c_proj.parameters():
            weight.mul_(factor)


def _draw(bars: "Progress", domain: str, per_class: int, first_seed: int, workers: int) -> Samples:
    bar = bars.add_task(f"drawing {domain} from {first_seed}", total=per_class * len(CLASSES))
    return drawn(domain, per_class, first_seed, workers, lambda count: bars.advance(bar, count))


def _versions() -> dict[str, str]:
    names = ("numpy", "pillow", "torch", "open_clip_torch")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


if __name__ == "__main__":
    main()
