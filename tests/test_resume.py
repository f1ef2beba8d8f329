"""Restart is resume: an aggregator that was killed at any moment goes on from its ledger, and nothing counts twice."""

from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator

from fedmq.codec import Frame
from fedmq.ledger import Keeping, Ledger
from fedmq.messages import Code
from fedmq.outer import Outer
from fedmq.plan import Codecs, Pulse, Settings, Stop
from fedmq.record import Record
from fedmq.rounds import PRESETS
from pair import Fleet, Worker, params

META = {"federation": "test", "feature_space": "x", "method": "fedclip"}


def fleet_with_ledger(path: Path, settings: Settings, workers: dict[str, Worker], seed: int) -> Fleet:
    fleet = Fleet(settings, workers, carry=slow_link, seed=seed, keep_s=0.3)
    fleet.ledger = open_ledger(path)
    return fleet


def open_ledger(path: Path) -> Ledger:
    return Ledger.open(path, META, {}, params(), Keeping(durable=True), epoch=0.0, now=0.0)


def slow_link(sender: str, receiver: str, frame: Frame, rng: Generator) -> tuple[float]:
    return (0.2 + 0.2 * float(rng.random()),)


def restart(fleet: Fleet, path: Path) -> None:
    """Kill the aggregator, with all that is under way to and from it, and start another on the same ledger."""
    assert fleet.ledger is not None
    fleet.simulation.remove("aggregator")
    fleet.ledger.close()
    fleet.ledger = open_ledger(path)
    fleet.start_aggregator(fleet.ledger.past())


@pytest.mark.parametrize("preset", ["sync", "quorum", "fedbuff"])
@pytest.mark.parametrize("seed", range(8))
def test_an_aggregator_killed_at_random_moments_loses_no_acknowledged_update_and_folds_none_twice(
    preset: str, seed: int, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.sqlite"
    settings = Settings(
        "test",
        rounds=PRESETS[preset],
        codec=Codecs("int8", "fp16"),
        outer=Outer("momentum", 0.5),
        start_nodes=3,
        pulse=Pulse(1.0, 5.0),
        stop=Stop(versions=8),
    )
    workers = {name: Worker(step=0.1 * (i + 1), train_s=1.0 + i, tests=4) for i, name in enumerate("abc")}
    fleet = fleet_with_ledger(path, settings, workers, seed)
    rng = np.random.default_rng(seed)
    for moment in np.cumsum(rng.uniform(0.5, 6.0, 5)):
        fleet.run(until_s=float(moment), stop=lambda: "aggregator" in fleet.done)
        if "aggregator" not in fleet.done:
            restart(fleet, path)
    fleet.run(until_s=500.0)

    record = Record.open(path)
    updates, versions = record.updates(), record.versions()
    accepted = sorted(row["number"] for row in updates if row["code"] == "accepted")
    told = {
        (log.fields["seq"], name)
        for _, name, log in fleet.simulation.logs
        if log.event == "update.judged" and log.fields["code"] == Code.ACCEPTED.value
    }
    assert [row["version"] for row in versions] == list(range(9))
    assert accepted == list(range(len(accepted)))
    assert sum(row["updates"] for row in versions) == versions[-1]["folded"] == len(accepted)
    assert told <= {(row["seq"], row["node"]) for row in updates if row["code"] == "accepted"}
    assert fleet.done["aggregator"].reason == "finished"


def test_a_run_that_was_killed_between_two_updates_ends_with_the_same_bits_as_one_that_was_not(tmp_path: Path) -> None:
    def digests(path: Path, killed_at: tuple[float, ...]) -> list[str]:
        settings = Settings(
            "test", codec=Codecs("int8", "int8"), start_nodes=2, outer=Outer("momentum"), pulse=Pulse(0.25, 5.0)
        )
        workers = {"fast": Worker(step=0.1, train_s=1.0), "slow": Worker(step=0.7, train_s=9.0, examples=30)}
        fleet = Fleet(settings, workers)
        fleet.ledger = open_ledger(path)
        for moment in killed_at:
            fleet.run(until_s=moment)
            restart(fleet, path)
        fleet.run(stop=lambda: len(fleet.versions()) == 4)
        return [row["digest"] for row in Record.open(path).versions()]

    # At 5 s the fast node's update is accepted and the slow one's is not there yet; so again at 16 s.
    assert digests(tmp_path / "killed", (5.0, 16.0)) == digests(tmp_path / "whole", ())


def test_nodes_that_were_connected_are_waited_for_after_a_restart_but_not_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    settings = Settings("test", codec=Codecs("fp32", "fp32"), start_nodes=2, pulse=Pulse(1.0, 5.0))
    fleet = Fleet(settings, {"stays": Worker(), "dies": Worker()})
    fleet.ledger = open_ledger(path)
    fleet.run(until_s=2.5)
    fleet.simulation.remove("dies")
    restart(fleet, path)
    fleet.run(stop=lambda: len(fleet.versions()) == 4)
    found = [(entry.version, entry.updates, entry.closed_at) for entry in fleet.versions()]
    assert found[2:] == [(3, 1, 8.5), (4, 1, 9.5)]


MONTH_S, DAY_S = 30 * 86_400.0, 86_400.0


@pytest.mark.parametrize("reinstalled", [False, True])
def test_a_node_that_comes_back_after_a_month_to_a_restarted_aggregator_goes_on_after_its_last_seq(
    tmp_path: Path, reinstalled: bool
) -> None:
    """Its link is gone for a month, in which the other node makes a version a day. The same process then delivers what
    it has kept, which is too old; a new one knows nothing. Either learns the newest version, and its next one counts.
    """
    path = tmp_path / "ledger.sqlite"
    gone = [False]

    def carry(sender: str, receiver: str, frame: Frame, rng: Generator) -> tuple[float, ...]:
        return () if gone[0] and "away" in (sender, receiver) else (0.1,)

    settings = Settings("test", rounds=PRESETS["fedasync"], codec=Codecs("int8", "fp16"), pulse=Pulse(3600.0, 7200.0))
    fleet = Fleet(settings, {"stays": Worker(train_s=DAY_S), "away": Worker(train_s=DAY_S)}, carry=carry)
    fleet.ledger = open_ledger(path)
    fleet.run(until_s=2.5 * DAY_S)
    gone[0] = True
    fleet.run(until_s=MONTH_S)
    restart(fleet, path)
    fleet.run(until_s=MONTH_S + DAY_S)
    before = {row["node"]: row["seq"] for row in Record.open(path).updates()}
    assert (before["away"], before["stays"] > 25) == (2, True)
    gone[0] = False
    if reinstalled:
        fleet.simulation.remove("away")
        fleet.start_node("away")
    fleet.run(until_s=MONTH_S + 3 * DAY_S)
    rows = [row for row in Record.open(path).updates() if row["node"] == "away"]
    late = [] if reinstalled else [(3, "too_stale")]
    found = [(row["seq"], row["code"]) for row in rows if row["seq"] > 2]
    assert found[: len(late) + 1] == [*late, (3 + len(late), "accepted")]
    accepted = sorted(row["number"] for row in Record.open(path).updates() if row["number"] is not None)
    assert accepted == list(range(len(accepted)))


def test_a_restart_resumes_with_whoever_is_connected_then(tmp_path: Path) -> None:
    """Everyone whom the ledger knows is gone for good, and somebody else comes."""
    path = tmp_path / "ledger.sqlite"
    settings = Settings("test", codec=Codecs("fp32", "fp32"), start_nodes=2, pulse=Pulse(1.0, 5.0))
    fleet = Fleet(settings, {"old-1": Worker(), "old-2": Worker(), "new": Worker()})
    fleet.simulation.remove("new")
    fleet.ledger = open_ledger(path)
    fleet.run(until_s=2.5)
    fleet.simulation.remove("old-1")
    fleet.simulation.remove("old-2")
    restart(fleet, path)
    fleet.start_node("new")
    fleet.run(stop=lambda: len(fleet.versions()) == 4)
    rows = Record.open(path).versions()
    assert [row["version"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["updates"] for row in rows] == [0, 2, 2, 1, 1]
