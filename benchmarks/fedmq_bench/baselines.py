"""Baselines: what a method reaches on the domains of a file of features, beside what needs no federation.

A node per domain, each domain held out in turn, sync rounds of real cores in memory. Two rows learn nothing from
anybody: `zero-shot` is the frozen model, and in `local` every node trains by itself from the same start, for as many
epochs, and sends nothing. What is told is of the last version, not of the best: nothing is chosen on test data.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import numpy as np

from fedmq import config
from fedmq.errors import ConfigInvalid
from fedmq.journal import ReportEntry
from fedmq.plan import Codecs, Settings
from fedmq.rounds import PRESETS
from fedmq_bench.harness import Say
from fedmq_bench.virtual import Virtual
from fedmq_models.bundle import Bundle
from fedmq_models.methods import METHODS, Adapting
from fedmq_models.training import Training
from fedmq_nodes import pool
from fedmq_nodes.files import Choice
from fedmq_nodes.results import Evaluated
from fedmq_nodes.sources import Data, FeatureFile, Split
from fedmq_nodes.task import Task
from fedmq_nodes.trainer import Trainer

ZERO_SHOT, LOCAL = "zero-shot", "local"


@dataclass(frozen=True)
class Place:
    """Where the data is.

    by     the column whose values are the nodes
    """

    features: Path
    by: str
    bundle: Bundle

    def names(self) -> list[str]:
        """Return the nodes."""
        with np.load(self.features, allow_pickle=False) as file:
            if self.by not in file:
                raise ConfigInvalid(f"{self.features} has no column {self.by!r}; it has {', '.join(file)}")
            return sorted(map(str, set(file[self.by].tolist())))

    def load(self, name: str, train: bool = True) -> Data:
        """Return one node's examples."""
        source = FeatureFile(self.features, self.bundle, Choice({self.by: name}))
        return source.load(self.bundle.labels, Split(train=train), lambda _done, _total: None)


def trainings(methods: str, overrides: Sequence[str]) -> dict[str, Training]:
    """Return how each way of learning trains, by its name."""
    table: dict[str, Any] = {}
    config.override(table, overrides)
    if unknown := set(table) - {"task"}:
        raise ConfigInvalid(f"--set {min(unknown)}: only keys of task can be set here")
    ways = [way.strip() for way in methods.split(",")]
    learned = {way: "linear" if way in (ZERO_SHOT, LOCAL) else way for way in ways}
    return {
        way: config.parse(Training, _meant(name, table.get("task", {})), "--set", "task.")
        for way, name in learned.items()
    }


def _meant(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's table for one method: a target domain is for those alone that adapt to one."""
    adapts = isinstance(METHODS.get(name), Adapting)
    return {**{key: value for key, value in table.items() if adapts or key != "target"}, "method": name}


def measure(
    place: Place, trainings: Mapping[str, Training], versions: int, seeds: Sequence[int], codec: str, say: Say
) -> Iterator[dict[str, Any]]:
    """Yield one row per way to learn, seed and held-out node.

    trainings     by name; `zero-shot` and `local` are no tasks of a federation
    """
    names = place.names()
    for seed in seeds:
        for held_out in names:
            data = {name: place.load(name, train=name != held_out) for name in names}
            for way, training in trainings.items():
                say(f"{way}, seed {seed}, {held_out} held out")
                task = _task(place, training, data.values())
                started = perf_counter()
                if way in (ZERO_SHOT, LOCAL):
                    found, traffic = alone(task, data, versions if way == LOCAL else 0, seed), 0
                else:
                    found, traffic = together(task, data, versions, seed, codec)
                yield {
                    "case": "baselines",
                    "dataset": place.features.stem,
                    "encoder": place.bundle.name,
                    "method": way,
                    "split": held_out,
                    **figures(found, held_out),
                    "transductive": training.target.transductive,
                    "bytes_total": traffic,
                    "rounds": 0 if way == ZERO_SHOT else versions,
                    "seconds": perf_counter() - started,
                    "seeds": [seed],
                }


def _task(place: Place, training: Training, data: Iterable[Data]) -> Task:
    """Return the task, with the pool that the method adapts to; raise TargetLeaks if a node is tested on it."""
    drawn = pool.published(training, place.bundle)
    target = None if drawn is None else drawn.astype(np.float32)
    for one in data:
        pool.require_apart(target, training.target, one.test)
    return Task(training, place.bundle.labels, place.bundle.logit_scale, place.bundle.text, target)


def together(
    task: Task, data: Mapping[str, Data], versions: int, seed: int, codec: str
) -> tuple[dict[str, Evaluated | ReportEntry], int]:
    """Return what each node measures of the last version, and the bytes of all frames up and down."""
    settings = Settings("baselines", rounds=PRESETS["sync"], codec=Codecs(codec, "fp32"))
    fleet = Virtual(task, data, settings, seed)
    fleet.run(versions)
    traffic = fleet.aggregator.traffic
    return {**fleet.reports(versions)}, traffic.up_application + traffic.down_application


def alone(task: Task, data: Mapping[str, Data], runs: int, seed: int) -> dict[str, Evaluated | ReportEntry]:
    """Return what each node measures after so many local runs of its own, each from where the one before ended."""
    found: dict[str, Evaluated | ReportEntry] = {}
    for at, (name, one) in enumerate(sorted(data.items())):
        trainer = Trainer(task, one, seed + at)
        params, personal = task.parted(task.fresh)
        for version in range(runs if len(one.train) else 0):
            trained = trainer.train(version, params, personal)
            params, personal = trained.params, trained.personal
        has_own = runs > 0 and len(one.train) > 0
        whole = trainer.evaluate(runs, params, personal) if has_own else trainer.evaluate(None, None)
        # All of it is its own, whatever the task would share.
        best = whole.correct if whole.personal is None else whole.personal
        found[name] = replace(whole, correct=best, personal=best if has_own else None)
    return found


def figures(found: Mapping[str, Evaluated | ReportEntry], held_out: str) -> dict[str, float | None]:
    """Return mean accuracies: on all of the held-out node's examples, and on the participants' own test splits.

    personal       with each one's own part; None where there is none
    worst_node     the lowest of the participants', personal where there is that
    """
    shared = {name: one.correct / one.examples for name, one in found.items()}
    takes_part = [name for name in found if name != held_out]
    own = {name: found[name].personal for name in takes_part}
    personal = {name: count / found[name].examples for name, count in own.items() if count is not None}
    return {
        "held_out": shared[held_out],
        "participants": fmean(shared[name] for name in takes_part),
        "personal": fmean(personal.values()) if personal else None,
        "worst_node": min(personal.get(name, shared[name]) for name in takes_part),
    }
