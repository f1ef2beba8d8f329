"""The bench of baselines: its rows are of the domains that it is given, and those that send nothing send nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmq.errors import ConfigInvalid
from fedmq_bench import report
from fedmq_bench.baselines import Place, measure, trainings
from fedmq_models import bundle as bundles
from fedmq_models import classifier
from fedmq_models.target import Target
from fedmq_nodes.errors import TargetLeaks
from learners import SCALE, domain, text


@pytest.fixture
def place(tmp_path: Path) -> Place:
    parts = {name: domain(120, seed, turn=0.4) for seed, name in enumerate(("art", "photo", "sketch"))}
    arrays = {
        "features": np.concatenate([part.features for part in parts.values()]),
        "labels": np.concatenate([part.labels for part in parts.values()]),
        "domains": np.repeat(list(parts), 120),
    }
    np.savez(tmp_path / "drawn.npz", **arrays)  # type: ignore[arg-type]
    made = bundles.write(
        tmp_path / "b", name="drawn", labels=("a", "b", "c"), text=text(), logit_scale=SCALE, declared_space="drawn"
    )
    return Place(tmp_path / "drawn.npz", "domains", made)


def rows(place: Place, methods: str, versions: int = 4) -> list[dict[str, Any]]:
    ways = trainings(methods, ["task.lr=0.1", "task.epochs=2", "task.batch_size=16"])
    return list(measure(place, ways, versions, [0], "fp32", lambda _line: None))


def test_each_domain_is_held_out_once_per_method_and_the_frozen_model_is_what_it_is(place: Place) -> None:
    found = rows(place, "zero-shot,linear", versions=1)
    assert [(row["method"], row["split"]) for row in found] == [
        (way, split) for split in ("art", "photo", "sketch") for way in ("zero-shot", "linear")
    ]
    held_out = place.load("art", train=False).test
    assert len(held_out) == 120
    frozen = classifier.accuracy(held_out.batch(slice(None)), text(), held_out.labels)
    assert (found[0]["held_out"], found[0]["bytes_total"], found[0]["rounds"]) == (frozen, 0, 0)
    assert json.loads(json.dumps(found)) == found
    told = report.sentence({**found[0], "context": {}})
    assert told.startswith("zero-shot on drawn with drawn, art held out, 0 rounds, seed 0")


def test_who_stays_alone_sends_nothing_learns_for_itself_and_is_zero_shot_elsewhere(place: Place) -> None:
    for frozen, local in zip(*(rows(place, way) for way in ("zero-shot", "local")), strict=True):
        assert (local["bytes_total"], local["held_out"]) == (0, frozen["held_out"])
        assert local["personal"] == local["participants"] > frozen["participants"]


def test_a_federation_is_measured_by_its_own_cores_and_a_personal_part_shows(place: Place) -> None:
    for row in rows(place, "fedot"):
        assert row["personal"] > row["participants"]
        assert row["worst_node"] <= row["personal"]
        # Down and up: version 0 and four more to three nodes, four updates of two, of 24 float32 each, and envelopes.
        assert 0 < row["bytes_total"] - (3 * 5 + 2 * 4) * 4 * 24 < 20_000


def test_what_cannot_be_set_or_is_not_there_is_a_sentence(place: Place) -> None:
    with pytest.raises(ConfigInvalid, match="only keys of task"):
        trainings("linear", ["rounds.goal=3"])
    with pytest.raises(ConfigInvalid, match="has no column 'city'; it has features, labels, domains"):
        Place(place.features, "city", place.bundle).names()


def test_a_method_that_adapts_is_handed_its_pool_and_one_that_nobody_is_tested_on(place: Place, tmp_path: Path) -> None:
    np.savez(tmp_path / "pool.npz", features=domain(60, 9, turn=0.4).features)
    ways = trainings("linear,faaclip", [f'task.target.pool="{tmp_path / "pool.npz"}"', "task.target.ramp_steps=0"])
    assert (ways["linear"].target, ways["faaclip"].target.ramp_steps) == (Target(), 0)
    found = list(measure(place, ways, 1, [0], "fp32", lambda _line: None))
    assert {row["transductive"] for row in found} == {False}
    leaking = trainings("faaclip", [f'task.target.pool="{place.features}"', "task.target.rows=0"])
    with pytest.raises(TargetLeaks, match="of the 120 images that this node tests on"):
        next(measure(place, leaking, 1, [0], "fp32", lambda _line: None))
    told = replace(leaking["faaclip"], target=replace(leaking["faaclip"].target, transductive=True))
    row = next(measure(place, {"faaclip": told}, 1, [0], "fp32", lambda _line: None))
    assert "seed 0, transductive" in report.sentence({**row, "context": {}})
