"""The task: what a federation learns, as the aggregator sends it and as a node understands it.

The runtime carries it without looking inside. It names the method and how to train, and brings the classes and their
text features, so that all nodes classify against the same ones whatever bundle they hold.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedmq.delta import Params, Schema, gather
from fedmq.errors import ConfigInvalid
from fedmq.plan import CAVEAT, STAYS, Job
from fedmq.stats.forms import FORMS
from fedmq_models import bundle as bundles
from fedmq_models.bundle import Bundle
from fedmq_models.head import Head
from fedmq_models.method import Method
from fedmq_models.methods import METHODS, Adapting, method, version_0
from fedmq_models.methods.closed_form import ClosedForm
from fedmq_models.sharing import shared
from fedmq_models.training import Training
from fedmq_nodes.errors import StateUnusable, TaskUnknown
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

    @property
    def how(self) -> Method:
        """The method."""
        return method(self.training.method)

    def begin(self, seed: int) -> dict[str, NDArray[np.float32]]:
        """Return all params as they begin."""
        return version_0(self.how, self.text, self.logit_scale, np.random.default_rng(seed))

    @cached_property
    def fresh(self) -> dict[str, NDArray[np.float32]]:
        """All params as they begin on a node: the same on every one."""
        return self.begin(0)

    def parted(self, params: Mapping[str, NDArray[np.float32]]) -> tuple[Params, Params | None]:
        """Return what travels of these params, and what stays: None is nothing."""
        travels = shared(self.how, self.training.share, params)
        stays = {name: value for name, value in params.items() if name not in travels}
        return gather({name: params[name] for name in travels}), gather(stays) if stays else None

    def whole(self, version: Params, personal: Params | None) -> dict[str, NDArray[np.float32]]:
        """Return all params in the method's order: a version, and a node's own part, or how that begins."""
        own = {} if personal is None else personal.named()
        return self.fresh | version.named() | own


def job(bundle: Bundle, training: Training, seed: int = 0, pool: NDArray[np.float16] | None = None) -> Job:
    """Return what the aggregator needs to know: what must agree, the task to send, and version 0.

    pool     what `fedmq_nodes.pool.published` gives of this training
    """
    whole = Task(training, bundle.labels, bundle.logit_scale, bundle.text)
    start, _ = whole.parted(whole.begin(seed))
    task = {"training": asdict(travelling(training)), "logit_scale": bundle.logit_scale}
    # The labels travel as bytes among the arrays: there may be more of them than an envelope holds.
    labels = np.frombuffer(json.dumps(bundle.labels).encode(), dtype=np.uint8)
    tensors: dict[str, NDArray[Any]] = {"text": bundle.text, "labels": labels}
    if pool is not None:
        tensors["target"] = pool
    notes = {"bundle": bundles.reference(bundle), "task": json.dumps(task), STAYS: staying(whole)}
    if training.target.transductive:
        notes[CAVEAT] = TRANSDUCTIVE
    return Job(bundle.feature_space, bundle.dim, training.method, task, save(tensors), start, notes)


def staying(task: Task) -> str:
    """Return, in words, what each node keeps to itself of what it learns; empty is nothing."""
    _, own = task.parted(task.fresh)
    kept = [] if own is None else [str(own.schema)]
    if isinstance(task.how, Adapting) and task.how.keeps:
        kept.append(task.how.keeps)
    if task.training.moon:
        kept.append("the model of its last run")
    return ", ".join(kept)


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
        pool = tensors["target"].astype(np.float32) if isinstance(method(training.method), Adapting) else None
        return Task(training, tuple(labels), float(task["logit_scale"]), tensors["text"], pool)
    except (KeyError, TypeError, ValueError, ValidationError, SafetensorError) as error:
        raise TaskUnknown(f"the aggregator's task is not understood here: {error}; upgrade this node") from error


def require_same(task: Task, schema: Schema, personal: Params | None = None) -> None:
    """Raise TaskUnknown, with both, unless this node's method has the names and shapes of the federation's params.

    personal     what this node has kept of its own, whose names and shapes must be the method's too: StateUnusable
    """
    travels, stays = task.parted(task.fresh)
    if travels.schema != schema:
        name = task.training.method
        raise TaskUnknown(f"the federation's {name} has {schema}; here it has {travels.schema}; upgrade the older")
    if personal is not None and (stays is None or stays.schema != personal.schema):
        wanted = "nothing" if stays is None else stays.schema
        raise StateUnusable(f"this node has kept {personal.schema}, the task keeps {wanted}; give it another --state")


def methods(trains: bool = True) -> tuple[str, ...]:
    """Return the methods that this node can do; without torch it trains none, and a head that is solved needs none."""
    able = not trains or find_spec("torch") is not None
    return tuple(name for name, how in METHODS.items() if able or how.head is Head.SOLVED)
