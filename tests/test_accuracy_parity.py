"""FedCLIP here is its published loop, and closed forms here reach what was known of them from elsewhere."""

from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation_data import DATA, needs
from fedmq.seeds import seed
from fedmq.stats.settings import Statistics
from fedmq_bench import machine
from fedmq_bench.accuracy import corpora, folds, plain, results, watched, ways
from fedmq_bench.accuracy.corpora import KNOWN, Corpus
from fedmq_bench.accuracy.folds import Fold
from fedmq_models.examples import Examples
from fedmq_nodes.task import Task
from learners import domain, text

if TYPE_CHECKING:
    from torch import Tensor

PACS = KNOWN["pacs"].file
POINTS = 0.003


def silent(_line: str) -> None:
    pass


def both(corpus: Corpus, fold: Fold, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return per test split what the federation and the plain loop reach after so many rounds by the same luck.

    They begin at the same params, and go through the examples in the same order.
    """
    import torch

    way = ways.ways("fedclip-paper", rounds, [])["fedclip-paper"]
    task = Task(way.training, corpus.labels, corpus.logit_scale, corpus.text)
    start = {name: torch.from_numpy(value) for name, value in task.begin(0).items()}
    names = sorted(fold.nodes)

    def order(number: int, node: int) -> "Tensor":
        drawn = np.random.default_rng(seed(node, number)).permutation(len(fold.nodes[names[node]].train))
        return torch.from_numpy(drawn)

    with machine.one_thread():
        fleet = watched.Watched(task, fold, way.settings(), 0, rounds, silent)
        nodes = [tensors(fold.nodes[name].train) for name in names]
        *_, common = plain.rounds(nodes, torch.from_numpy(corpus.text), rounds, 0, start, order)
    params = fleet.versions()[-1].params
    examples = {name: shares.test for name, shares in fold.nodes.items()} | {"held out": held(fold)}
    ours = {
        name: watched.tester(task, one).evaluate(rounds, params).correct / len(one) for name, one in examples.items()
    }
    words = torch.from_numpy(corpus.text)
    theirs = {name: plain.accuracy(common, *tensors(one), words) for name, one in examples.items()}
    return ours, theirs


def tensors(examples: Examples) -> "tuple[Tensor, Tensor]":
    import torch

    return torch.from_numpy(examples.batch(slice(None))), torch.from_numpy(examples.labels)


def held(fold: Fold) -> Examples:
    assert fold.held_out is not None
    return fold.held_out


def drawn() -> Corpus:
    parts = [domain(600, seed, turn=0.3) for seed in range(3)]
    features = np.concatenate([part.features for part in parts])
    numbers = np.concatenate([part.labels for part in parts])
    groups: NDArray[np.str_] = np.repeat(["art", "photo", "sketch"], 600)
    return Corpus("drawn", "drawn", None, ("a", "b", "c"), 100.0, text(), features, numbers, groups)


def test_fedclip_with_the_settings_of_its_paper_is_the_published_loop_on_drawn_features() -> None:
    corpus = drawn()
    for fold in folds.domains(corpus, 0):
        ours, theirs = both(corpus, fold, 4)
        assert ours == pytest.approx(theirs, abs=POINTS)


@needs(PACS)
@pytest.mark.parametrize("held_out", range(4))
def test_fedclip_with_the_settings_of_its_paper_is_the_published_loop_on_every_split_of_pacs(
    held_out: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDMQ_DATA", str(DATA))
    corpus = corpora.load("pacs", silent)
    fold = list(folds.domains(corpus, 0))[held_out]
    ours, theirs = both(corpus, fold, 5)
    assert ours == pytest.approx(theirs, abs=POINTS)


@needs(PACS)
def test_closed_forms_on_pacs_reach_what_an_independent_computation_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 0, the split of the published code, penalty and text weight as they were there."""
    monkeypatch.setenv("FEDMQ_DATA", str(DATA))
    corpus = corpora.load("pacs", silent)
    known = {("stats-fp32", 0.3): (0.6235, 0.832), ("stats-rank4", 10.0): (0.6245, 0.763)}
    for (form, penalty), (outside, inside) in known.items():
        way = ways.Way(ways.STATISTICS, form, 1, head=Statistics("ridge", penalty, 3.0), searches=False)
        with machine.one_thread():
            found = [results.reach("ridge", way, corpus, fold, 0, False, silent) for fold in folds.domains(corpus, 0)]
        rows = [one.row() for one in found]
        assert fmean(row["held_out"] for row in rows) == pytest.approx(outside, abs=POINTS)
        assert fmean(row["participants"] for row in rows) == pytest.approx(inside, abs=POINTS)
        assert all(row["personal"] > row["participants"] for row in rows)
