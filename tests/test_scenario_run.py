"""Runs in virtual time: the same seed gives the same bits, faults cost what they should, and attackers are heard."""

from pathlib import Path
from typing import Any

import pytest

import scenery
from fedmq_bench.scenario import policies

POLICIES = tuple(policies.POLICIES)
EVERYTHING: dict[str, Any] = {
    "count": 5,
    "compute": {"dist": "pareto", "shape": 1.3, "most": 30.0},
    "speed": {"dist": "lognormal", "shape": 0.6},
    "up": {"mbps": 1.0, "rtt_ms": 50.0, "jitter_ms": 20.0, "loss": 0.01, "duplicate": 0.1, "reorder": 0.1},
    "down": {"mbps": 2.0, "rtt_ms": 50.0, "loss": 0.01, "duplicate": 0.1, "reorder": 0.1},
    "present": {"kind": "markov", "on_s": 40.0, "off_s": 10.0},
    "reachable": {"kind": "markov", "on_s": 60.0, "off_s": 3.0},
    "drop": {"before_training": 0.1, "mid_upload": 0.1, "after_upload": 0.1},
    "crash": {"every_s": 100.0},
    "skew": {"offset_s": 1000.0, "drift": 0.01},
    "byzantine": {"share": 0.2, "attack": "flip"},
    "joins_within_s": 5.0,
}


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_row_to_the_bit_through_all_weather_at_once(policy: str, tmp_path: Path) -> None:
    found = scenery.scenario(tmp_path, EVERYTHING, partitions=[{"at_s": 20.0, "for_s": 5.0}])
    one, other = (scenery.run(found, policy, trains=True) for _ in range(2))
    del one["wall_s"], other["wall_s"]
    assert one == other
    assert one["finished"]
    assert one["accepted"] >= 25


def test_another_seed_gives_other_versions(tmp_path: Path) -> None:
    rows = [scenery.run(scenery.scenario(tmp_path, EVERYTHING, seed=seed)) for seed in (0, 1)]
    assert len(set(scenery.digests(rows))) == 2


def test_without_training_time_and_bytes_are_what_they_are_with_it(tmp_path: Path) -> None:
    found = scenery.scenario(tmp_path, {"speed": {"dist": "lognormal"}})
    with_, without = (scenery.run(found, trains=trains) for trains in (True, False))
    assert with_["ended_s"] == pytest.approx(without["ended_s"], rel=0.01)
    assert with_["traffic"]["up_goodput"] == without["traffic"]["up_goodput"]


def test_a_sync_round_lasts_as_long_as_its_slowest_node_and_its_link(tmp_path: Path) -> None:
    slow = {"name": "slow", "count": 1, "compute": {"scale": 9.0}}
    row = scenery.run(scenery.scenario(tmp_path, {"compute": {"scale": 2.0}}, slow))
    # 2 x 20 ms there and back, and some hundred bytes at 1 and 2 Mbit/s.
    assert row["round_s"]["p50"] == pytest.approx(9.04, abs=0.02)
    assert row["stragglers"] == ["slow-0"]


def test_what_is_learned_is_measured_and_better_than_nothing(tmp_path: Path) -> None:
    row = scenery.run(scenery.scenario(tmp_path), trains=True)
    assert row["curve"][-1]["accuracy"] > row["zero_shot"]
    assert [point["updates"] for point in row["curve"]] == [0, 4, 8, 12, 16, 20]


def test_a_lost_upload_is_sent_again_and_counts_once(tmp_path: Path) -> None:
    found = scenery.scenario(tmp_path, {"drop": {"mid_upload": 0.4, "back_s": 1.0}})
    row = scenery.run(found)
    calm = scenery.run(scenery.scenario(tmp_path))
    assert row["accepted"] == calm["accepted"] == 20
    assert row["traffic"]["up_goodput"] == calm["traffic"]["up_goodput"]
    assert row["wasted_bytes"] > 0 == calm["wasted_bytes"]


@pytest.mark.parametrize("phase", ["before_training", "after_upload"])
def test_a_node_that_dies_in_its_task_comes_back_with_its_memory_and_nothing_counts_twice(
    phase: str, tmp_path: Path
) -> None:
    row = scenery.run(scenery.scenario(tmp_path, {"drop": {phase: 0.3, "back_s": 2.0}}))
    assert (row["finished"], row["refused"]) == (True, {})
    assert row["accepted"] == sum(row["participation"].values()) == 20
    assert row["participation_min"] >= 3


def test_no_deadline_round_that_anybody_delivers_in_waits_a_tenth_longer_than_its_deadline(tmp_path: Path) -> None:
    slow = {"name": "slow", "count": 1, "compute": {"scale": 50.0}}
    faults = {"count": 9, "drop": {"before_training": 0.2, "after_upload": 0.2}, "compute": {"scale": 0.5}}
    found = scenery.scenario(tmp_path, faults, slow, policies={"deadline": {"rounds": {"deadline_s": 4.0}}})
    row = scenery.run(found, "deadline")
    assert 4.0 <= row["round_s"]["max"] <= 4.4


def test_other_policies_have_the_time_of_sync_and_so_many_times_its_updates(tmp_path: Path) -> None:
    slow = {"name": "slow", "count": 1, "compute": {"scale": 10.0}}
    rows = [
        scenery.run(scenery.scenario(tmp_path, {}, slow, stop={"updates_per_node": 5, "others": others}), policy)
        for policy, others in (("sync", 2.0), ("fedasync", 2.0), ("fedasync", 100.0))
    ]
    assert [row["finished"] for row in rows] == [True] * 3
    assert (rows[0]["accepted"], rows[1]["accepted"]) == (25, 50)
    assert rows[2]["ended_s"] == pytest.approx(rows[0]["ended_s"])
    assert rows[1]["ended_s"] < rows[0]["ended_s"]


def test_who_joins_late_takes_part_and_who_leaves_is_not_waited_for(tmp_path: Path) -> None:
    late = {"name": "late", "count": 1, "joins_s": 3.0}
    gone = {"name": "gone", "count": 1, "leaves_s": 2.5}
    row = scenery.run(scenery.scenario(tmp_path, {}, late, gone))
    assert row["participation"]["gone-0"] == 2
    assert 0 < row["participation"]["late-0"] < row["participation"]["node-0"]
    assert row["round_s"]["max"] < 2.5


def test_a_federation_that_nobody_can_reach_is_given_up(tmp_path: Path) -> None:
    row = scenery.run(scenery.scenario(tmp_path, partitions=[{"at_s": 0.0, "for_s": 1e6}]))
    assert (row["finished"], row["accepted"], row["participation_min"]) == (False, 0, 0)


@pytest.mark.parametrize("attack", ["flip", "scale", "noise", "labels", "claim", "zero"])
def test_attackers_change_what_is_learned(attack: str, tmp_path: Path) -> None:
    byzantine = {"share": 0.25, "attack": attack, "by": 3.0}
    calm, attacked = (
        scenery.run(scenery.scenario(tmp_path, group, stop={"updates_per_node": 2}), trains=True)
        for group in ({}, {"byzantine": byzantine})
    )
    assert calm["digest"] != attacked["digest"]


def test_an_attacker_without_numbers_is_refused_by_name(tmp_path: Path) -> None:
    row = scenery.run(scenery.scenario(tmp_path, {"byzantine": {"share": 0.25, "attack": "nan"}}), "quorum", True)
    assert set(row["refused"]) == {"bad_payload"}
    assert row["participation_min"] == 0
