"""Trainings ahead of their time: in threads, in the order in which they are due, a few at once.

What a local run gives depends on its arguments alone, so it does not matter when it is done. PyTorch lets go of the
interpreter while it computes, so as many cores work as there are threads. No more are begun than will soon be asked
for: each result is as large as the params, and a thousand of them would be 2 GB.
"""

import heapq
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count

from fedmq_nodes.results import Trained

Work = Callable[[], Trained]
AHEAD = 2  # trainings begun per thread


@dataclass(order=True)
class _Planned:
    due_at: float
    number: int
    work: Work = field(compare=False)
    future: Future[Trained] | None = field(default=None, compare=False)


class Ahead:
    """Trainings under way.

    prepare     called in each thread before its first
    """

    def __init__(self, threads: int, prepare: Callable[[], None]) -> None:
        self._pool = ThreadPoolExecutor(threads, initializer=prepare)
        self._most, self._order = AHEAD * threads, count()
        self._waiting: list[_Planned] = []
        self._begun: list[_Planned] = []

    def plan(self, due_at: float, work: Work) -> Work:
        """Take note of a training that will be asked for then, unless its process dies; return what asks for it."""
        one = _Planned(due_at, next(self._order), work)
        heapq.heappush(self._waiting, one)
        return lambda: self._result(one)

    def _result(self, one: _Planned) -> Trained:
        """Return what came of a training, and begin the next ones; what was due before and not asked for is dropped."""
        found = self._begin(one)
        self._begun = [other for other in self._begun if other > one]
        while self._waiting and len(self._begun) < self._most:
            other = heapq.heappop(self._waiting)
            if other > one:
                self._begin(other)
                self._begun.append(other)
        return found.result()

    def _begin(self, one: _Planned) -> Future[Trained]:
        if one.future is None:
            one.future = self._pool.submit(one.work)
        return one.future
