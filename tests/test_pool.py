"""The pool of target features: what is published, what travels, and that nobody is tested on it unnoticed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from safetensors.numpy import load, save, save_file

from fedmq.aggregator import Aggregator
from fedmq.errors import ConfigInvalid
from fedmq.past import Past
from fedmq.plan import CAVEAT, Settings
from fedmq.record import Record
from fedmq.show import line, render
from fedmq.status import status
from fedmq_models.bundle import Bundle
from fedmq_models.examples import Examples
from fedmq_models.target import Pool, Ramp, Target
from fedmq_models.training import Training
from fedmq_nodes import fleetfile, pool, task
from fedmq_nodes.errors import DataUnusable, TargetLeaks, TaskUnknown
from ledgers import opened
from toy import DIM, bundle, features


@pytest.fixture
def found(tmp_path: Path) -> Bundle:
    return bundle(tmp_path / "bundle")


def file(folder: Path, **arrays: Any) -> str:
    path = folder / "target.npz"
    values, labels = features(40, 0)
    found: dict[str, Any] = {"features": values, "labels": labels} | arrays
    np.savez(path, **found)
    return str(path)


def faaclip(path: str, **changes: Any) -> Training:
    return Training(method="faaclip", target=Target(pool=path, **changes))


def drawn(training: Training, found: Bundle) -> NDArray[np.float16]:
    values = pool.published(training, found)
    assert values is not None
    return values


def test_the_pool_is_the_files_features_in_fp16_and_its_labels_are_not_read(tmp_path: Path, found: Bundle) -> None:
    values = drawn(faaclip(file(tmp_path, labels=np.array(["garbage"]))), found)
    assert values.dtype == np.float16
    np.testing.assert_array_equal(values, features(40, 0)[0].astype(np.float16))


def test_features_need_no_labels_at_all_and_may_be_safetensors(tmp_path: Path, found: Bundle) -> None:
    save_file({"features": features(40, 0)[0]}, tmp_path / "f.safetensors")
    assert drawn(faaclip(str(tmp_path / "f.safetensors")), found).shape == (40, DIM)


def test_the_pool_is_scaled_as_the_bundle_scales_every_feature(tmp_path: Path, found: Bundle) -> None:
    values = drawn(faaclip(file(tmp_path)), replace(found, scale=4.0))
    np.testing.assert_array_equal(values, (4 * features(40, 0)[0]).astype(np.float16))


def test_rows_are_chosen_by_column_and_part_and_then_drawn_the_same_each_time(tmp_path: Path, found: Bundle) -> None:
    domains = np.array(["photo", "sketch"] * 20)
    path = file(tmp_path, domain=domains)
    sketches = drawn(faaclip(path, where={"domain": "sketch"}, part="2/2"), found)
    np.testing.assert_array_equal(sketches, features(40, 0)[0][1::2][1::2].astype(np.float16))
    some = [drawn(faaclip(path, rows=7), found) for _ in range(2)]
    np.testing.assert_array_equal(some[0], some[1])
    assert len(np.unique(np.vstack([some[0], drawn(faaclip(path, rows=0), found)]), axis=0)) == 40


def test_a_few_hundred_rows_of_clip_take_a_quarter_of_a_megabyte(tmp_path: Path) -> None:
    assert len(save({"target": np.zeros((Target().rows, 512), np.float16)})) < 263_000


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"features": np.zeros((5, 3), np.float32)}, "has features of 3 dimensions, toy has 8"),
        ({"features": np.ones((1, DIM), np.float32)}, "has 1 row to adapt to; at least 2"),
        ({"features": np.full((5, DIM), np.nan, np.float32)}, "features hold NaN or infinity"),
        ({"features": np.full((5, DIM), 1e6, np.float32)}, r"features up to 1e\+06, fp16 ends at 65504"),
        ({"features": np.zeros(5, np.float32)}, r"needs features of shape \(n, dim\), has \(5,\)"),
    ],
)
def test_a_pool_that_is_none_is_a_sentence(
    arrays: dict[str, Any], sentence: str, tmp_path: Path, found: Bundle
) -> None:
    with pytest.raises(DataUnusable, match=sentence):
        pool.published(faaclip(file(tmp_path, **arrays)), found)


def test_a_file_without_features_or_no_file_is_a_sentence(tmp_path: Path, found: Bundle) -> None:
    np.savez(tmp_path / "f.npz", images=np.zeros(3))
    with pytest.raises(DataUnusable, match=r"has None among images"):
        pool.published(faaclip(str(tmp_path / "f.npz")), found)
    with pytest.raises(DataUnusable, match=r"nowhere\.npz is not a readable"):
        pool.published(faaclip(str(tmp_path / "nowhere.npz")), found)


@pytest.mark.parametrize("name", ["faaclip", "faaclip-reference", "facmic", "facmic-reference"])
def test_a_method_that_adapts_without_a_pool_says_what_is_missing_and_what_to_do(name: str, found: Bundle) -> None:
    with pytest.raises(ConfigInvalid, match=f"{name} adapts to a target domain.*set task.target.pool to"):
        pool.published(Training(method=name), found)


def test_a_target_for_a_method_that_adapts_to_none_is_refused_with_those_that_do(found: Bundle) -> None:
    assert pool.published(Training(), found) is None
    with pytest.raises(ConfigInvalid, match="fedclip adapts to no target domain; faaclip, .*facmic-reference do"):
        pool.published(Training(target=Target(transductive=True)), found)


def test_the_pools_file_is_relative_to_the_federations_file(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text("federation = 'x'\n[task]\nmethod = 'faaclip'\ntarget.pool = 'target.npz'\n")
    assert fleetfile.federation(path, []).task["target"] == {"pool": str(tmp_path / "target.npz")}
    assert fleetfile.federation(path, ["task.target.pool=/a.npz"]).task["target"] == {"pool": "/a.npz"}
    assert pool.located({"target": 3}, tmp_path) == {"target": 3}


def test_a_node_gets_the_features_and_not_where_they_lie(tmp_path: Path, found: Bundle) -> None:
    training = faaclip(file(tmp_path), weight=0.2, sides="both", rows=11)
    job = task.job(found, training, pool=pool.published(training, found))
    understood = task.understand(job.task, job.arrays)
    assert understood.training == replace(training, target=Target(weight=0.2, sides="both"))
    assert understood.pool is not None
    assert (understood.pool.dtype, understood.pool.shape) == (np.dtype(np.float32), (11, DIM))
    assert str(tmp_path) not in str(job.task) + str(job.notes["task"])


def test_a_task_without_the_pool_that_its_method_needs_is_not_understood(tmp_path: Path, found: Bundle) -> None:
    training = faaclip(file(tmp_path))
    job = task.job(found, training, pool=pool.published(training, found))
    arrays = {name: value for name, value in load(job.arrays).items() if name != "target"}
    with pytest.raises(TaskUnknown, match="'target'"):
        task.understand(job.task, save(arrays))


def test_a_node_whose_test_images_are_in_the_pool_leaves_unless_that_is_declared(tmp_path: Path, found: Bundle) -> None:
    values = drawn(faaclip(file(tmp_path)), found).astype(np.float32)
    own, labels = features(30, 9)
    tests = Examples(np.vstack([own, features(40, 0)[0][:3]]), np.arange(33), np.append(labels, [0, 1, 2]))
    with pytest.raises(TargetLeaks, match=r"holds 3 of the 33 images .*task\.target\.transductive = true"):
        pool.require_apart(values, Target(), tests)
    pool.require_apart(values, Target(transductive=True), tests)
    pool.require_apart(values, Target(), tests.where(np.arange(33) < 30))
    pool.require_apart(None, Target(), tests)


def test_a_transductive_federation_says_so_wherever_it_shows_figures(tmp_path: Path, found: Bundle) -> None:
    honest, told = faaclip(file(tmp_path)), faaclip(file(tmp_path), transductive=True)
    plain, labelled = (task.job(found, one, pool=pool.published(one, found)) for one in (honest, told))
    assert CAVEAT not in plain.notes
    aggregators = [
        Aggregator(Settings("toy"), one, Past.none(one.params), np.random.default_rng(0), 0.0)
        for one in (plain, labelled)
    ]
    found_ = [status(one, 0.0) for one in aggregators]
    assert [one["caveat"] for one in found_] == ["", task.TRANSDUCTIVE]
    assert ["transductive" in line(one) for one in found_] == [False, True]
    console = Console(width=200)
    with console.capture() as shown:
        console.print(render(found_[1]))
    assert "transductive: the adapter has adapted to" in shown.get()


def test_the_label_of_a_transductive_run_outlives_a_resumption_that_is_none(tmp_path: Path) -> None:
    for notes in ({CAVEAT: task.TRANSDUCTIVE}, {}):
        opened(tmp_path / "ledger", notes=notes).close()
    assert Record.open(tmp_path / "ledger").meta()[CAVEAT] == task.TRANSDUCTIVE


def test_batches_of_the_pool_hold_nothing_twice_until_all_was_drawn() -> None:
    batches = Pool(np.arange(12, dtype=np.float32)[:, None], 5)
    batches.begin(3)
    first = [set(batches.batch()[:, 0].tolist()) for _ in range(4)]
    assert [len(batch) for batch in first] == [5] * 4
    assert not first[0] & first[1]
    batches.begin(3)
    assert set(batches.batch()[:, 0].tolist()) == first[0]
    assert len(Pool(np.zeros((3, 2), np.float32), 5).batch()) == 3


def test_the_ramp_is_danns_and_without_steps_the_published_constant() -> None:
    ramp = Ramp(4)
    expected = [2 / (1 + np.exp(-10 * share)) - 1 for share in (0, 0.25, 0.5, 0.75, 1, 1)]
    assert [ramp.next() for _ in expected] == pytest.approx(expected)
    assert [Ramp(0).next() for _ in range(2)] == [1.0, 1.0]
