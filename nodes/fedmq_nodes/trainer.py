"""The trainer: step 1 of the walk. Adapter and cached features in, params out; and how good a version is on this node.

A method may have a part that stays here. It is trained with the rest, and handed in and out beside it. The terms of the
loss are made once, and whatever state they have is here. It is called in a thread of its own, one call at a time.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fedmq.delta import Params
from fedmq.seeds import seed
from fedmq.stats.forms import FORMS, Form
from fedmq.stats.layout import Layout, count
from fedmq_models import classifier
from fedmq_models.examples import Examples
from fedmq_models.methods import logits
from fedmq_models.terms import Term
from fedmq_models.training import advance, terms_of, warm_up
from fedmq_nodes.results import Counted, Evaluated, Trained
from fedmq_nodes.sources import Data
from fedmq_nodes.task import Task

SMALLEST = np.finfo(np.float32).tiny


class Trainer:
    """One task on one node's data."""

    def __init__(self, task: Task, data: Data, seed: int, up: str = "") -> None:
        self._task, self._data, self._seed, self._form = task, data, seed, FORMS.get(up)
        self._terms: list[Term] | None = None

    def use(self, data: Data) -> None:
        """Train and measure on these data from now on."""
        self._data = data

    def warm_up(self, threads: int) -> None:
        """Have ready what the first training would have to wait for, and train with so many cores from now on."""
        if len(self._data.train) and self._form is None:
            warm_up(self._task.training, threads)

    def learn(
        self, version: int, params: Params, personal: Params | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Trained | Counted:
        """Do what is asked for: count, where that is statistics, or train."""
        if self._form is not None:
            return self._count(version, self._form)
        return self.train(version, params, personal, stop)

    def train(
        self, version: int, params: Params, personal: Params | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Trained:
        """Train one local run from these params; the order of the examples depends on seed and version alone.

        personal     this node's own part; None begins it
        stop         asked before each step, from the thread that trains
        """
        whole = {name: value.copy() for name, value in self._task.whole(params, personal).items()}
        steps, loss = self.advance(version, whole, stop)
        travels, stays = self._task.parted(whole)
        return Trained(version, travels, len(self._data.train), steps, loss, personal=stays)

    def advance(
        self, version: int, params: Mapping[str, NDArray[np.float32]], stop: Callable[[], bool] = lambda: False
    ) -> tuple[int, float]:
        """Train one local run where these params lie, all of the method's; return the steps and their mean loss."""
        task = self._task
        if self._terms is None:  # made here, where torch is loaded, and kept until the process ends
            self._terms = terms_of(task.training, task.pool, self._seed)
        return advance(
            task.training,
            params,
            self._data.train,
            task.text,
            task.logit_scale,
            seed=seed(self._seed, version),
            stop=stop,
            terms=self._terms,
        )

    def _count(self, version: int, form: Form) -> Counted:
        examples, layout = self._data.train, Layout(*self._task.text.shape)
        found = count(((examples.batch(chosen), examples.labels[chosen]) for chosen in examples.chunks()), layout)
        return Counted(version, form.pack(found), found.examples)

    def evaluate(self, version: int | None, params: Params | None, personal: Params | None = None) -> Evaluated:
        """Classify the test split with these params, or with the frozen model alone.

        What is measured first is what all share, as a node has it that has just joined; then, if this node has a part
        of its own, its personal model.
        """
        test = self._data.test
        if params is None:
            return Evaluated(version, len(test), *evaluate(self._task, test, None))
        correct, loss = evaluate(self._task, test, self._task.whole(params, None))
        own = None if personal is None else evaluate(self._task, test, self._task.whole(params, personal))[0]
        return Evaluated(version, len(test), correct, loss, own)


def evaluate(task: Task, examples: Examples, params: Mapping[str, NDArray[np.float32]] | None) -> tuple[int, float]:
    """Return how many examples are classified right, and the mean cross-entropy."""
    correct, loss = 0, 0.0
    for chosen in examples.chunks():
        features, labels = examples.batch(chosen), examples.labels[chosen]
        if params is None:
            found = classifier.logits(features, task.text, task.logit_scale)
        else:
            found = logits(task.how, params, features, task.text, task.logit_scale)
        correct += int((found.argmax(axis=1) == labels).sum())
        shares = classifier.probabilities(found)[np.arange(len(labels)), labels]
        loss -= float(np.log(np.maximum(shares, SMALLEST)).sum())
    return correct, loss / max(1, len(examples))
