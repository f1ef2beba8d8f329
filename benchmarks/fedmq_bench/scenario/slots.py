"""Slots: memory through which a process has trainings done by others. Params and examples go there, params come back.

Only what is small goes through a pipe: which slot, and how it went. A pipe holds 64 KiB, and who writes more into it
waits until the other end has the time to read.
"""

import ctypes
import resource
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawArray
from os import getpid
from time import process_time
from traceback import format_exc
from typing import Any

import numpy as np

from fedmq.delta import Arrays, Params
from fedmq.effects import Train
from fedmq_models.examples import Examples
from fedmq_models.training import Training, warm_up
from fedmq_nodes import lifeline
from fedmq_nodes.sources import Data
from fedmq_nodes.task import Task
from fedmq_nodes.trainer import Trainer

READY = "ready"


@dataclass(frozen=True)
class Learner:
    """What a node trains on, and the seed of its draws."""

    examples: Examples
    seed: int


@dataclass(frozen=True)
class Errand:
    """A training to be done with what is in a slot."""

    slot: int
    version: int
    examples: int
    seed: int


@dataclass(frozen=True)
class Spent:
    """What processes have spent on trainings, and the most memory that they had; what they share counts in each."""

    processes: int = 0
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0


@dataclass(frozen=True)
class Done:
    """How a training went, and what its process has spent until then."""

    steps: int
    loss: float
    process: int
    spent: Spent


@dataclass(frozen=True)
class Failed:
    """What a training raised, and where."""

    error: str
    trace: str


class Slots:
    """As many as are asked for, each for one training of a task.

    most     examples of a node
    """

    def __init__(self, many: int, task: Task, most: int) -> None:
        travels, self._begins = task.parted(task.fresh)
        self._task, self._travels = task, travels.schema
        stays = 0 if self._begins is None else self._begins.schema.size
        form = [("params", "f4", travels.schema.size), ("personal", "f4", stays), ("labels", "i8", most)]
        self._form = np.dtype([*form, ("features", "f4", (most, task.text.shape[1]))], align=True)
        self._memory = RawArray(ctypes.c_byte, many * self._form.itemsize)

    def put(self, slot: int, learner: Learner, train: Train) -> Errand:
        """Put what a training takes into a slot, and return what to tell of it."""
        many, into = len(learner.examples), self._slot(slot)
        into["labels"][:many] = learner.examples.labels
        into["features"][:many] = learner.examples.batch(slice(None))
        into["params"][:] = train.params.flat
        if self._begins is not None:
            into["personal"][:] = (train.personal or self._begins).flat
        return Errand(slot, train.version, many, learner.seed)

    def take(self, slot: int) -> tuple[Params, Params | None]:
        """Return a copy of the params in a slot, and of those that stay on their node."""
        params, personal = self._params(self._slot(slot))
        return _copied(params), None if personal is None else _copied(personal)

    def train(self, errand: Errand) -> Done:
        """Train with what is in a slot, where it lies."""
        found = self._slot(errand.slot)
        labels, features = found["labels"][: errand.examples], found["features"][: errand.examples]
        own = Examples(features, np.arange(errand.examples), labels)
        trainer = Trainer(self._task, Data(own, own), errand.seed)
        steps, loss = trainer.advance(errand.version, self._task.whole(*self._params(found)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return Done(steps, loss, getpid(), Spent(1, process_time(), peak))

    def _slot(self, slot: int) -> Any:
        """Return views of what is in a slot, by name."""
        return np.ctypeslib.as_array(self._memory).view(self._form)[slot]

    def _params(self, found: Any) -> tuple[Params, Params | None]:
        stays = None if self._begins is None else Params(Arrays(self._begins.schema, found["personal"]))
        return Params(Arrays(self._travels, found["params"])), stays


def _copied(params: Params) -> Params:
    return Params(Arrays(params.schema, params.flat.copy()))


def work(pipe: Connection, _number: int, training: Training, slots: Slots) -> None:
    """Train in this process whatever is asked for, until nothing more is or the one that asks has ended."""
    lifeline.hold_worker()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever interrupts a command interrupts all of its processes
    warm_up(training, threads=1)
    pipe.send(READY)
    while (errand := pipe.recv()) is not None:
        said: Done | Failed
        try:
            said = slots.train(errand)
        except Exception as error:  # noqa: BLE001 - it is raised again by whoever asked
            said = Failed(f"{type(error).__name__}: {error}", format_exc())
        pipe.send(said)
