"""The bench of accuracy: nothing is chosen on test data, bytes are those of real cores, and rows are measured once."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmq.errors import ConfigInvalid
from fedmq_bench import report
from fedmq_bench.accuracy import corpora, folds, measuring, results, ways
from fedmq_bench.accuracy.corpora import Corpus
from fedmq_bench.accuracy.folds import Fold
from fedmq_bench.accuracy.results import Reached
from fedmq_bench.comm.datasets import NORM
from fedmq_models import classifier
from fedmq_models.examples import Examples
from fedmq_nodes.errors import DataUnusable, TargetLeaks
from fedmq_nodes.pool import require_apart
from learners import CLASSES, DIM, domain, text
from test_comm import run

DOMAINS = ("art", "photo", "sketch")
COUNT = 150


def silent(_line: str) -> None:
    pass


@pytest.fixture
def file(tmp_path: Path) -> Path:
    parts = [domain(COUNT, seed, turn=0.4) for seed, _ in enumerate(DOMAINS)]
    np.savez(
        tmp_path / "drawn.npz",
        features=np.concatenate([part.features for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        domains=np.repeat(DOMAINS, COUNT),
        classes=["a", "b", "c"],
        text=text(),
    )
    return tmp_path / "drawn.npz"


@pytest.fixture
def corpus(file: Path) -> Corpus:
    return corpora.load(str(file), silent)


def rows_of(fold: Fold) -> list[int]:
    parts = (part for one in fold.nodes.values() for part in (one.train, one.validation, one.test))
    return sorted(int(row) for part in parts for row in part.rows)


def reached(corpus: Corpus, fold: Fold, name: str, rounds: int = 4, transductive: bool = False) -> Reached:
    way = ways.ways(name, rounds, ["task.lr=0.1", "task.batch_size=16"])[name]
    return results.reach(name, way, corpus, fold, 0, transductive, silent)


# Corpora


def test_a_file_is_read_with_its_domains_and_features_get_the_norm_that_an_encoder_gives_them(corpus: Corpus) -> None:
    assert (corpus.name, corpus.encoder, corpus.stand_in, corpus.labels) == ("drawn", "drawn", None, ("a", "b", "c"))
    assert corpus.groups.tolist() == [name for name in DOMAINS for _ in range(COUNT)]
    assert np.linalg.norm(corpus.features, axis=1).mean() == pytest.approx(NORM, rel=1e-5)
    assert corpus.parts is None


def test_a_split_of_the_file_is_kept_and_a_class_without_text_left_out(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"classes": ["a", "b", "c"], "text": text() * np.array([[1], [0], [1]])}
    for seed, (part, count) in enumerate({"train": 60, "val": 30, "test": 40}.items()):
        drawn = domain(count, seed, turn=0.0)
        arrays |= {f"{part}_features": drawn.features, f"{part}_labels": drawn.labels}
    np.savez(tmp_path / "split.npz", **arrays)
    corpus = corpora.load(str(tmp_path / "split.npz"), silent)
    assert corpus.labels == ("a", "c")
    (fold,) = folds.dirichlet(corpus, 2, 10.0, seed=0)
    assert (fold.name, fold.held_out, set(fold.nodes)) == ("none", None, {"all-0", "all-1"})
    assert corpus.parts is not None
    for part, number in (("train", 0), ("validation", 1), ("test", 2)):
        found = np.concatenate([getattr(one, part).rows for one in fold.nodes.values()])
        assert sorted(found) == np.flatnonzero(corpus.parts == number).tolist()


def test_data_that_are_not_there_are_refused_with_what_there_could_be() -> None:
    with pytest.raises(DataUnusable, match=r"nowhere.npz is not a file; --data is pacs, caltech, caltech-all \(of the"):
        corpora.load("nowhere.npz", silent)


# Folds


def test_each_domain_is_held_out_once_and_the_others_are_parted_60_20_20(corpus: Corpus) -> None:
    found = list(folds.domains(corpus, seed=1))
    assert [(fold.name, tuple(fold.nodes)) for fold in found] == [
        ("art", ("photo", "sketch")), ("photo", ("art", "sketch")), ("sketch", ("art", "photo"))
    ]  # fmt: skip
    for fold in found:
        held_out = np.flatnonzero(corpus.groups == fold.name)
        assert fold.held_out is not None
        assert fold.held_out.rows.tolist() == held_out.tolist()
        assert rows_of(fold) == np.flatnonzero(corpus.groups != fold.name).tolist()
        for shares in fold.nodes.values():
            assert [len(part) for part in (shares.train, shares.validation, shares.test)] == [90, 30, 30]


def test_domains_that_are_not_there_cannot_be_held_out(corpus: Corpus) -> None:
    alone = replace(corpus, groups=np.full(len(corpus.groups), "all"))
    with pytest.raises(ConfigInvalid, match="drawn has no domains; use --split dirichlet"):
        list(folds.domains(alone, 0))


def test_a_skewed_split_deals_every_row_once_and_a_node_has_the_same_skew_in_all_parts(corpus: Corpus) -> None:
    for fold in folds.dirichlet(corpus, 6, 0.5, seed=0):
        assert len(fold.nodes) == 4
        assert rows_of(fold) == np.flatnonzero(corpus.groups != fold.name).tolist()
        assert (
            {name.rpartition("-")[0] for name in fold.nodes} == set(fold.groups.values()) == set(DOMAINS) - {fold.name}
        )
        for one in fold.nodes.values():
            train, test = (np.bincount(part.labels, minlength=CLASSES) for part in (one.train, one.test))
            # 60 and 20 of a hundred, cut at whole rows.
            assert np.abs(train / 3 - test).max() <= 8
    first, again, other = (next(folds.dirichlet(corpus, 6, 0.5, seed)) for seed in (0, 0, 1))
    assert rows_in(first) == rows_in(again) != rows_in(other)


def rows_in(fold: Fold) -> list[list[int]]:
    return [shares.train.rows.tolist() for shares in fold.nodes.values()]


def test_the_smaller_alpha_is_the_more_nodes_differ(corpus: Corpus) -> None:
    def largest(alpha: float) -> float:
        fold = next(folds.dirichlet(corpus, 6, alpha, seed=0))
        return float(np.mean([np.bincount(one.train.labels).max() / len(one.train) for one in fold.nodes.values()]))

    assert largest(0.3) > largest(100.0) + 0.1


def test_too_few_rows_for_the_nodes_are_a_sentence(corpus: Corpus) -> None:
    with pytest.raises(DataUnusable, match="draws of 60 nodes with alpha 0.01 left one with fewer than 8 examples"):
        list(folds.dirichlet(corpus, 180, 0.01, 0))
    with pytest.raises(ConfigInvalid, match="--nodes is 2, drawn has 3 domains"):
        list(folds.dirichlet(corpus, 2, 0.5, 0))


# Ways


def test_a_way_that_is_not_known_and_a_setting_of_no_task_are_refused() -> None:
    with pytest.raises(ConfigInvalid, match="--method is 'fedsgd'; it is some of zero-shot, local"):
        ways.ways("fedsgd", None, [])
    with pytest.raises(ConfigInvalid, match="only keys of task"):
        ways.ways("linear", None, ["rounds.goal=3"])


def test_what_is_set_is_set_in_every_task_and_not_chosen_any_more() -> None:
    found = ways.ways("linear,ridge,fedclip-paper", 5, ["task.lr=0.5"])
    assert [(way.training.lr, way.lrs, way.rounds) for way in found.values()] == [
        (0.5, (), 5),
        (1e-3, (), 1),
        (0.5, (), 5),
    ]
    assert found["fedclip-paper"].training.loss == "reference"
    assert ways.ways("fedclip-paper", 25, [])["fedclip-paper"].every == 1  # the last version is always measured


def test_a_way_that_needs_text_or_a_domain_is_not_measured_without(corpus: Corpus) -> None:
    plan = measuring.Plan("drawn", ways.ways("faaclip", 1, []))
    with pytest.raises(ConfigInvalid, match="adapts to a domain that is held out, drawn has none"):
        measuring.require_fit(plan, replace(corpus, groups=np.full(len(corpus.groups), "all")))
    blank = replace(corpus, text=corpus.text * np.array([[0], [1], [1]], np.float32))
    with pytest.raises(ConfigInvalid, match="--method faaclip needs the text of every class, drawn lacks some"):
        measuring.require_fit(plan, blank)


# Reaching


def test_the_frozen_model_and_who_stays_alone_send_nothing(corpus: Corpus) -> None:
    fold = next(folds.domains(corpus, 0))
    frozen, local = reached(corpus, fold, "zero-shot"), reached(corpus, fold, "local")
    for name, shares in fold.nodes.items():
        right = classifier.accuracy(shares.test.batch(slice(None)), text(), shares.test.labels)
        assert (frozen.nodes[name].zero_shot, frozen.nodes[name].shared) == (right, right)
        assert (local.nodes[name].personal or 0) > right
    assert (frozen.rounds, frozen.bytes_total, local.bytes_up, local.bytes_total) == (0, 0, 0, 0)


def test_nothing_is_chosen_on_test_data_nor_on_the_domain_that_is_held_out(corpus: Corpus) -> None:
    fold = next(folds.domains(corpus, 0))
    assert fold.held_out is not None

    def swapped(examples: Examples) -> Examples:
        return replace(examples, labels=(examples.labels + 1) % CLASSES)

    nodes = {name: replace(shares, test=swapped(shares.test)) for name, shares in fold.nodes.items()}
    other = replace(fold, nodes=nodes, held_out=swapped(fold.held_out))
    for name in ("local", "linear", "fedot", "plain", "even-rank4", "discriminant"):
        here, there = reached(corpus, fold, name), reached(corpus, other, name)
        assert (here.rounds, here.chosen, here.validation) == (there.rounds, there.chosen, there.validation), name
        assert here.held_out != there.held_out


def test_the_version_that_is_taken_is_the_best_on_validation_data_and_bytes_are_those_until_then(
    corpus: Corpus,
) -> None:
    fold = next(folds.domains(corpus, 0))
    most = max(
        (reached(corpus, fold, "linear", rounds) for rounds in (1, 2, 3, 4)), key=lambda one: one.validation or 0
    )
    found = reached(corpus, fold, "linear", 4)
    assert found.validation == most.validation
    payload = 4 * CLASSES + CLASSES * DIM  # int8: a scale per row
    assert found.bytes_up == found.rounds * payload
    # Down: version 0 and one per round as float32 to two nodes; and envelopes.
    exact = 2 * (found.rounds * payload + (found.rounds + 1) * 4 * CLASSES * DIM)
    assert 0 < found.bytes_total - exact < 20_000


def test_a_head_in_closed_form_is_sent_for_once_and_a_personal_one_takes_no_traffic(corpus: Corpus) -> None:
    fold = next(folds.domains(corpus, 0))
    found = reached(corpus, fold, "even-rank4")
    assert (found.rounds, found.bytes_up) == (1, 4 * CLASSES + 2 * DIM * (CLASSES + 4))
    assert found.chosen is not None
    assert found.chosen.keys() == {"penalty", "text_weight"}
    assert all(node.personal is not None for node in found.nodes.values())
    assert reached(corpus, fold, "ridge-auto").chosen == {}


def test_a_pool_holds_nobody_who_is_tested_unless_that_is_said(corpus: Corpus) -> None:
    fold = next(folds.domains(corpus, 0))
    assert fold.held_out is not None
    way = ways.ways("faaclip", 1, [])["faaclip"]
    kept, task = results.task_of(way, corpus, fold, 0, transductive=False)
    assert kept.held_out is not None
    assert (len(kept.held_out), None if task.pool is None else len(task.pool)) == (COUNT // 2, COUNT // 2)
    require_apart(task.pool, task.training.target, kept.held_out)
    whole, leaking = results.task_of(way, corpus, fold, 0, transductive=True)
    assert whole.held_out is fold.held_out
    with pytest.raises(TargetLeaks):
        require_apart(leaking.pool, task.training.target, fold.held_out)
    require_apart(leaking.pool, leaking.training.target, fold.held_out)
    assert reached(corpus, fold, "facmic", 1).held_out is not None


def test_who_ends_below_zero_shot_is_named() -> None:
    nodes = {"a": results.Node(0.5, 0.4), "b": results.Node(0.5, 0.4, 0.6), "c": results.Node(0.5, 0.5)}
    row = Reached(nodes, 0.7, 3).row()
    assert (row["failing"], row["worst_node"], row["personal"]) == (["a"], 0.4, 0.6)
    assert row["participants"] == pytest.approx(1.3 / 3)


def test_full_fine_tuning_is_bytes_and_no_accuracy(corpus: Corpus) -> None:
    row = reached(corpus, next(folds.domains(corpus, 0)), "full", 3).row()
    assert (row["bytes_up"], row["held_out"], row["participants"]) == (3 * 605_109_252, None, None)


# The command


def test_the_command_gives_a_row_per_way_fold_and_seed_once_a_table_and_a_plot(file: Path, tmp_path: Path) -> None:
    out, drawn = tmp_path / "rows.jsonl", tmp_path / "accuracy.png"
    words = ("--data", file, "--method", "zero-shot,linear,even-rank4", "--rounds", 2, "--seeds", 2, "--out", out)
    found = run("accuracy", *words, "--plot", drawn)
    assert found.exit_code == 0, found.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["seeds"], row["fold"], row["method"]) for row in rows] == [
        ([seed], fold, way) for seed in (0, 1) for fold in DOMAINS for way in ("zero-shot", "linear", "even-rank4")
    ]
    keys = {"case", "dataset", "encoder", "stand_in", "method", "split", "held_out", "participants", "personal",
            "worst_node", "bytes_total", "rounds", "seconds", "seeds", "failing", "transductive"}  # fmt: skip
    assert all(row.keys() >= keys for row in rows)
    assert "drawn, a node per domain, features of drawn" in found.stdout
    assert drawn.read_bytes().startswith(b"\x89PNG")
    told = report.sentence(rows[0])
    assert told.startswith("zero-shot on drawn with drawn, domains, 2 nodes, art held out, seed 0: held out ")
    again = run("accuracy", *words)
    assert again.exit_code == 0, again.output
    assert again.stdout == found.stdout[found.stdout.index("drawn, a node per domain") :]
    assert len(out.read_text().splitlines()) == len(rows)
    more = run("accuracy", *words[:-4], "--seeds", 1, "--split", "dirichlet", "--nodes", 6, "--out", out)
    assert more.exit_code == 0, more.output
    assert len(out.read_text().splitlines()) == len(rows) + 9
    assert run("plot", out, "--out", tmp_path / "again.svg").exit_code == 0
    assert (tmp_path / "again.svg").read_text().count("<svg") == 1


def test_a_plot_that_cannot_be_drawn_is_refused_before_anything_is_measured() -> None:
    refused = run("accuracy", "--plot", "accuracy.pdf").exception
    assert isinstance(refused, ConfigInvalid)
    assert "a plot is .svg or .png" in str(refused)
