"""The pool: unlabelled features of the target domain, published by the aggregator, and what keeps them honest.

Features and never images, labels never read, halved to fp16, once per node with the task. A pool that holds images
which accuracy is measured on would make every figure look better than what is to be expected of new ones. A node that
finds its own test images in the pool says so and leaves, unless the federation declares itself transductive.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmq.errors import ConfigInvalid
from fedmq_models.bundle import Bundle
from fedmq_models.classifier import normalised
from fedmq_models.examples import Examples
from fedmq_models.methods import METHODS, Adapting, method
from fedmq_models.target import Target
from fedmq_models.training import Training
from fedmq_nodes.errors import DataUnusable, TargetLeaks
from fedmq_nodes.files import Choice, unlabelled

# Of a feature with itself after halving, or from another device; two different images never come that close.
SAME = 1 - 1e-6


def located(task: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Return the settings of a task with the pool's file relative to the folder; what is no table is left as it is."""
    target = task.get("target")
    if not isinstance(target, Mapping) or not isinstance(target.get("pool"), str) or not target["pool"]:
        return task
    return {**task, "target": {**target, "pool": str(folder / target["pool"])}}


def published(training: Training, bundle: Bundle) -> NDArray[np.float16] | None:
    """Return the features (n, dim) to publish, or None where the method adapts to no target domain.

    raises     ConfigInvalid if the method and the settings do not go together; DataUnusable, naming the file
    """
    target = training.target
    if not isinstance(method(training.method), Adapting):
        if target != Target():
            adapting = ", ".join(name for name, how in METHODS.items() if isinstance(how, Adapting))
            raise ConfigInvalid(f"task.target is set, but {training.method} adapts to no target domain; {adapting} do")
        return None
    if not target.pool:
        raise ConfigInvalid(
            f"{training.method} adapts to a target domain and has no features of it: set task.target.pool to an .npz "
            "or .safetensors file with unlabelled `features` of that domain, of images that nobody is tested on"
        )
    k, _, n = target.part.partition("/")
    features = unlabelled(Path(target.pool), Choice(target.where, (int(k), int(n))))
    if features.shape[1] != bundle.dim:
        raise DataUnusable(
            f"{target.pool} has features of {features.shape[1]} dimensions, {bundle.name} has {bundle.dim}"
        )
    if len(features) < 2:
        raise DataUnusable(f"{target.pool} has {len(features)} row to adapt to; at least 2 are needed, better hundreds")
    if 0 < target.rows < len(features):
        features = features[np.sort(np.random.default_rng(0).permutation(len(features))[: target.rows])]
    with np.errstate(over="ignore"):
        halved = (features * np.float32(bundle.scale)).astype(np.float16)
    if not np.isfinite(halved).all():
        most = np.abs(features).max() * bundle.scale
        raise DataUnusable(
            f"{target.pool} holds features up to {most:g}, fp16 ends at 65504; scale them, or the bundle"
        )
    return halved


def travelling(training: Training) -> Training:
    """Return what nodes need to know: how to adapt, and not where the pool lies on the aggregator's disk."""
    target = training.target
    return replace(training, target=replace(target, pool="", where={}, part=Target.part, rows=Target.rows))


def require_apart(pool: NDArray[np.float32] | None, target: Target, test: Examples) -> None:
    """Raise TargetLeaks if the pool holds features that this node tests on, and it is not said that it does."""
    if pool is None or target.transductive:
        return
    theirs = normalised(pool).T
    held = sum(int(((normalised(test.batch(chosen)) @ theirs).max(axis=1) >= SAME).sum()) for chosen in test.chunks())
    if held:
        raise TargetLeaks(
            f"the pool of the target domain holds {held} of the {len(test)} images that this node tests on: publish "
            "others, or set task.target.transductive = true, which every report then says"
        )
