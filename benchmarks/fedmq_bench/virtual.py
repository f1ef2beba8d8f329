"""A federation in memory: real cores and real training, under a virtual clock. Accuracy and bytes are those of a fleet.

What it does not have is a disk, a link that loses anything, and time: a training takes a second whatever it takes.
Payloads of updates are not kept: there may be thousands.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.random import Generator

from fedmq.aggregator import Aggregator
from fedmq.codec import Frame
from fedmq.core import Event
from fedmq.effects import Effect, Evaluate, Keep, Prepare, Remember, Train
from fedmq.journal import Entry, ReportEntry, Traffic, UpdateEntry, VersionEntry
from fedmq.memory import Memory
from fedmq.past import Past
from fedmq.plan import Job, Settings
from fedmq.simulate import Simulation
from fedmq_nodes import task as tasks
from fedmq_nodes.greeting import Introduction
from fedmq_nodes.node import Node
from fedmq_nodes.results import Evaluated
from fedmq_nodes.sources import Data
from fedmq_nodes.task import Task
from fedmq_nodes.trainer import Trainer

SPACE, TRAIN_S, LINK_S = "virtual", 1.0, 0.01
FOREVER_S = 1e9


@dataclass
class Virtual:
    """One federation of these nodes, of which those without examples to train on only evaluate.

    memories     what a node's disk would hold; a node that is started is handed what is there
    kept         what a ledger would hold, without payloads
    traffic      bytes until every node held a version, of all nodes
    hear         told every frame, and who sent it
    """

    task: Task
    data: Mapping[str, Data]
    settings: Settings
    seed: int = 0
    memories: dict[str, Memory] = field(default_factory=dict)
    kept: list[Entry] = field(default_factory=list)
    traffic: dict[int, Traffic] = field(default_factory=dict)
    hear: Callable[[str, Frame], None] = lambda _sender, _frame: None

    def __post_init__(self) -> None:
        self.settings = replace(self.settings, start_nodes=sum(len(data.train) > 0 for data in self.data.values()))
        start, _ = self.task.parted(self.task.begin(self.seed))
        job = Job(SPACE, self.task.text.shape[1], self.task.training.method, {}, b"", start)
        past, rng = replace(Past.none(start), run="one"), np.random.default_rng(self.seed)
        self.simulation = Simulation(self.seed, self._carry)
        self._reports: dict[int | None, dict[str, ReportEntry]] = {}
        self.nodes: dict[str, Node] = {}
        self.aggregator = Aggregator(self.settings, job, past, rng, 0.0)
        self.simulation.add("aggregator", self.aggregator, self._keep)
        for name in self.data:
            self.start(name)

    def start(self, name: str, session: int = 1) -> Node:
        """Start a node's process."""
        who = Introduction(self.settings.federation, name, SPACE, self.task.text.shape[1], tasks.methods())
        node = Node(who, session, np.random.default_rng(session), self.simulation.now, self.memories.get(name))
        number = sorted(self.data).index(name)
        trainer = Trainer(self.task, self.data[name], self.seed + number, self.settings.codec.up)
        self.nodes[name] = node
        self.simulation.add(name, node, lambda effect, _now: self._work(name, node, trainer, effect))
        return node

    def run(self, versions: int) -> Self:
        """Go on until there are so many versions and every node that can test has said how good the last is."""
        testing = sum(len(data.test) > 0 for data in self.data.values())
        self.simulation.run(FOREVER_S, lambda: len(self.reports(versions)) == testing)
        return self

    def versions(self) -> list[VersionEntry]:
        """Return the commits."""
        return [entry for entry in self.kept if isinstance(entry, VersionEntry)]

    def updates(self) -> list[UpdateEntry]:
        """Return every update that was judged."""
        return [entry for entry in self.kept if isinstance(entry, UpdateEntry)]

    def reports(self, version: int | None) -> dict[str, ReportEntry]:
        """Return per node how good a version is there; None is the frozen model."""
        return self._reports.get(version, {})

    def evaluate(self, name: str, trainer: Trainer, effect: Evaluate) -> Evaluated:
        """Return what a node finds of a version that it has come to hold."""
        return trainer.evaluate(effect.version, effect.params, effect.personal)

    def _carry(self, sender: str, _receiver: str, frame: Frame, _rng: Generator) -> Iterable[float]:
        self.hear(sender, frame)
        return (LINK_S,)

    def _keep(self, effect: Effect, _now: float) -> Iterable[tuple[float, Event]]:
        if not isinstance(effect, Keep):
            return []
        for entry in effect.entries:
            match entry:
                case UpdateEntry():
                    self.kept.append(replace(entry, update=replace(entry.update, payload=b"")))
                case ReportEntry():
                    self._reports.setdefault(entry.version, {})[entry.node] = entry
                case _:
                    self.kept.append(entry)
        return [(0.0, lambda now: self.aggregator.kept(effect.number, now))]

    def _work(self, name: str, node: Node, trainer: Trainer, effect: Effect) -> Iterable[tuple[float, Event]]:
        match effect:
            case Prepare(schema=schema):
                tasks.require_same(self.task, schema, node.personal)
                sizes = len(self.data[name].train), len(self.data[name].test)
                return [(LINK_S, lambda now: node.prepared(*sizes, now))]
            case Train(version, params, personal):
                trained = trainer.learn(version, params, personal)
                return [(TRAIN_S, lambda now: node.trained(trained, now))]
            case Evaluate(version):
                if version is not None:
                    self.traffic[version] = replace(self.aggregator.traffic)  # the last node to hold it has it right
                evaluated = self.evaluate(name, trainer, effect)
                return [(LINK_S, lambda now: node.evaluated(evaluated, now))]
            case Remember(memory):
                self.memories[name] = memory
                return [(0.0, lambda now: node.remembered(memory, now))]
        return []
