"""Comparisons: what is run again and what is not, the figures of rows, and what they lead a person to choose."""

import json
import math
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import scenery
from fedmq import config
from fedmq.errors import ConfigInvalid
from fedmq_bench.commands import app
from fedmq_bench.errors import ResultsUnusable
from fedmq_bench.harness import Say
from fedmq_bench.rows import RESULTS, read_file
from fedmq_bench.scenario import compare, policies, simulated, sweep, told
from fedmq_bench.scenario.advise import advise
from fedmq_bench.scenario.sweep import Row, Task

ROOT = Path(__file__).parents[1]


def silent(_line: str) -> None:
    pass


def point(at: float, accuracy: float, stragglers: float = 0.5) -> dict[str, float]:
    return {
        "at": at, "version": int(at), "updates": int(10 * at), "up_goodput": 100 * at, "bytes": 1000 * at,
        "accuracy": accuracy, "worst": accuracy - 0.1, "stragglers": stragglers,
    }  # fmt: skip


def row(policy: str, curve: list[dict[str, float]], seed: int = 0, **other: Any) -> Row:
    return {
        "preset": "toy", "policy": policy, "engine": "sim", "seed": seed, "nodes": 2, "accepted": 10, "ended_s": 50.0,
        "finished": True, "versions": 5, "wasted_bytes": 0, "refused": {}, "participation": {"a": 4, "b": 6},
        "participation_min": 4, "staleness": {"0": 9, "2": 1}, "round_s": {"max": 3.0}, "digest": "", "curve": curve,
        **other,
    }  # fmt: skip


SYNC = row("sync", [point(0, 0.5), point(10, 0.7), point(20, 0.79), point(30, 0.8)])


# Figures


def test_a_target_is_a_share_of_the_best_of_sync_with_the_same_seed_and_reached_at_the_first_version_that_has_it() -> (
    None
):
    fast = row("cached", [point(0, 0.5), point(2, 0.77), point(4, 0.7), point(6, 0.795)])
    slow = row("deadline", [point(0, 0.5), point(40, 0.765)])
    _, cached, deadline = compare.figures([SYNC, fast, slow])
    # 0.95 and 0.99 of 0.8 are 0.76 and 0.792.
    assert (cached["time_to_95_s"], cached["time_to_99_s"], cached["bytes_to_99"]) == (2, 6, 6000)
    assert cached["times_as_fast"] == pytest.approx(5.0)
    assert (deadline["time_to_95_s"], deadline["time_to_99_s"], deadline["finished"]) == (40, None, False)


def test_each_seed_is_compared_with_its_own_sync() -> None:
    other = row("sync", [point(0, 0.5), point(100, 0.4)], seed=1)
    found = compare.figures([SYNC, other, row("cached", [point(3, 0.5)], seed=1)])
    assert found[2]["time_to_99_s"] == 3


def test_medians_are_observed_and_a_run_that_was_not_there_is_later_and_slower_than_all() -> None:
    rows = [SYNC, *(row("cached", [point(at, 0.8)]) for at in (1, 2)), row("cached", [point(9, 0.1)])]
    _, cached = compare.summaries(compare.figures(rows))
    assert cached.values["time_to_99_s"] == (2, 2, None) or cached.values["time_to_99_s"] == (1, 2, None)
    assert cached.values["times_as_fast"][1] == 15.0  # of 30, 15 and not there: the latest is the slowest
    assert (cached.finished, cached.seeds, cached.staleness) == (2, 3, {0: 27, 2: 3})


@pytest.mark.parametrize(
    ("counts", "gini"), [([3, 3, 3], 0.0), ([0, 0, 0], 0.0), ([0, 0, 9], 2 / 3), ([1, 2, 3, 4], 0.25)]
)
def test_gini_is_half_the_mean_difference_over_the_mean(counts: list[float], gini: float) -> None:
    pairs = [abs(a - b) for a in counts for b in counts]
    reference = sum(pairs) / (2 * len(counts) * sum(counts)) if sum(counts) else 0.0
    assert compare.gini(counts) == pytest.approx(gini) == pytest.approx(reference)


def test_there_is_nothing_to_compare_without_sync() -> None:
    with pytest.raises(ConfigInvalid, match="--policies is quorum,cached: it takes sync as well"):
        compare.require_sync(["quorum", "cached"])


# Advice


def advised(*rows: Row) -> tuple[str | None, str]:
    advice = advise(compare.summaries(compare.figures([SYNC, *rows])))
    return advice.policy, " ".join(advice.reasons)


def test_the_fastest_is_chosen_of_those_that_leave_nobody_behind() -> None:
    left_out = row("quorum", [point(1, 0.8)], participation_min=0)
    unfair = row("fedbuff", [point(2, 0.8, stragglers=0.4)])
    never = row("fedasync", [point(3, 0.6)])
    good = row("cached", [point(5, 0.8)])
    policy, said = advised(left_out, unfair, never, good)
    assert policy == "cached"
    assert "6.0 times as fast as sync" in said
    assert "quorum: at least one node has no update in it." in said
    assert "fedbuff: stragglers end 10.0 points below" in said
    assert "fedasync: 99 % of the synchronous accuracy was not reached in 1 of 1 runs." in said


def test_clearly_fewer_bytes_win_over_a_little_time() -> None:
    fast = row("cached", [point(5, 0.8)])
    thrifty = row("quorum", [{**point(5.5, 0.8), "bytes": 2000.0}])
    assert advised(fast, thrifty)[0] == "quorum"
    assert advised(fast, row("quorum", [{**point(8, 0.8), "bytes": 2000.0}]))[0] == "cached"


def test_nothing_is_advised_where_nothing_was_trained() -> None:
    assert advise(compare.summaries(compare.figures([{**SYNC, "curve": []}]))).policy is None


# Sweeps


def counted(ran: list[Task]) -> sweep.Runner:
    def runner(wanted: Iterable[Task], _say: Say) -> Iterator[Row]:
        for task in wanted:
            ran.append(task)
            yield {"key": task.key, "policy": task.policy, "seed": task.scenario.seed, "wall_s": 0.0}

    return runner


def test_a_stopped_sweep_goes_on_where_it_was_also_behind_a_line_that_was_cut_short(tmp_path: Path) -> None:
    tasks, kept = sweep.tasks(scenery.scenario(tmp_path), ["sync", "quorum"], seeds=2), tmp_path / "rows.jsonl"
    ran: list[Task] = []
    sweep.sweep(tasks[:2], kept, counted(ran), {}, silent)
    kept.write_text(kept.read_text() + '{"key": "cut sh')
    rows = sweep.sweep(tasks, kept, counted(ran), {}, silent)
    assert [task.policy for task in ran] == ["sync", "quorum", "sync", "quorum"]
    assert [found["seed"] for found in rows] == [0, 0, 1, 1]
    assert sweep.forecast(tasks, kept, 2, silent) == 0.0
    assert len([json.loads(line) for line in kept.read_text().splitlines()]) == 4


def test_a_run_is_another_if_anything_in_its_scenario_is(tmp_path: Path) -> None:
    keys = {
        task.key
        for group in ({}, {"count": 5}, {"up": {"mbps": 2.0}})
        for trains in (True, False)
        for task in sweep.tasks(scenery.scenario(tmp_path, group), ["sync", "quorum"], 2, trains)
    }
    assert len(keys) == 3 * 2 * 2 * 2


def test_a_run_is_another_if_its_policy_is_not_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (task,) = sweep.tasks(scenery.scenario(tmp_path), ["quorum"], 1)
    before = task.key
    monkeypatch.setattr(policies, "POLICIES", {"quorum": {"rounds": {"preset": "quorum", "max_staleness": 3}}})
    assert before != task.key


def test_a_file_that_is_none_of_a_sweep_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\nrows\n")
    with pytest.raises(ResultsUnusable, match="give --rows another name"):
        sweep.sweep([], path, counted([]), {}, silent)
    assert path.read_text() == "dear diary\nrows\n"
    path.write_text("dear diary")
    with pytest.raises(ResultsUnusable, match="give --rows another name"):
        sweep.sweep([], path, counted([]), {}, silent)
    assert path.read_text() == "dear diary"


def test_processes_give_the_same_digests_as_one(tmp_path: Path) -> None:
    tasks = sweep.tasks(scenery.scenario(tmp_path), ["sync", "fedbuff"], 1)
    both = [sorted(found["digest"] for found in sweep.pooled(count)(tasks, silent)) for count in (1, 2)]
    assert both[0] == both[1]
    assert list(sweep.pooled(2)([], silent)) == []


def test_a_forecast_counts_each_run_with_its_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = sweep.tasks(scenery.scenario(tmp_path), ["sync", "quorum"], 3)
    monkeypatch.setattr(simulated, "training_s", lambda _scenario, _pool: 10.0)
    said: list[str] = []
    seconds = sweep.forecast(tasks, tmp_path / "rows.jsonl", 1, said.append)
    assert 6 * 20 * 10.0 <= seconds <= 6 * (23 * 10.0 + 20)
    assert said[-1].startswith("6 runs, about ")


@pytest.mark.parametrize("policy", [*policies.POLICIES, "own"])
def test_what_is_advised_can_be_pasted_into_a_federation_file(policy: str, tmp_path: Path) -> None:
    found = scenery.scenario(tmp_path, policies={"own": {"rounds": {"preset": "deadline", "deadline_s": 3.0}}})
    pasted = tomllib.loads("\n".join(['federation = "scenario"', *policies.recipe(found, policy)]))
    read, ran = config.federation(pasted, "pasted", tmp_path), policies.settings(found, policy)
    assert (read.rounds, read.rule, read.weight) == (ran.rounds, ran.rule, ran.weight)


def test_the_page_of_scenarios_has_the_table_of_the_rows_that_are_kept() -> None:
    assert told.table(read_file(RESULTS / "scenario.jsonl")) in (ROOT / "docs" / "scenarios.md").read_text()


# End to end


def test_a_comparison_ends_with_a_page_that_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scenery.features(tmp_path)
    (tmp_path / "own.toml").write_text(
        'data.source = "toy.npz"\ndescribe = "Two kinds of nodes."\ntask.lr = 0.05\nstop.updates_per_node = 4\n'
        '[[groups]]\ncount = 3\n[[groups]]\nname = "slow"\ncompute.scale = 8.0\n'
    )
    words = ["scenario", "compare", "own.toml", "--policies", "sync,cached", "--seeds", "2", "--json"]
    result = CliRunner().invoke(app, [*words, "--processes", "1"], catch_exceptions=False)
    assert result.exit_code == 0
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    asked = {"preset", "policy", "engine", "seed", "time_to_95_s", "time_to_99_s", "bytes_to_99", "wasted_bytes",
             "participation_min", "straggler_accuracy", "finished"}  # fmt: skip
    assert len(rows) == 4
    assert all(asked <= found.keys() for found in rows)
    assert "| own, 4 nodes, 2 seeds | " in result.stderr
    assert "to choose: " in result.stderr
    written = result.stderr.partition("in federation.toml:\n")[2].partition("report: ")[0]
    html = (tmp_path / "own.html").read_text()
    assert written
    assert all(line.strip() in html.replace("&#34;", '"') for line in written.splitlines())
    assert "http" not in html.replace("http://www.w3.org", "")
    assert html.count("<svg") >= 5
    assert "Two kinds of nodes." in html
    assert not any(math.isnan(value) for found in rows for value in found.values() if isinstance(value, float))
    again = CliRunner().invoke(app, [*words, "--processes", "1"], catch_exceptions=False)
    assert "4 of 4 runs are in own.jsonl already" in again.stderr
    assert [json.loads(line)["digest"] for line in again.stdout.splitlines()] == [found["digest"] for found in rows]


def test_one_run_says_what_came_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scenery.features(tmp_path)
    (tmp_path / "own.toml").write_text('data.source = "toy.npz"\n[[groups]]\ncount = 3\n')
    words = ["scenario", "run", "own.toml", "--sim", "--policy", "quorum", "--seed", "4", "--no-training"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "own under quorum, 3 nodes, seed 4: 30 versions of 90 updates in " in result.stdout
    listed = CliRunner().invoke(app, ["scenario", "list"], catch_exceptions=False)
    assert "slow-rare-domain" in listed.stdout
