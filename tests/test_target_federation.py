"""Federations that adapt: both shells in memory, real training, and a target domain that no node has labels of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmq.plan import Codecs, Pulse, Settings, Stop
from fedmq.record import LEDGER, Record
from fedmq.report import page
from fedmq.summary import summarise
from fedmq_models import bundle as bundles
from fedmq_models.bundle import Bundle
from fedmq_models.examples import Examples
from fedmq_models.head import Head
from fedmq_models.methods import METHODS, Adapting, method
from fedmq_models.target import Target
from fedmq_models.training import Training
from fedmq_nodes import pool, task, use
from fedmq_nodes.errors import TargetLeaks
from fedmq_nodes.greeting import Introduction
from fedmq_nodes.join import Pace, Shell
from fedmq_nodes.sources import Data, Progress, Split
from test_shells import federation, run

DIM, CLASSES, HALF = 16, 4, 8
LABELS = ("ant", "bee", "cat", "dog")
SETTINGS = Settings("toy", codec=Codecs("fp32", "fp32"), start_nodes=2, pulse=Pulse(0.2, 5.0), stop=Stop(versions=6))


def text() -> NDArray[np.float32]:
    """Each class is one direction of the first half (shape, say) and one of the second (colour)."""
    rows = np.zeros((CLASSES, DIM), np.float32)
    for c in range(CLASSES):
        rows[c, c] = rows[c, HALF + c] = 0.5**0.5
    return rows


def features(count: int, seed: int, target: bool) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Shape is noisy everywhere; colour is clear, but in the target domain everything has that of the first class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    values = rng.normal(0, 0.3, (count, DIM))
    values[:, :HALF] += rng.normal(0, 0.7, (count, HALF))
    values[np.arange(count), labels] += 2
    values[np.arange(count), HALF if target else HALF + labels] += 4
    return values.astype(np.float32), labels


@dataclass
class Domain:
    """A source of so many features of one domain."""

    count: int
    seed: int
    target: bool

    def load(self, labels: Sequence[str], split: Split, progress: Progress) -> Data:
        values, numbers = features(self.count, self.seed, self.target)
        keys = [row.tobytes().ljust(32)[:32] for row in values]
        return Data(*split.apply(Examples(values, np.arange(self.count), numbers), keys))


def shell(found: Bundle, name: str, domain: Domain) -> Shell:
    who = Introduction("toy", name, found.feature_space, DIM, task.methods())
    split = Split(train=not domain.target)
    return Shell(who, domain, split, Pace(), 1, np.random.default_rng(domain.seed))


def written(folder: Path) -> Bundle:
    return bundles.write(folder, name="toy", labels=LABELS, text=text(), logit_scale=10.0, declared_space="toy")


def federate(
    folder: Path, training: Training, settings: Settings = SETTINGS, seed: int = 0, published: int = 100
) -> Record:
    """Two nodes of the source domain and one that only evaluates, in the target domain; return the run's record.

    published     seed of the target features that the pool is made of; the evaluating node's own is 200 + seed
    """
    found = written(folder / "bundle")
    if isinstance(method(training.method), Adapting):
        np.savez(folder / "target.npz", features=features(200, published + seed, True)[0])
        training = replace(training, target=replace(training.target, pool=str(folder / "target.npz"), rows=0))

    async def scenario() -> None:
        shells = {name: shell(found, name, Domain(200, 10 * seed + at, False)) for at, name in enumerate("ab")}
        shells["apart"] = shell(found, "apart", Domain(200, 200 + seed, True))
        job = task.job(found, training, seed, pool.published(training, found))
        await federation(folder / "run", settings, job, shells)

    run(scenario)
    return Record.open(folder / "run" / LEDGER)


def accuracy(record: Record, name: str) -> float:
    (row,) = (row for row in summarise(record)["nodes"] if row["node"] == name)
    found: float = row["federated"]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_against_a_domain_head_the_target_domain_is_classified_better_than_by_fedclip(
    seed: int, tmp_path: Path
) -> None:
    how = Training(lr=1e-2, epochs=2)
    adapting = replace(how, method="faaclip", target=Target(ramp_steps=50, sides="both"))
    for name in ("fedclip", "faaclip"):
        (tmp_path / name).mkdir()
    without, record = (
        federate(tmp_path / "fedclip", how, seed=seed),
        federate(tmp_path / "faaclip", adapting, seed=seed),
    )
    assert accuracy(record, "apart") > accuracy(without, "apart") + 0.2
    assert min(accuracy(record, name) for name in "ab") > 0.9
    assert summarise(record)["caveat"] == ""


@pytest.mark.parametrize("name", METHODS)
def test_every_method_federates_over_int8_and_what_it_learned_can_be_used(name: str, tmp_path: Path) -> None:
    # Statistics are sent once, so one version is all that is sure to come of them.
    is_solved = method(name).head is Head.SOLVED
    codec, versions = ("stats-fp16", 1) if is_solved else ("int8", 2)
    settings = replace(SETTINGS, codec=Codecs(codec, "int8"), stop=Stop(versions=versions))
    record = federate(tmp_path, Training(method=name), settings)
    assert summarise(record)["versions"] == versions
    learned = use.Learned.of(tmp_path / "run")
    values, labels = features(200, 200, True)
    right = float((learned.logits(values).argmax(axis=1) == labels).mean())
    assert right == pytest.approx(accuracy(record, "apart"), abs=1e-9)


def test_a_node_that_finds_its_test_images_in_the_pool_leaves_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TargetLeaks, match="holds 200 of the 200 images that this node tests on"):
        federate(tmp_path, Training(method="faaclip"), published=200)


def test_a_transductive_run_is_labelled_in_its_summary_its_report_and_its_evaluations(tmp_path: Path) -> None:
    training = Training(method="facmic", target=Target(transductive=True))
    record = federate(tmp_path, training, replace(SETTINGS, stop=Stop(versions=1)), published=200)
    assert summarise(record)["caveat"] == task.TRANSDUCTIVE
    assert "transductive: the adapter has adapted to" in page.render(record, [])
    found = use.evaluate(use.Learned.of(tmp_path / "run"), Domain(50, 1, True), lambda _done, _total: None)
    assert found["caveat"] == task.TRANSDUCTIVE


def test_a_nodes_head_lives_as_long_as_its_process(tmp_path: Path) -> None:
    from fedmq.delta import gather
    from fedmq_nodes.trainer import Trainer

    training = Training(method="faaclip", target=Target(ramp_steps=0, sides="both"))
    values, labels = features(60, 1, False)
    data = Data(Examples(values, np.arange(60), labels), Examples(values, np.arange(0), labels[:0]))
    job = task.Task(training, LABELS, 10.0, text(), features(40, 2, True)[0])
    params = gather(method("faaclip").start(DIM, np.random.default_rng(0)))
    trainer, again = Trainer(job, data, 7), Trainer(job, data, 7)
    first, second, fresh = trainer.train(1, params), trainer.train(1, params), again.train(1, params)
    assert (first.params.flat == fresh.params.flat).all()
    assert (first.params.flat != second.params.flat).any()
