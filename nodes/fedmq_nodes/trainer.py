"""The trainer: step 1 of the walk. Adapter and cached features in, params out; and how good a version is on this node.

It is called in a thread of its own, one call at a time.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fedmq.delta import Params, gather
from fedmq.seeds import seed
from fedmq.stats.forms import FORMS, Form
from fedmq.stats.layout import Layout, count
from fedmq_models import classifier
from fedmq_models.examples import Examples
from fedmq_models.methods import logits, method
from fedmq_models.training import fit
from fedmq_nodes.results import Counted, Evaluated, Trained
from fedmq_nodes.sources import Data
from fedmq_nodes.task import Task

SMALLEST = np.finfo(np.float32).tiny


class Trainer:
    """One task on one node's data."""

    def __init__(self, task: Task, data: Data, seed: int, up: str = "") -> None:
        self._task, self._data, self._seed, self._form = task, data, seed, FORMS.get(up)

    def train(self, version: int, params: Params, stop: Callable[[], bool] = lambda: False) -> Trained | Counted:
        """Train one local run from these params; the order of the examples depends on seed and version alone.

        Where statistics are asked for, count instead.

        stop     asked before each step, from the thread that trains
        """
        if self._form is not None:
            return self._count(version, self._form)
        run = fit(
            self._task.training,
            params.named(),
            self._data.train,
            self._task.text,
            self._task.logit_scale,
            seed=seed(self._seed, version),
            stop=stop,
        )
        return Trained(version, gather(run.params), len(self._data.train), run.steps, run.loss)

    def _count(self, version: int, form: Form) -> Counted:
        examples, layout = self._data.train, Layout(*self._task.text.shape)
        found = count(((examples.batch(chosen), examples.labels[chosen]) for chosen in examples.chunks()), layout)
        return Counted(version, form.pack(found), found.examples)

    def evaluate(self, version: int | None, params: Params | None) -> Evaluated:
        """Classify the test split with these params, or with the frozen model alone."""
        correct, loss = evaluate(self._task, self._data.test, None if params is None else params.named())
        return Evaluated(version, len(self._data.test), correct, loss)


def evaluate(task: Task, examples: Examples, params: Mapping[str, NDArray[np.float32]] | None) -> tuple[int, float]:
    """Return how many examples are classified right, and the mean cross-entropy."""
    how = method(task.training.method)
    correct, loss = 0, 0.0
    for chosen in examples.chunks():
        features, labels = examples.batch(chosen), examples.labels[chosen]
        if params is None:
            found = classifier.logits(features, task.text, task.logit_scale)
        else:
            found = logits(how, params, features, task.text, task.logit_scale)
        correct += int((found.argmax(axis=1) == labels).sum())
        shares = classifier.probabilities(found)[np.arange(len(labels)), labels]
        loss -= float(np.log(np.maximum(shares, SMALLEST)).sum())
    return correct, loss / max(1, len(examples))
