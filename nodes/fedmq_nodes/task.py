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
from fedmq.errors import ConfigInvalid
from fedmq.plan import Job
from fedmq.stats.forms import FORMS
from fedmq_models import bundle as bundles
from fedmq_models.bundle import Bundle
from fedmq_models.methods import METHODS, method, version_0
from fedmq_models.methods.closed_form import ClosedForm
from fedmq_models.training import Training
from fedmq_nodes.errors import TaskUnknown

_TRAINING = TypeAdapter(Training)


@dataclass(frozen=True)
class Task:
    """What to learn.

    text     (classes, dim) float32, rows of norm 1, in the order of `labels`
    """

    training: Training
    labels: tuple[str, ...]
    logit_scale: float
    text: NDArray[np.float32] = field(repr=False)


def job(bundle: Bundle, training: Training, seed: int = 0) -> Job:
    """Return what the aggregator needs to know: what must agree, the task to send, and version 0."""
    how, rng = method(training.method), np.random.default_rng(seed)
    start = version_0(how, bundle.text, bundle.logit_scale, rng)
    task = {"training": asdict(training), "logit_scale": bundle.logit_scale}
    # The labels travel as bytes among the arrays: there may be more of them than an envelope holds.
    labels = np.frombuffer(json.dumps(bundle.labels).encode(), dtype=np.uint8)
    arrays = save({"text": bundle.text, "labels": labels})
    notes = {"bundle": bundles.reference(bundle), "task": json.dumps(task)}
    return Job(bundle.feature_space, bundle.dim, training.method, task, arrays, gather(start), notes)


def require_agreed(training: Training, up: str, where: str) -> None:
    """Raise ConfigInvalid, with both, unless the method and the codec upwards are both of statistics, or neither."""
    if (training.method == ClosedForm.name) != (up in FORMS):
        raise ConfigInvalid(
            f"{where}: task.method is {training.method!r} and codec.up {up!r}; the method {ClosedForm.name!r} goes "
            f"with one of {', '.join(FORMS)}, any other with a codec of deltas"
        )


def understand(task: Mapping[str, Any], arrays: bytes) -> Task:
    """Return the task that an aggregator sent.

    raises     TaskUnknown if this version of fedmq cannot do it
    """
    try:
        training = _TRAINING.validate_python(task["training"])
        tensors = load(arrays)
        labels = json.loads(tensors["labels"].tobytes())
        return Task(training, tuple(labels), float(task["logit_scale"]), tensors["text"])
    except (KeyError, TypeError, ValueError, ValidationError, SafetensorError) as error:
        raise TaskUnknown(f"the aggregator's task is not understood here: {error}; upgrade this node") from error


def require_same(task: Task, schema: Schema) -> None:
    """Raise TaskUnknown, with both, unless this node's method has the names and shapes of the federation's params."""
    how = method(task.training.method)
    own = Schema.of(version_0(how, task.text, task.logit_scale, np.random.default_rng(0)))
    if own != schema:
        raise TaskUnknown(f"the federation's {task.training.method} has {schema}; here it has {own}; upgrade the older")


def methods() -> tuple[str, ...]:
    """Return the methods that this node knows."""
    return tuple(METHODS)
