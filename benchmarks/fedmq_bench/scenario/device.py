"""A device: the process of one node in real time. Shell, core, link and state are those of `fedmq join`.

What it has beside is what its plan says of it: how long a training takes at least, whether the process dies before
one, what it sends in place of what it has learned, and how far its clock is off. It comes with features, and is told
when to begin; everything that takes long, above all torch, is behind it then.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from fedmq import observe
from fedmq.delta import Params
from fedmq.plan import Job
from fedmq_bench.scenario.attacks import forged, turned
from fedmq_bench.scenario.fleet import Member, Phase
from fedmq_bench.scenario.host import unlearned
from fedmq_models.examples import Examples
from fedmq_models.training import warm_up
from fedmq_nodes import lifeline, links, state
from fedmq_nodes import task as tasks
from fedmq_nodes.greeting import Introduction
from fedmq_nodes.join import Pace, Shell
from fedmq_nodes.options import NodeOptions
from fedmq_nodes.results import Trained
from fedmq_nodes.sources import Data, Progress, Split
from fedmq_nodes.task import Task
from fedmq_nodes.trainer import Trainer
from fedmq_nodes.wiring import until_interrupted

READY = "ready"


@dataclass(frozen=True)
class Role:
    """What the process of one node is to be.

    address     that its link has in fact
    data        None: it only seems to train, and is only as slow as if it did
    folder      of its state; its log lies beside it
    """

    member: Member
    federation: str
    job: Job
    address: str
    data: Data | None
    folder: Path

    @property
    def log(self) -> Path:
        """Where it says what happens to it."""
        return self.folder / f"{self.member.name}.log"


@dataclass(frozen=True)
class Begin:
    """Begin now; so many trainings were begun by processes before this one. `number` is which process it is."""

    trainings: int
    number: int


def live(pipe: Connection, role: Role) -> None:
    """Be this node, once told to `Begin`. The pipe is told READY, and then the number of each training as it begins."""
    lifeline.hold_worker()
    with role.log.open("a", encoding="utf-8") as log:
        observe.configure("info", log)
        if role.data is not None:
            warm_up(tasks.understand(role.job.task, role.job.arrays).training, 1)
        pipe.send(READY)
        begin = pipe.recv()
        with asyncio.Runner(loop_factory=lambda: OwnTime(role.member)) as runner:
            runner.run(_take_part(role, begin, pipe.send))


class OwnTime(asyncio.SelectorEventLoop):
    """A loop whose clock is off as that of its device is."""

    def __init__(self, member: Member) -> None:
        self._ahead_s, self._drift = member.ahead_s, member.drift
        super().__init__()

    def time(self) -> float:
        """Return what the clock of the device reads."""
        return self._ahead_s + super().time() * (1.0 + self._drift)


@dataclass(frozen=True)
class Held:
    """Features that were handed over."""

    data: Data

    def load(self, labels: object, split: Split, progress: Progress) -> Data:
        """Return them."""
        return self.data


@dataclass
class Rehearsed:
    """Trains as the plan has it.

    tell        told the number of each training as it begins
    least_s     how long the one takes that began last
    """

    role: Role
    trainings: int
    tell: Callable[[int], None]
    least_s: float = 0.0

    def trainer(self, task: Task, data: Data, _seed: int, up: str) -> "PlannedTrainer":
        """Return what the shell trains with."""
        attack = self.role.member.attack
        if attack is not None:
            data = replace(data, train=turned(attack, data.train, len(task.labels)))
        return PlannedTrainer(self, task, data, up)

    def begin(self) -> int:
        """Return the number of the training that begins now, unless the process dies before it."""
        index, member = self.trainings, self.role.member
        self.trainings += 1
        self.tell(index)
        if member.drops(Phase.BEFORE_TRAINING, index):
            os.kill(os.getpid(), signal.SIGKILL)
        self.least_s = member.train_s(index)
        return index


@dataclass(frozen=True)
class PlannedPace(Pace):
    """As long as the plan says."""

    rehearsed: Rehearsed | None = None

    def least_s(self, examples: int) -> float:
        """Return how long the training takes at least that began last."""
        return 0.0 if self.rehearsed is None else self.rehearsed.least_s


class PlannedTrainer(Trainer):
    """A trainer that does what the plan says beside."""

    def __init__(self, rehearsed: Rehearsed, task: Task, data: Data, up: str) -> None:
        super().__init__(task, data, rehearsed.role.member.training_seed, up)
        self._rehearsed = rehearsed

    def warm_up(self, threads: int) -> None:
        """Load torch only where it is needed."""
        if self._rehearsed.role.data is not None:
            super().warm_up(threads)

    def learn(
        self, version: int, params: Params, personal: Params | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Trained:
        """Train, or seem to."""
        role, index = self._rehearsed.role, self._rehearsed.begin()
        member = role.member
        if role.data is None:
            found = unlearned(version, params, member.examples)
        else:
            found = self.train(version, params, personal, stop)
        if member.attack is not None:
            found = forged(member.attack, params, found, member.draws.rng(member.name, "attack", index))
        return found


def _nothing(member: Member, dim: int) -> Data:
    """Return as many examples as it has, and nothing in them."""
    rows = np.zeros(member.examples, np.int64)
    train = Examples(np.zeros((1, dim), np.float32), rows, rows)
    return Data(train, train.where(rows > 0))


async def _take_part(role: Role, begin: Begin, tell: Callable[[int], None]) -> None:
    member, job = role.member, role.job
    who = Introduction(role.federation, member.name, job.feature_space, job.dim, (job.method,))
    rehearsed = Rehearsed(role, begin.trainings, tell)
    rng = member.draws.rng(member.name, "process", begin.number)
    held = state.opened(role.folder, member.name, role.federation, job.feature_space, observe.logger(node=member.name))
    with until_interrupted() as stop, held as kept:
        link = links.link(role.address, role.federation, NodeOptions(member.name, features=role.folder), False, rng)
        try:
            source, split = Held(role.data or _nothing(member, job.dim)), Split()
            shell = Shell(
                who, source, split, PlannedPace(rehearsed=rehearsed), 1, rng, state=kept, trainer=rehearsed.trainer
            )
            await shell.run(link, stop)
        finally:
            await link.close()
