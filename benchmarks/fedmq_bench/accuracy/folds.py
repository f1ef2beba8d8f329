"""Folds: who has which examples, and what of them is for training, for choosing and for the end.

`domains` makes a node of each domain, `dirichlet` several of each, which have more of some classes than of others
(Hsu et al. 2019, arXiv:1909.06335), the same in all three parts. Where there are domains, each is held out in turn:
nobody trains on it, nothing is chosen on it, and all of it is for testing. The other rows are split 60/20/20, shuffled
as the published code of FedCLIP does, unless the corpus has a split of its own.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.random import Generator, RandomState
from numpy.typing import NDArray

from fedmq.errors import ConfigInvalid
from fedmq_bench.accuracy.corpora import TEST, TRAIN, VALIDATION, Corpus, Numbers
from fedmq_models.examples import Examples
from fedmq_nodes.errors import DataUnusable
from fedmq_nodes.own_head import Own

TRAIN_SHARE, VALIDATION_SHARE = 0.6, 0.2
FEWEST_TRAIN = 8  # of a node; a draw that gives one less is drawn again
DRAWS = 1000
NOBODY = "none"  # held out, where there are no domains


@dataclass(frozen=True)
class Shares:
    """One node's examples."""

    train: Examples
    validation: Examples
    test: Examples

    @cached_property
    def own(self) -> Own:
        """What this node's own heads are solved from."""
        return Own(self.train)


@dataclass(frozen=True)
class Fold:
    """A federation's data.

    name        of the domain that is held out
    nodes       who takes part
    groups      the domain of each of them
    held_out    all of the domain that is; None where there are no domains
    """

    name: str
    nodes: Mapping[str, Shares] = field(repr=False)
    groups: Mapping[str, str] = field(repr=False)
    held_out: Examples | None = field(default=None, repr=False)


def domains(corpus: Corpus, seed: int) -> Iterator[Fold]:
    """Yield a fold per domain.

    raises     ConfigInvalid where there are none
    """
    names = sorted(set(corpus.groups.tolist()))
    if len(names) < 2:
        raise ConfigInvalid(f"--split domains: {corpus.name} has no domains; use --split dirichlet")
    whole = {name: [_parted(corpus, name, seed)] for name in names}
    yield from _folds(corpus, whole, lambda group, _number: group)


def dirichlet(corpus: Corpus, nodes: int, alpha: float, seed: int) -> Iterator[Fold]:
    """Yield a fold per domain, or one where there are none, of so many nodes in all domains together.

    alpha      of the share that each node of a domain has of a class: the smaller, the more it differs
    """
    names = sorted(set(corpus.groups.tolist()))
    if nodes < len(names):
        raise ConfigInvalid(f"--nodes is {nodes}, {corpus.name} has {len(names)} domains; a node has one")
    rng = np.random.default_rng([seed, nodes])
    whole = {}
    for place, name in enumerate(names):
        members = len(range(place, nodes, len(names)))
        whole[name] = _dealt(corpus, _parted(corpus, name, seed), members, alpha, rng)
    yield from _folds(corpus, whole, lambda group, number: f"{group}-{number}")


Parts = tuple[Numbers, Numbers, Numbers]


def _folds(corpus: Corpus, whole: Mapping[str, list[Parts]], called: Callable[[str, int], str]) -> Iterator[Fold]:
    for held_out in sorted(whole) if len(whole) > 1 else [NOBODY]:
        nodes, groups = {}, {}
        for group, dealt in whole.items():
            for number, parts in enumerate(dealt):
                if group != held_out:
                    nodes[called(group, number)] = Shares(*(_examples(corpus, rows) for rows in parts))
                    groups[called(group, number)] = group
        rows = np.flatnonzero(corpus.groups == held_out)
        yield Fold(held_out, nodes, groups, _examples(corpus, rows) if len(rows) else None)


def _parted(corpus: Corpus, group: str, seed: int) -> Parts:
    """Return the rows of a domain for training, validation and test."""
    rows = np.flatnonzero(corpus.groups == group)
    if corpus.parts is not None:
        train, validation, test = (rows[corpus.parts[rows] == part] for part in (TRAIN, VALIDATION, TEST))
        return train, validation, test
    RandomState(seed).shuffle(rows)  # numpy's old stream: the split of the published code, to the row
    ends = [int(len(rows) * TRAIN_SHARE), int(len(rows) * (TRAIN_SHARE + VALIDATION_SHARE))]
    train, validation, test = np.split(rows, ends)
    return train, validation, test


def _dealt(corpus: Corpus, parts: Parts, members: int, alpha: float, rng: Generator) -> list[Parts]:
    """Deal the rows of a domain to its nodes.

    raises     DataUnusable if no draw leaves every node enough
    """
    shuffled = [rng.permutation(rows) for rows in parts]
    classes = np.unique(corpus.numbers[np.concatenate(parts)])
    for _ in range(DRAWS):
        shares = {int(c): np.cumsum(rng.dirichlet(np.full(members, alpha)))[:-1] for c in classes}
        dealt = list(zip(*(_cut(corpus, rows, shares) for rows in shuffled), strict=True))
        if all(len(train) >= FEWEST_TRAIN and len(val) and len(test) for train, val, test in dealt):
            return dealt
    raise DataUnusable(
        f"{corpus.name}: {DRAWS} draws of {members} nodes with alpha {alpha:g} left one with fewer than {FEWEST_TRAIN} "
        "examples; use fewer nodes or a larger alpha"
    )


def _cut(corpus: Corpus, rows: Numbers, shares: Mapping[int, NDArray[np.float64]]) -> list[Numbers]:
    """Return the rows of each node: of every class the share that is its own."""
    pieces = []
    for number, ends in shares.items():
        chosen = rows[corpus.numbers[rows] == number]
        pieces.append(np.split(chosen, np.round(ends * len(chosen)).astype(np.int64)))
    return [np.concatenate(each) for each in zip(*pieces, strict=True)]


def _examples(corpus: Corpus, rows: Numbers) -> Examples:
    return Examples(corpus.features, rows, corpus.numbers[rows])
