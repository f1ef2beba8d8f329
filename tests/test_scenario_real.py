"""Real runs: what the plan says happens to real processes, nothing is lost or counted twice, and virtual time agrees.

Bytes are held to what they should be. Times depend on what else this machine does; `fedmq scenario agree` holds them.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import scenery
from fedmq.errors import ConfigInvalid
from fedmq_bench.commands import app
from fedmq_bench.rows import RESULTS, read_file
from fedmq_bench.scenario import agree, data, file, real, simulated, speed
from fedmq_bench.scenario.form import Scenario
from fedmq_bench.scenario.ground import Ground
from fedmq_bench.scenario.real import Over


def silent(_line: str) -> None:
    pass


def for_real(what: Scenario, policy: str = "sync", trains: bool = False, over: Over = Over.ZMQ) -> dict[str, Any]:
    return real.run(what, policy, data.pool(what.data.source, silent), trains, over)


@pytest.mark.parametrize("preset", ["homogeneous", "byzantine-fifth", "lost-uploads"])
def test_eight_nodes_of_a_preset_take_the_same_bytes_in_both_engines(preset: str, tmp_path: Path) -> None:
    short = ["stop.updates_per_node=2", "stop.others=1.0", f"data.source={scenery.features(tmp_path)}"]
    found = agree.resized(file.read(preset, short))
    row = agree.agreement(found, "sync", data.pool(found.data.source, silent), silent)
    assert (row["versions"], row["nodes"], row["goodput_equal"]) == (2, 8, True)
    assert row["application_off"] <= agree.APPLICATION


def test_who_is_killed_in_any_phase_comes_back_with_its_state_and_nothing_counts_twice(tmp_path: Path) -> None:
    drop = {"before_training": 0.2, "mid_upload": 0.2, "after_upload": 0.2, "back_s": 0.3}
    found = scenery.scenario(
        tmp_path, {"drop": drop, "compute": {"scale": 0.1}, "crash": {"every_s": 3.0, "back_s": 0.3}}
    )
    row = for_real(found)
    assert (row["finished"], row["engine"], row["refused"]) == (True, "real", {})
    assert row["accepted"] == sum(row["participation"].values()) == 20
    assert row["wasted_bytes"] > 0


def test_versions_have_the_same_bits_in_both_engines_whatever_the_seed_and_also_if_they_are_learned(
    tmp_path: Path,
) -> None:
    # One node after the other: the order in which updates come is then the plan's, and not this machine's.
    groups = [{"name": f"at-{at}", "count": 1, "compute": {"scale": 0.2 + 0.3 * at}} for at in range(3)]
    found = scenery.scenario(tmp_path, *groups, seed=3, stop={"updates_per_node": 3})
    rows = [for_real(found, trains=True), scenery.run(found, trains=True)]
    assert rows[0]["digest"] == rows[1]["digest"]
    assert [rows[0][key] for key in ("zero_shot", "versions", "participation")] == [
        rows[1][key] for key in ("zero_shot", "versions", "participation")
    ]
    assert [point["accuracy"] for point in rows[0]["curve"]] == [point["accuracy"] for point in rows[1]["curve"]]


def test_over_a_broker_the_plan_holds_too(tmp_path: Path) -> None:
    found = scenery.scenario(tmp_path, {"drop": {"mid_upload": 0.3, "back_s": 0.3}, "compute": {"scale": 0.1}})
    row = for_real(found, over=Over.MQTT)
    assert (row["finished"], row["accepted"], row["link"]) == (True, 20, "mqtt")
    assert row["wasted_bytes"] > 0


def test_clocks_that_are_off_and_nodes_that_come_late_and_leave_are_no_reason_to_wait(tmp_path: Path) -> None:
    skewed = {"skew": {"offset_s": 1000.0, "drift": 0.01}, "count": 2, "compute": {"scale": 0.3}}
    late = {"name": "late", "count": 1, "joins_s": 1.0, "compute": {"scale": 0.3}}
    gone = {"name": "gone", "count": 1, "leaves_s": 0.9, "compute": {"scale": 0.3}}
    row = for_real(scenery.scenario(tmp_path, skewed, late, gone, stop={"updates_per_node": 4}))
    counts = row["participation"]
    assert row["finished"]
    assert 0 < counts["gone-0"] < counts["node-0"] > counts["late-0"] > 0


def test_a_real_run_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real, "TELL_S", 0.5)
    found, said = scenery.scenario(tmp_path, {"count": 2, "compute": {"scale": 0.3}}), list[str]()
    real.run(found, "sync", data.pool(found.data.source, silent), trains=False, say=said.append)
    told = [int(line.split()[2]) for line in said]
    assert told == sorted(told)
    assert all(line.endswith(" of 10 updates") for line in said)
    assert 0 <= told[0] < 10


def test_policies_are_compared_for_real_and_a_comparison_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scenery.features(tmp_path)
    (tmp_path / "own.toml").write_text(
        'data.source = "toy.npz"\nstop.updates_per_node = 2\n[[groups]]\ncount = 2\ncompute.scale = 0.2\n'
    )
    words = ["scenario", "compare", "own.toml", "--policies", "sync,quorum", "--seeds", "1", "--real", "--json"]
    first, second = (CliRunner().invoke(app, words, catch_exceptions=False) for _ in range(2))
    assert "2 runs, about " in first.stderr
    assert "2 of 2 runs are in own.jsonl already" in second.stderr
    rows = [json.loads(line) for line in first.stdout.splitlines()]
    assert [(row["engine"], row["policy"], row["participation_min"] > 0) for row in rows] == [
        ("real", "sync", True),
        ("real", "quorum", True),
    ]
    assert [json.loads(line)["digest"] for line in second.stdout.splitlines()] == [row["digest"] for row in rows]
    at_once = CliRunner().invoke(app, [*words, "--processes", "2"])
    assert isinstance(at_once.exception, ConfigInvalid)
    assert "--real runs one after the other on this machine" in str(at_once.exception)


def test_an_aggregator_that_ends_without_a_plan_ends_the_run_with_what_it_said(tmp_path: Path) -> None:
    found = scenery.scenario(tmp_path, federation={"limits": {"frame_bytes": 300}})
    with pytest.raises(RuntimeError, match="limit is 300; raise limits.frame_bytes") as caught:
        for_real(found)
    assert any("logs and ledger are in" in note for note in caught.value.__notes__)


def test_a_node_that_ends_without_a_plan_ends_the_run_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Ground.begin

    async def begin_and_kill(ground: Ground) -> None:
        await begin(ground)
        process = ground._machines["node-1"].process
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr(Ground, "begin", begin_and_kill)
    with pytest.raises(RuntimeError, match="node-1 ended with code -9; its log ends: "):
        for_real(scenery.scenario(tmp_path))


def test_a_link_that_there_is_not_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(ConfigInvalid, match="--link is 'pigeon'; there are zmq, mqtt"):
        Over.named("pigeon")


# Agreement


def commits(*found: tuple[float, int, int]) -> dict[str, Any]:
    return {"commits": list(found)}


@pytest.mark.parametrize(
    ("real_one", "agrees"),
    [
        (((1.1, 100, 1000), (2.2, 200, 2030)), True),
        (((1.2, 100, 1000), (2.2, 200, 2030)), False),  # the first version came a fifth later
        (((1.0, 101, 1000), (2.0, 200, 2000)), False),  # a byte of goodput
        (((1.0, 100, 1000), (2.0, 200, 2050)), False),  # 2.5 % of all bytes
        ((), False),
    ],
)
def test_two_runs_agree_if_goodput_is_equal_and_time_and_bytes_are_near(
    real_one: tuple[tuple[float, int, int], ...], agrees: bool
) -> None:
    modelled = commits((1.0, 100, 1000), (2.0, 200, 2000), (3.0, 300, 3000))
    assert agree._figures(modelled, commits(*real_one))["agrees"] is agrees


def test_the_page_has_the_table_of_the_rows_that_are_kept_and_every_preset_agrees_in_it() -> None:
    rows = list(read_file(RESULTS / "agreement.jsonl"))
    assert agree.table(rows) in (Path(__file__).parents[1] / "docs" / "scenarios.md").read_text()
    newest = {(row["preset"], row["policy"]): row["agrees"] for row in rows}
    assert {preset for preset, _ in newest} == set(file.presets())
    assert all(newest.values())


# Sizes and speeds


@pytest.mark.parametrize("preset", file.presets())
def test_a_preset_is_resized_with_a_node_of_each_of_its_groups(preset: str) -> None:
    found = agree.resized(file.read(preset))
    counts = [group.count for group in found.groups]
    assert sum(counts) == 8
    assert min(counts) >= 1


def test_ten_times_the_speed_is_a_tenth_of_the_time_and_as_many_bytes(tmp_path: Path) -> None:
    slow = {"count": 3, "compute": {"dist": "pareto", "shape": 1.3, "scale": 20.0, "most": 200.0}}
    links = {"up": {"mbps": 0.001, "rtt_ms": 400.0}, "down": {"mbps": 0.002, "rtt_ms": 400.0}}
    here, there = (
        simulated.run(found, "sync", data.pool(found.data.source, silent), trains=False)
        for found in (scenery.scenario(tmp_path, slow | links, speed=by) for by in (1.0, 10.0))
    )
    assert there["ended_s"] == pytest.approx(here["ended_s"] / 10, rel=0.02)
    assert there["traffic"]["up_goodput"] == here["traffic"]["up_goodput"]
    assert (here["speed"], there["speed"]) == (1.0, 10.0)


def test_a_trace_has_times_of_its_own_which_no_speed_changes(tmp_path: Path) -> None:
    (tmp_path / "trace.json").write_text('[{"finish_time": 10, "active": [0], "inactive": [5]}]')
    found = scenery.scenario(tmp_path, {"present": {"kind": "trace", "file": "trace.json"}}, speed=2.0)
    with pytest.raises(ConfigInvalid, match="speed is 2, and group node has a trace"):
        speed.scenario(found)
