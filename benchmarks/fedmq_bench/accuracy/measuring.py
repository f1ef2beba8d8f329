"""Measuring: every way in every fold with every seed, a row each, but for those that there are already."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from fedmq.errors import ConfigInvalid
from fedmq_bench import machine
from fedmq_bench.accuracy import corpora, folds
from fedmq_bench.accuracy.corpora import Corpus
from fedmq_bench.accuracy.folds import Fold
from fedmq_bench.accuracy.results import reach
from fedmq_bench.accuracy.ways import ZERO_SHOT, Way
from fedmq_bench.harness import Say

DOMAINS, DIRICHLET = "domains", "dirichlet"
SPLITS = (DOMAINS, DIRICHLET)
KEYS = ("dataset", "split", "alpha", "nodes", "method", "fold", "rounds_run", "set", "transductive", "seeds")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    data           a corpus's name, or a file
    ways           by name
    alpha, nodes   of a Dirichlet split
    overrides      of all tasks, as they were given
    done           keys of rows that there are already
    """

    data: str
    ways: Mapping[str, Way]
    split: str = DOMAINS
    alpha: float = 0.3
    nodes: int = 20
    seeds: int = 3
    overrides: Sequence[str] = ()
    transductive: bool = False
    done: set[str] = field(default_factory=set)

    def covers(self, row: Row) -> bool:
        """Whether a row is of these data, split in this way."""
        alpha = self.alpha if self.split == DIRICHLET else None
        return (row["dataset"], row["split"], row["alpha"]) == (Path(self.data).stem, self.split, alpha)


def measure(plan: Plan, say: Say) -> Iterator[dict[str, Any]]:
    """Yield a row per way, fold and seed.

    raises     ConfigInvalid, before anything is measured, for ways that these data are not for
    """
    corpus = corpora.load(plan.data, say)
    require_fit(plan, corpus)
    with machine.one_thread():
        for seed in range(plan.seeds):
            for fold in _folds(plan, corpus, seed):
                for name, way in plan.ways.items():
                    about = _about(plan, corpus, fold, seed, name, way)
                    if key(about) in plan.done:
                        continue
                    say(f"{name} on {corpus.name}, {plan.split}, {fold.name} held out, seed {seed}")
                    began = perf_counter()
                    found = reach(name, way, corpus, fold, seed, plan.transductive, say).row()
                    yield {**about, **found, "seconds": perf_counter() - began}


def key(row: Row) -> str:
    """Return what tells a row from others: what was measured, not what was found."""
    return repr([row[name] for name in KEYS])


def require_fit(plan: Plan, corpus: Corpus) -> None:
    """Raise ConfigInvalid for a way that these data are not for."""
    for name, way in plan.ways.items():
        if way.needs_text and not corpus.has_text:
            raise ConfigInvalid(f"--method {name} needs the text of every class, {corpus.name} lacks some")
        if way.adapts and len(set(corpus.groups.tolist())) < 2:
            raise ConfigInvalid(f"--method {name} adapts to a domain that is held out, {corpus.name} has none")


def _folds(plan: Plan, corpus: Corpus, seed: int) -> Iterator[Fold]:
    if plan.split == DOMAINS:
        return folds.domains(corpus, seed)
    return folds.dirichlet(corpus, plan.nodes, plan.alpha, seed)


def _about(plan: Plan, corpus: Corpus, fold: Fold, seed: int, name: str, way: Way) -> dict[str, Any]:
    return {
        "case": "accuracy",
        "dataset": corpus.name,
        "encoder": corpus.encoder,
        "stand_in": corpus.stand_in,
        "method": name,
        "split": plan.split,
        "alpha": plan.alpha if plan.split == DIRICHLET else None,
        "nodes": len(fold.nodes),
        "fold": fold.name,
        "up": way.up,
        "rounds_run": 0 if name == ZERO_SHOT else way.rounds,
        "set": list(plan.overrides),
        "transductive": plan.transductive and way.adapts,
        "seeds": [seed],
    }
