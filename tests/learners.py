"""A federation in memory whose nodes really train, under a virtual clock; every frame that anyone sends is kept."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedmq import codec
from fedmq.aggregator import Aggregator
from fedmq.codec import Frame
from fedmq.core import Event
from fedmq.delta import Schema
from fedmq.effects import Effect, Evaluate, Keep, Prepare, Remember, Train
from fedmq.journal import Entry, ReportEntry, UpdateEntry, VersionEntry
from fedmq.memory import Memory
from fedmq.messages import Message
from fedmq.past import Past
from fedmq.plan import Codecs, Job, Settings, Stop
from fedmq.simulate import Simulation
from fedmq_models import classifier
from fedmq_models.examples import Examples
from fedmq_models.training import Training
from fedmq_nodes import task as tasks
from fedmq_nodes.greeting import Introduction
from fedmq_nodes.node import Node
from fedmq_nodes.sources import Data
from fedmq_nodes.task import Task
from fedmq_nodes.trainer import Trainer

DIM, CLASSES, SCALE, SPACE = 8, 3, 20.0, "a" * 64
EXACT = Settings("school", codec=Codecs("fp32", "fp32"))


def text() -> NDArray[np.float32]:
    return classifier.normalised(np.random.default_rng(1).standard_normal((CLASSES, DIM)))


def domain(count: int, seed: int, turn: float, swap: Sequence[int] = (0, 1, 2)) -> Examples:
    """Features around the text of their class, all of them turned by a rotation that is the node's own.

    turn     how far; at 0 not at all, at 1 about as far as it goes
    swap     what this node calls the classes
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    rotation, triangle = np.linalg.qr((1 - turn) * np.eye(DIM) + turn * rng.standard_normal((DIM, DIM)))
    rotation *= np.sign(np.diag(triangle))
    values = (3 * text()[labels] + rng.normal(0, 0.6, (count, DIM))) @ rotation
    return Examples(values.astype(np.float32), np.arange(count), np.asarray(swap)[labels])


def halves(examples: Examples) -> Data:
    even = np.arange(len(examples)) % 2 == 0
    return Data(examples.where(even), examples.where(~even))


def job(task: Task) -> Job:
    start, _ = task.parted(task.fresh)
    return Job(SPACE, DIM, task.training.method, {"labels": CLASSES}, b"", start)


@dataclass
class School:
    """One federation of these nodes.

    memories     what a node's disk holds; a node that is started is handed what is there
    kept         what a ledger would hold
    """

    training: Training
    data: Mapping[str, Data]
    settings: Settings = EXACT
    memories: dict[str, Memory] = field(default_factory=dict)
    kept: list[Entry] = field(default_factory=list)
    frames: list[tuple[str, Frame]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.task = Task(self.training, ("a", "b", "c"), SCALE, text())
        self.settings = replace(self.settings, start_nodes=len(self.data))
        self.simulation = Simulation(0, self._carry)
        self.nodes: dict[str, Node] = {}
        past = Past.none(job(self.task).params)
        self.aggregator = Aggregator(
            self.settings, job(self.task), replace(past, run="one"), np.random.default_rng(0), 0.0
        )
        self.simulation.add("aggregator", self.aggregator, self._keep)
        for name in self.data:
            self.start(name)

    def start(self, name: str, session: int = 1) -> Node:
        who = Introduction("school", name, SPACE, DIM, tasks.methods())
        node = Node(who, session, np.random.default_rng(session), self.simulation.now, self.memories.get(name))
        trainer = Trainer(self.task, self.data[name], seed=len(name))
        self.nodes[name] = node
        self.simulation.add(name, node, lambda effect, _now: self._work(name, node, trainer, effect))
        return node

    def run(self, versions: int) -> "School":
        """Go on until there are so many versions and nodes have said how good the last is."""
        self.simulation.run(10_000.0, lambda: len(self.reports(versions)) == len(self.data))
        return self

    def versions(self) -> list[VersionEntry]:
        return [entry for entry in self.kept if isinstance(entry, VersionEntry)]

    def updates(self) -> list[UpdateEntry]:
        return [entry for entry in self.kept if isinstance(entry, UpdateEntry)]

    def reports(self, version: int) -> dict[str, ReportEntry]:
        reports = (entry for entry in self.kept if isinstance(entry, ReportEntry))
        return {entry.node: entry for entry in reports if entry.version == version}

    def said(self) -> list[Message]:
        return [codec.decode(frame) for _, frame in self.frames]

    def _carry(self, sender: str, _receiver: str, frame: Frame, _rng: Generator) -> Iterable[float]:
        self.frames.append((sender, frame))
        return (0.01,)

    def _keep(self, effect: Effect, _now: float) -> Iterable[tuple[float, Event]]:
        assert isinstance(effect, Keep)
        self.kept.extend(effect.entries)
        return [(0.0, lambda now: self.aggregator.kept(effect.number, now))]

    def _work(self, name: str, node: Node, trainer: Trainer, effect: Effect) -> Iterable[tuple[float, Event]]:
        match effect:
            case Prepare(schema=schema):
                tasks.require_same(self.task, Schema(schema.entries), node.personal)
                sizes = len(self.data[name].train), len(self.data[name].test)
                return [(0.1, lambda now: node.prepared(*sizes, now))]
            case Train(version, params, personal):
                trained = trainer.train(version, params, personal)
                return [(1.0, lambda now: node.trained(trained, now))]
            case Evaluate(version, params, personal):
                evaluated = trainer.evaluate(version, params, personal)
                return [(0.1, lambda now: node.evaluated(evaluated, now))]
            case Remember(memory):
                self.memories[name] = memory
                return [(0.0, lambda now: node.remembered(memory, now))]
        return []


def stopping(versions: int) -> Settings:
    return replace(EXACT, stop=Stop(versions=versions))
