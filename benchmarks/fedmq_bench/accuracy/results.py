"""Results: what one way reached in one fold."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from fedmq.delta import Params
from fedmq.stats.settings import Statistics
from fedmq_bench.accuracy import closed, plain, ways
from fedmq_bench.accuracy.corpora import Corpus
from fedmq_bench.accuracy.folds import Fold
from fedmq_bench.accuracy.watched import Watched, tester, trained_on
from fedmq_bench.accuracy.ways import CLIP_BYTES, Way
from fedmq_bench.harness import Say
from fedmq_models.examples import Examples
from fedmq_models.head import solved
from fedmq_nodes.sources import Data
from fedmq_nodes.task import Task
from fedmq_nodes.trainer import Trainer

POOL_ROWS = 256  # of the domain held out, for ways that adapt to it; they are tested on the others


@dataclass(frozen=True)
class Node:
    """Shares of one node's test split that are classified right; None where there is no such model."""

    zero_shot: float
    shared: float | None = None
    personal: float | None = None

    @property
    def offered(self) -> float | None:
        """By the best that the way has for this node: its own model, or the one that all share."""
        return self.shared if self.personal is None else self.personal


@dataclass(frozen=True)
class Reached:
    """What a way reached.

    validation       what it was chosen by: accuracy, or for a head in closed form the sum of two; None without a choice
    bytes_up         payload of one node, until the version that was taken
    bytes_total      of all frames of all nodes until then, both directions
    chosen           the settings that were chosen
    """

    nodes: Mapping[str, Node]
    held_out: float | None
    rounds: int
    validation: float | None = None
    bytes_up: float = 0.0
    bytes_total: float = 0.0
    chosen: Mapping[str, Any] | None = None

    def row(self) -> dict[str, Any]:
        """Return the figures of a row: means over nodes, the worst of them, and who ends below zero-shot."""
        offered = {name: node.offered for name, node in self.nodes.items()}
        known = {name: value for name, value in offered.items() if value is not None}
        return {
            "held_out": self.held_out,
            "participants": _mean([node.shared for node in self.nodes.values()]),
            "personal": _mean([node.personal for node in self.nodes.values()]),
            "worst_node": min(known.values(), default=None),
            "zero_shot": _mean([node.zero_shot for node in self.nodes.values()]),
            "failing": [name for name, value in known.items() if value < self.nodes[name].zero_shot],
            "bytes_up": self.bytes_up,
            "bytes_total": self.bytes_total,
            "rounds": self.rounds,
            "validation": self.validation,
            "chosen": self.chosen or {},
            "per_node": {
                name: [node.zero_shot, node.shared, node.personal] for name, node in sorted(self.nodes.items())
            },
        }


def reach(name: str, way: Way, corpus: Corpus, fold: Fold, seed: int, transductive: bool, say: Say) -> Reached:
    """Return what a way reaches in a fold."""
    fold, task = task_of(way, corpus, fold, seed, transductive)
    match name:
        case ways.ZERO_SHOT:
            return Reached(
                {name: Node(value, value) for name, value in _frozen(task, fold).items()}, _outside(task, fold), 0
            )
        case ways.LOCAL:
            return _alone(task, way, fold, seed)
        case ways.PLAIN:
            return _plain(task, way, fold, seed)
        case ways.FULL:
            each = way.rounds * CLIP_BYTES
            nodes = {name: Node(value) for name, value in _frozen(task, fold).items()}
            return Reached(nodes, None, way.rounds, None, each, 2 * each * len(nodes))
    return _together(task, way, fold, seed, say)


def task_of(way: Way, corpus: Corpus, fold: Fold, seed: int, transductive: bool) -> tuple[Fold, Task]:
    """Return the task, and the fold without what the aggregator has published of the domain held out."""
    training, pool = way.training, None
    if way.adapts:
        assert fold.held_out is not None
        order = np.random.default_rng(seed).permutation(len(fold.held_out))
        taken = np.isin(np.arange(len(order)), order[: len(order) // 2 if len(order) < 2 * POOL_ROWS else POOL_ROWS])
        if transductive:
            pool = fold.held_out.batch(slice(None))
        else:
            pool, fold = (
                fold.held_out.where(taken).batch(slice(None)),
                replace(fold, held_out=fold.held_out.where(~taken)),
            )
        training = replace(training, target=replace(training.target, transductive=transductive))
    return fold, Task(training, corpus.labels, corpus.logit_scale, corpus.text, pool)


def _together(task: Task, way: Way, fold: Fold, seed: int, say: Say) -> Reached:
    """Federate with every candidate, and take the version that is best on validation data."""
    if way.head is not None:
        return _solved(task, way, way.head, fold, seed, say)
    runs = (
        (training, Watched(replace(task, training=training), fold, way.settings(), seed, way.rounds, say))
        for training in (replace(each, target=task.training.target) for each in way.candidates())
    )
    training, fleet = max(runs, key=lambda run: run[1].taken.score)
    found = fleet.tests()
    nodes = {
        name: Node(zero, found[name].correct / found[name].examples, _share(found[name].personal, found[name].examples))
        for name, zero in _frozen(task, fold).items()
    }
    return _counted(fleet, nodes, fleet.taken.score, {"lr": training.lr} if way.lrs else {})


def _solved(task: Task, way: Way, head: Statistics, fold: Fold, seed: int, say: Say) -> Reached:
    """Federate once, with the settings that validation data have chosen; heads of a node's own take no traffic."""
    beginning, _ = task.parted(task.begin(seed))
    score, settings = closed.chosen(head, way.up, beginning, fold) if way.searches else (None, head)
    fleet = Watched(task, fold, way.settings(settings), seed, 1, say)
    params = fleet.versions()[-1].params.named()
    nodes, tests = {}, fleet.tests()
    for name, zero in _frozen(task, fold).items():
        shares, found = fold.nodes[name], tests[name]
        own = None
        if head.head in ("ridge", "even"):
            logits = solved(shares.own.head(params), shares.test.batch(slice(None)))
            own = float((logits.argmax(axis=1) == shares.test.labels).mean())
        nodes[name] = Node(zero, found.correct / found.examples, own)
    chosen = {"penalty": settings.penalty, "text_weight": settings.text_weight} if way.searches else {}
    return _counted(fleet, nodes, score, chosen)


def _counted(fleet: Watched, nodes: Mapping[str, Node], score: float | None, chosen: Mapping[str, Any]) -> Reached:
    version = fleet.taken.version
    traffic = fleet.traffic[version]
    up, total = traffic.up_goodput / len(nodes), traffic.up_application + traffic.down_application
    return Reached(nodes, fleet.elsewhere(), version, score, up, total, chosen)


def _alone(task: Task, way: Way, fold: Fold, seed: int) -> Reached:
    """Have every node train by itself, and choose its own learning rate and number of epochs."""
    zero, found = _frozen(task, fold), list[_Lone]()
    nodes, outside = {}, []
    for at, (name, data) in enumerate(sorted(trained_on(fold).items())):
        best = max(
            (
                lone
                for training in way.candidates()
                for lone in _epochs(replace(task, training=training), way, data, seed + at)
            ),
            key=lambda lone: lone.score,
        )
        nodes[name] = Node(zero[name], None, _learned(task, best, fold.nodes[name].test))
        found.append(best)
        if fold.held_out is not None:
            outside.append(_learned(task, best, fold.held_out))
    return Reached(nodes, _mean(outside), max(lone.epochs for lone in found), fmean(lone.score for lone in found))


@dataclass(frozen=True)
class _Lone:
    """Where a node was after so many epochs by itself, and what it reached on its validation data."""

    score: float
    epochs: int
    params: Params


def _epochs(task: Task, way: Way, data: Data, seed: int) -> Iterator[_Lone]:
    trainer = Trainer(task, data, seed)
    params, personal = task.parted(task.fresh)
    for version in range(way.rounds):
        params = trainer.train(version, params, personal).params
        yield _Lone(trainer.evaluate(version + 1, params).correct / len(data.test), version + 1, params)


def _learned(task: Task, lone: _Lone, examples: Examples) -> float:
    return tester(task, examples).evaluate(lone.epochs, lone.params).correct / len(examples)


def _plain(task: Task, way: Way, fold: Fold, seed: int) -> Reached:
    """Run the published loop, and take the round that is best on validation data, as its authors do."""
    import torch

    def tensors(examples: Examples) -> "tuple[torch.Tensor, torch.Tensor]":
        return torch.from_numpy(examples.batch(slice(None))), torch.from_numpy(examples.labels)

    text = torch.from_numpy(task.text)
    best, taken, right = -1.0, 0, dict[str, float]()
    held_out: float | None = None
    loop = plain.rounds([tensors(shares.train) for shares in fold.nodes.values()], text, way.rounds, seed)
    for number, common in enumerate(loop, 1):
        if number % way.every:
            continue
        score = fmean(plain.accuracy(common, *tensors(shares.validation), text) for shares in fold.nodes.values())
        if score > best:
            right = {name: plain.accuracy(common, *tensors(shares.test), text) for name, shares in fold.nodes.items()}
            held_out = None if fold.held_out is None else plain.accuracy(common, *tensors(fold.held_out), text)
            best, taken = score, number
    nodes = {name: Node(zero, right[name]) for name, zero in _frozen(task, fold).items()}
    return Reached(nodes, held_out, taken, best)


def _frozen(task: Task, fold: Fold) -> dict[str, float]:
    """Return what the frozen model reaches on each node's test split."""
    return {name: _right(task, shares.test) for name, shares in fold.nodes.items()}


def _outside(task: Task, fold: Fold) -> float | None:
    return None if fold.held_out is None else _right(task, fold.held_out)


def _right(task: Task, examples: Examples) -> float:
    return tester(task, examples).evaluate(None, None).correct / len(examples)


def _share(count: int | None, examples: int) -> float | None:
    return None if count is None else count / examples


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
