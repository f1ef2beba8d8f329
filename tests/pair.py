"""An aggregator and its nodes in memory, under a virtual clock, with training that is a formula."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from fedmq.aggregator import Aggregator
from fedmq.core import Event
from fedmq.delta import Arrays, Params, Schema
from fedmq.effects import Cancel, Done, Effect, Evaluate, Keep, Prepare, Remember, Train
from fedmq.errors import NotKept
from fedmq.journal import Entry, UpdateEntry, VersionEntry
from fedmq.ledger import Ledger
from fedmq.past import Past
from fedmq.plan import Job, Settings
from fedmq.simulate import Carry, Simulation, instantly
from fedmq_nodes.greeting import Introduction
from fedmq_nodes.node import Evaluated, Node, Trained

SCHEMA = Schema((("weight", (3, 4)), ("bias", (3,))))
SPACE = "a" * 64


def params(value: float = 0.0, schema: Schema = SCHEMA) -> Params:
    return Params(Arrays(schema, np.full(schema.size, value, np.float32)))


def job(start: Params | None = None) -> Job:
    return Job(SPACE, 4, "fedclip", {"method": "fedclip"}, b"", start or params())


def introduction(name: str, federation: str = "test") -> Introduction:
    return Introduction(federation, name, SPACE, 4, ("fedclip",))


@dataclass
class Worker:
    """How a simulated node works: it takes `prepare_s`, then moves every param by `step` in `train_s`, each time."""

    step: float = 1.0
    train_s: float = 1.0
    examples: int = 10
    tests: int = 0
    prepare_s: float = 0.0


@dataclass
class Fleet:
    """One federation in memory. `kept` is what a ledger would hold; with an `origin` the link broadcasts."""

    settings: Settings
    workers: dict[str, Worker]
    carry: Carry = instantly
    seed: int = 0
    start: Params = field(default_factory=params)
    kept: list[Entry] = field(default_factory=list)
    done: dict[str, Done] = field(default_factory=dict)
    keep_s: float = 0.0
    ledger: Ledger | None = None
    origin: int = 0

    def __post_init__(self) -> None:
        self.simulation = Simulation(self.seed, self.carry)
        self.nodes: dict[str, Node] = {}
        self.sessions = 0
        self.start_aggregator(Past.none(self.start))
        for name in self.workers:
            self.start_node(name)

    def start_aggregator(self, past: Past) -> None:
        rng = np.random.default_rng(self.seed)
        self.origin += bool(self.origin)
        self.aggregator = Aggregator(self.settings, job(self.start), past, rng, self.simulation.now, self.origin)
        self.simulation.add("aggregator", self.aggregator, self._keep)

    def start_node(self, name: str) -> Node:
        self.sessions += 1
        node = Node(introduction(name), self.sessions, np.random.default_rng(self.sessions), self.simulation.now)
        self.nodes[name] = node
        self.simulation.add(name, node, lambda effect, now: self._work(name, node, effect))
        return node

    def run(self, until_s: float = 1000.0, stop: Callable[[], bool] = lambda: False) -> None:
        self.simulation.run(until_s, stop)

    def versions(self) -> list[VersionEntry]:
        return [entry for entry in self.kept if isinstance(entry, VersionEntry)]

    def updates(self) -> list[UpdateEntry]:
        return [entry for entry in self.kept if isinstance(entry, UpdateEntry)]

    def _keep(self, effect: Effect, now: float) -> Iterable[tuple[float, Event]]:
        aggregator = self.aggregator
        if isinstance(effect, Keep):
            batch = effect

            def kept(now: float) -> list[Effect]:
                if self.ledger is not None:
                    try:
                        self.ledger.keep(batch.entries, now)
                    except NotKept as error:
                        return aggregator.unkept(batch.number, str(error), now)
                self.kept.extend(batch.entries)
                return aggregator.kept(batch.number, now)

            return [(self.keep_s, kept)]
        assert isinstance(effect, Done)
        self.done["aggregator"] = effect
        return []

    def _work(self, name: str, node: Node, effect: Effect) -> Iterable[tuple[float, Event]]:
        worker = self.workers[name]
        match effect:
            case Prepare():
                return [(worker.prepare_s, lambda now: node.prepared(worker.examples, worker.tests, now))]
            case Train(version, before):
                after = Params(Arrays(before.schema, before.flat + np.float32(worker.step)))
                result = Trained(version, after, worker.examples, 1, 0.5, worker.train_s)
                return [(worker.train_s, lambda now: node.trained(result, now))]
            case Evaluate(version):
                right = min(worker.tests, version or 0)
                return [(0.0, lambda now: node.evaluated(Evaluated(version, worker.tests, right, 0.0), now))]
            case Remember(memory):
                return [(0.0, lambda now: node.remembered(memory, now))]
            case Done():
                self.done[name] = effect
            case Cancel():
                pass
        return []


def train(node: Node, result: Trained, now: float) -> list[Effect]:
    """Tell a node that training is done and, at once, that this is remembered."""
    effects = node.trained(result, now)
    memories = [effect.memory for effect in effects if isinstance(effect, Remember)]
    return effects + [effect for memory in memories for effect in node.remembered(memory, now)]
