"""Trainings ahead of their time: in processes of this machine, in the order in which they are due, a few at once.

What a local run gives depends on its arguments alone, so it does not matter when it is done, nor where. In processes
and not in threads: a run is hundreds of short calls of torch, each of which wants the interpreter back, and threads
have one map of memory, in which all their arrays come and go (lab notes). No more are begun than there are slots: each
holds as much as the params, and a thousand of them would be 2 GB.
"""

import heapq
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection

from fedmq.effects import Train
from fedmq_bench.processes import hear, hear_all, processes
from fedmq_bench.scenario import slots as at_work
from fedmq_bench.scenario.host import Work
from fedmq_bench.scenario.slots import Done, Errand, Failed, Learner, Slots, Spent, work
from fedmq_nodes.results import Trained
from fedmq_nodes.task import Task

TUNABLES = "GLIBC_TUNABLES"
FORK = get_context("forkserver")
# Where C's library is glibc: what is freed is kept, or arrays of a megabyte would be mapped anew in every training; and
# pages are large, or the processor would look most of their addresses up in tables (lab notes).
MALLOC = {"mmap_threshold": 1 << 30, "trim_threshold": 1 << 32, "hugetlb": 1}
AHEAD = 2  # trainings begun per process: one is computed, and the next one is there


@dataclass
class _Begun:
    """A training that a process was given; it is not wanted any more if its node died."""

    pipe: Connection
    slot: int
    is_wanted: bool = True
    said: Done | Failed | None = None


@dataclass(order=True)
class _Planned:
    due_at: float
    number: int
    learner: Learner = field(compare=False)
    train: Train = field(compare=False)
    begun: _Begun | None = field(default=None, compare=False)


class Ahead:
    """Trainings planned and begun.

    pipes     to the processes, which do what they are given one after the other
    slots     one more than are begun ahead of time, for what is asked for now
    """

    def __init__(self, pipes: Sequence[Connection], slots: Slots, many: int) -> None:
        self._slots, self._free, self._order = slots, deque(range(many)), count()
        self._given: dict[Connection, deque[_Begun]] = {pipe: deque() for pipe in pipes}
        self._waiting: list[_Planned] = []
        self._begun: list[_Planned] = []
        self._spent: dict[int, Spent] = {}

    @property
    def spent(self) -> Spent:
        """What all processes together have spent, as far as they have told: each does so whenever it is done."""
        each = self._spent.values()
        return Spent(len(each), sum(one.cpu_s for one in each), sum(one.peak_rss_bytes for one in each))

    def plan(self, learner: Learner, train: Train, due_at: float) -> Work:
        """Take note of a training that will be asked for then, unless its process dies; return what asks for it."""
        one = _Planned(due_at, next(self._order), learner, train)
        heapq.heappush(self._waiting, one)
        return lambda: self._result(one)

    def _result(self, one: _Planned) -> Trained:
        """Return what came of a training, and begin the next ones; what was due before and not asked for is dropped.

        raises     RuntimeError if a training failed, or its process has ended
        """
        for pipe, given in self._given.items():
            while given and pipe.poll():
                self._hear(pipe)
        for other in self._begun:
            if other < one:
                self._drop(other)
        self._begun = [other for other in self._begun if other > one]
        begun = one.begun or self._begin(one)
        while self._waiting and len(self._free) > 1:
            other = heapq.heappop(self._waiting)
            if other > one:
                self._begin(other)
                self._begun.append(other)
        while begun.said is None:
            self._hear(begun.pipe)
        one.begun = None
        return self._taken(one, begun.slot, begun.said)

    def _taken(self, one: _Planned, slot: int, said: Done | Failed) -> Trained:
        params, personal = self._slots.take(slot)
        self._free.append(slot)
        if isinstance(said, Failed):
            error = RuntimeError(f"a training from version {one.train.version} failed: {said.error}")
            error.add_note(said.trace)
            raise error
        return Trained(one.train.version, params, len(one.learner.examples), said.steps, said.loss, personal=personal)

    def _begin(self, one: _Planned) -> _Begun:
        pipe = min(self._given, key=lambda pipe: len(self._given[pipe]))
        while not self._free:  # until something that was dropped is done
            self._hear(max(self._given, key=lambda pipe: len(self._given[pipe])))
        one.begun = _Begun(pipe, self._free.popleft())
        self._given[pipe].append(one.begun)
        errand = self._slots.put(one.begun.slot, one.learner, one.train)
        _tell(pipe, errand)
        return one.begun

    def _drop(self, one: _Planned) -> None:
        assert one.begun is not None
        begun, one.begun = one.begun, None
        begun.is_wanted = False
        if begun.said is not None:
            self._free.append(begun.slot)

    def _hear(self, pipe: Connection) -> None:
        """Wait for what a process says next."""
        said = hear(pipe)
        begun = self._given[pipe].popleft()
        begun.said = said
        if isinstance(said, Done):
            self._spent[said.process] = said.spent
        if not begun.is_wanted:
            self._free.append(begun.slot)


@contextmanager
def training(many: int, task: Task, most: int) -> Iterator[Ahead | None]:
    """Yield what has so many processes train, once these are ready; they end with it, or soon after this process.

    Yield None for a task whose nodes keep a state from one training to the next, which is where it is.

    most     examples of a node
    """
    if task.training.moon or task.pool is not None:
        yield None
        return
    room = AHEAD * many + 1
    slots = Slots(room, task, most)
    # Loaded once for all; the first optimizer would load torch's compiler.
    FORK.set_forkserver_preload([at_work.__name__, "torch._dynamo"])
    with ExitStack() as stack:
        with _tuned():
            pipes = stack.enter_context(processes(many, work, task.training, slots, context=FORK))
        hear_all(pipes)
        yield Ahead(pipes, slots, room)
        for pipe in pipes:
            _tell(pipe, None)


@contextmanager
def _tuned() -> Iterator[None]:
    """Have Pythons that are started meanwhile treat memory as MALLOC says: they read it once, when they begin."""
    before = os.environ.get(TUNABLES)
    os.environ[TUNABLES] = ":".join(f"glibc.malloc.{name}={value}" for name, value in MALLOC.items())
    try:
        yield
    finally:
        if before is None:
            del os.environ[TUNABLES]
        else:
            os.environ[TUNABLES] = before


def _tell(pipe: Connection, what: Errand | None) -> None:
    """Tell a process; whether it has ended is heard of where its answer is awaited."""
    with suppress(BrokenPipeError, ConnectionResetError):
        pipe.send(what)
