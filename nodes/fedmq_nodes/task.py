"""The task: what a federation learns, as the aggregator sends it and as a node understands it.

The runtime carries it without looking inside. It names the method and how to train, and brings the classes and their
text features, so that all nodes classify against the same ones whatever bundle they hold.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedmq.delta import Schema, gather
from fedmq.plan import CAVEAT, Job
from fedmq_models import bundle as bundles
from fedmq_models.bundle import Bundle
from fedmq_models.companion import Adapting
from fedmq_models.methods import METHODS, method
from fedmq_models.training import Training
from fedmq_nodes.errors import TaskUnknown
from fedmq_nodes.pool import travelling

_TRAINING = TypeAdapter(Training)
TRANSDUCTIVE = (
    "transductive: the adapter has adapted to unlabelled features of the images that it is measured on; "
    "expect less of new ones"
)


@dataclass(frozen=True)
class Task:
    """What to learn.

    text     (classes, dim) float32, rows of norm 1, in the order of `labels`
    pool     (n, dim) float32, unlabelled features of the target domain; None where the method adapts to none
    """

    training: Training
    labels: tuple[str, ...]
    logit_scale: float
    text: NDArray[np.float32] = field(repr=False)
    pool: NDArray[np.float32] | None = field(default=None, repr=False)


def job(bundle: Bundle, training: Training, seed: int = 0, pool: NDArray[np.float16] | None = None) -> Job:
    """Return what the aggregator needs to know: what must agree, the task to send, and version 0.

    pool     what `fedmq_nodes.pool.published` gives of this training
    """
    start = method(training.method).start(bundle.dim, np.random.default_rng(seed))
    task = {"training": asdict(travelling(training)), "logit_scale": bundle.logit_scale}
    # The labels travel as bytes among the arrays: there may be more of them than an envelope holds.
    labels = np.frombuffer(json.dumps(bundle.labels).encode(), dtype=np.uint8)
    tensors: dict[str, NDArray[Any]] = {"text": bundle.text, "labels": labels}
    if pool is not None:
        tensors["target"] = pool
    notes = {"bundle": bundles.reference(bundle), "task": json.dumps(task)}
    if training.target.transductive:
        notes[CAVEAT] = TRANSDUCTIVE
    return Job(bundle.feature_space, bundle.dim, training.method, task, save(tensors), gather(start), notes)


def understand(task: Mapping[str, Any], arrays: bytes) -> Task:
    """Return the task that an aggregator sent.

    raises     TaskUnknown if this version of fedmq cannot do it
    """
    try:
        training = _TRAINING.validate_python(task["training"])
        tensors = load(arrays)
        labels = json.loads(tensors["labels"].tobytes())
        pool = tensors["target"].astype(np.float32) if isinstance(method(training.method), Adapting) else None
        return Task(training, tuple(labels), float(task["logit_scale"]), tensors["text"], pool)
    except (KeyError, TypeError, ValueError, ValidationError, SafetensorError) as error:
        raise TaskUnknown(f"the aggregator's task is not understood here: {error}; upgrade this node") from error


def require_same(task: Task, schema: Schema) -> None:
    """Raise TaskUnknown, with both, unless this node's method has the names and shapes of the federation's params."""
    own = Schema.of(method(task.training.method).start(task.text.shape[1], np.random.default_rng(0)))
    if own != schema:
        raise TaskUnknown(f"the federation's {task.training.method} has {schema}; here it has {own}; upgrade the older")


def methods() -> tuple[str, ...]:
    """Return the methods that this node knows."""
    return tuple(METHODS)
