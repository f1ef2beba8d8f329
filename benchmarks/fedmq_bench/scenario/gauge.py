"""The gauge: how good a version is, measured beside the federation, on the test examples of all nodes in one pass.

Nodes that evaluate every version would send reports and lose time that no policy asks for, and a fleet of a thousand
would measure the same examples of a domain a thousand times. So nodes report nothing, and a version is measured when it
is due: after so many accepted updates, whatever the policy, so that all are looked at equally often per update.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmq.delta import Params
from fedmq_bench.scenario.data import Dealt
from fedmq_models import classifier
from fedmq_models.examples import CHUNK
from fedmq_models.methods import logits
from fedmq_nodes.task import Task


@dataclass(frozen=True)
class Quality:
    """Shares of test examples that are classified right.

    accuracy      of all
    worst         mean over the worst tenth of the nodes, at least one
    stragglers    of theirs alone
    """

    accuracy: float
    worst: float
    stragglers: float


class Gauge:
    """Everyone's test examples, laid side by side."""

    def __init__(self, task: Task, dealt: Mapping[str, Dealt], stragglers: Sequence[str]) -> None:
        tests = {name: one.data.test for name, one in dealt.items()}
        self._task = task
        self._features = np.concatenate([test.batch(slice(None)) for test in tests.values()])
        self._labels = np.concatenate([test.labels for test in tests.values()])
        self._owners = np.repeat(np.arange(len(tests)), [len(test) for test in tests.values()])
        self._slow = np.isin(np.array(list(tests)), stragglers)

    def zero_shot(self) -> Quality:
        """Measure the frozen model alone."""
        return self._quality(classifier.logits(self._features, self._task.text, self._task.logit_scale))

    def measure(self, params: Params) -> Quality:
        """Measure a version."""
        whole, task = self._task.whole(params, None), self._task
        parts = [self._features[at : at + CHUNK] for at in range(0, len(self._features), CHUNK)]
        found = [logits(task.how, whole, part, task.text, task.logit_scale) for part in parts]
        return self._quality(np.concatenate(found))

    def _quality(self, found: NDArray[np.float32]) -> Quality:
        right = found.argmax(axis=1) == self._labels
        counts = np.bincount(self._owners, minlength=len(self._slow))
        rights = np.bincount(self._owners, weights=right, minlength=len(self._slow))
        tested = counts > 0
        shares = np.sort(rights[tested] / counts[tested])
        slow = counts[self._slow].sum()
        return Quality(
            float(right.mean()),
            float(shares[: max(1, len(shares) // 10)].mean()),
            float(rights[self._slow].sum() / slow) if slow else float("nan"),
        )
