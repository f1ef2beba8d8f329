"""Joining: a node's shell. It reads the clock, awaits the link, and has a thread that encodes, trains and evaluates.

A second thread writes the node's memory: an update waits for that before it is sent, and training must not hold it up.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from numpy.random import Generator

from fedmq import observe
from fedmq.core import Event
from fedmq.drive import Drive
from fedmq.effects import Cancel, Done, Effect, Evaluate, Log, Prepare, Remember, Train
from fedmq.seeds import seed
from fedmq.transports import Link
from fedmq_nodes import pool, task
from fedmq_nodes.arrivals import Arrivals
from fedmq_nodes.asking import until_permitted
from fedmq_nodes.ear import Ear, Facts
from fedmq_nodes.greeting import Introduction
from fedmq_nodes.node import Node
from fedmq_nodes.permit import Permit
from fedmq_nodes.sources import Data, Progress, Source, Split
from fedmq_nodes.state import State
from fedmq_nodes.task import Task
from fedmq_nodes.trainer import Trainer

Result = TypeVar("Result")


@dataclass(frozen=True)
class Pace:
    """How fast a device pretends to be: training takes at least examples / examples_per_s; 0 is as fast as it can."""

    examples_per_s: float = 0.0

    def least_s(self, examples: int) -> float:
        """Return how long training on so many examples takes at least."""
        return examples / self.examples_per_s if self.examples_per_s else 0.0


class Cancellation:
    """A wish to stop, which a thread may ask for and a coroutine may wait for."""

    def __init__(self) -> None:
        self._asked, self._event = threading.Event(), asyncio.Event()

    def set(self) -> None:
        """Wish it; from the loop's thread."""
        self._asked.set()
        self._event.set()

    def is_set(self) -> bool:
        """Whether it is wished."""
        return self._asked.is_set()

    async def wait(self) -> None:
        """Wait until it is."""
        await self._event.wait()


class Shell:
    """One node, its link, its data, and the thread that works on them.

    state     where its memory is kept; None keeps it no longer than this process lives
    ear       who measures it
    permit    when it may train
    arrivals_s   how often to look for new data, before a local run; 0 never
    trainer   makes what trains here, of a task, data, a seed and the codec of updates
    """

    def __init__(
        self,
        who: Introduction,
        source: Source,
        split: Split,
        pace: Pace,
        threads: int,
        rng: Generator,
        progress: Progress = lambda _done, _total: None,
        state: State | None = None,
        ear: Ear | None = None,
        permit: Permit | None = None,
        arrivals_s: float = 0.0,
        trainer: Callable[[Task, Data, int, str], Trainer] = Trainer,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._source, self._split, self._pace, self._progress = source, split, pace, progress
        self._threads, self._permit, self._arrivals_s = threads, permit or Permit(), arrivals_s
        self._arrivals = Arrivals(None, 0.0, 0.0)
        self._load: Callable[[], Awaitable[Data]] | None = None
        self._log, self._ear, self._hire = observe.logger(node=who.name), ear or Ear(), trainer
        self._seed = seed(who.federation, who.name)
        self._trainer: Trainer | None = None
        self._leaving = threading.Event()
        self._cancelled = Cancellation()
        self._failure: Exception | None = None
        self._thread = ThreadPoolExecutor(1, "work")
        self._state, self._memory_thread = state, ThreadPoolExecutor(1, "memory")
        memory = None if state is None else state.memory
        self.node = Node(who, int(rng.integers(1, 2**63)), rng, self._loop.time(), memory)

    async def run(self, link: Link, stop: asyncio.Event) -> Done:
        """Work until the federation has finished, or refuses, or `stop` is set.

        raises     what was wrong with this node's data, bundle or device, after telling the aggregator
        """
        node = self.node
        self._ear.begin(lambda: Facts(node.version, node.activity, node.connected, node.outbox is not None))
        drive = Drive(self.node, link, self._perform, self._logged, stopped=lambda: self.node.leave("leaving"))
        try:
            done = await drive.run(stop)
        finally:
            self._leaving.set()
            self._cancelled.set()
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._memory_thread.shutdown(wait=True)
        if self._failure is not None:
            raise self._failure
        return done

    def _perform(self, effect: Effect) -> Awaitable[Event] | None:
        match effect:
            case Prepare():
                return self._prepare(effect)
            case Train():
                self._cancelled = Cancellation()
                return self._train(effect, self._cancelled)
            case Evaluate():
                return self._evaluate(effect)
            case Remember():
                return self._remember(effect)
            case Cancel():
                self._cancelled.set()
        return None

    async def _prepare(self, effect: Prepare) -> Event:
        try:
            wanted = task.understand(effect.task, effect.arrays)
            task.require_same(wanted, effect.schema, self.node.personal)
            # What comes while this is loading is found when it is looked at again.
            self._arrivals = await self._in_thread(Arrivals, self._source, self._arrivals_s, self._loop.time())
            self._load = partial(self._loaded, wanted)
            data = await self._load()
            trainer = self._hire(wanted, data, self._seed, effect.up)
            await self._in_thread(trainer.warm_up, self._threads)
        except Exception as error:
            if not hasattr(error, "exit_code"):
                raise
            self._failure = error
            reason, text = getattr(error, "reason", "failed"), str(error)
            return lambda _now: self.node.leave(reason, text, refused=True)
        self._trainer = trainer
        return partial(self.node.prepared, len(data.train), len(data.test))

    async def _train(self, effect: Train, cancelled: Cancellation) -> Event:
        assert self._trainer is not None
        await until_permitted(self._permit, cancelled.wait, self._log)
        ready = await self._arrived(self._trainer)
        started = self._loop.time()
        result = await self._in_thread(
            self._trainer.learn, effect.version, effect.params, effect.personal, cancelled.is_set
        )
        left_s = self._pace.least_s(result.examples) - (self._loop.time() - started)
        if left_s > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(cancelled.wait(), left_s)
        took_s = self._loop.time() - started
        self._ear.trained(took_s)
        done = replace(result, train_s=took_s)
        return lambda now: [*([] if ready is None else ready(now)), *self.node.trained(done, now)]

    async def _loaded(self, wanted: task.Task) -> Data:
        started = self._loop.time()
        data = await self._in_thread(self._source.load, wanted.labels, self._split, self._report)
        self._ear.prepared(data, self._loop.time() - started)
        pool.require_apart(wanted.pool, wanted.training.target, data.test)
        self._tell(data)
        return data

    async def _arrived(self, trainer: Trainer) -> Event | None:
        """Look for new data, if it is time to; have the trainer use them, and return what the core is told of them."""
        now = self._loop.time()
        if self._load is None or not self._arrivals.due(now) or not await self._in_thread(self._arrivals.look, now):
            return None
        try:
            data = await self._load()
        except Exception as error:
            if not hasattr(error, "exit_code"):
                raise
            # What was there before is still in the cache: a folder that is being moved must not end the node.
            self._log(Log("warning", "data.unusable", {"text": str(error)}))
            return None
        trainer.use(data)
        return partial(self.node.prepared, len(data.train), len(data.test))

    async def _evaluate(self, effect: Evaluate) -> Event:
        assert self._trainer is not None
        started = self._loop.time()
        result = await self._in_thread(self._trainer.evaluate, effect.version, effect.params, effect.personal)
        self._ear.evaluated(self._loop.time() - started)
        return partial(self.node.evaluated, result)

    async def _remember(self, effect: Remember) -> Event:
        if self._state is not None:
            # Shielded, because a node that leaves at once must still be remembered as it was then.
            await asyncio.shield(
                self._loop.run_in_executor(self._memory_thread, self._state.write, effect.memory),
            )
        return partial(self.node.remembered, effect.memory)

    def _in_thread(self, work: Callable[..., Result], *values: object) -> Awaitable[Result]:
        return self._loop.run_in_executor(self._thread, work, *values)

    def _report(self, done: int, total: int) -> None:
        """Called in the thread that encodes; raises there when the node is leaving, to finish early."""
        if self._leaving.is_set():
            raise CancelledError
        self.node.progress = (done, total)
        self._ear.encoding(done)
        self._progress(done, total)

    def _logged(self, log: Log) -> None:
        self._log(log)
        self._ear.logged(log)

    def _tell(self, data: Data) -> None:
        for path, why in data.skipped.items():
            self._log(Log("warning", "image.skipped", {"path": path, "reason": why}))
        for name, count in data.unknown.items():
            self._log(Log("warning", "class.unknown", {"label": name, "images": count}))
        facts = {"train": len(data.train), "test": len(data.test), "encoded": data.encoded}
        self._log(Log("info", "data.ready", {**facts, "skipped": len(data.skipped), "encoder": data.encoder}))
