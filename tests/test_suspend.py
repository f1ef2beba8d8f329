"""A lid that is closed, a clock that is set: a process stands still or time jumps, and nothing is lost."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest

import running
from fedmq.messages import Code
from fedmq.record import LEDGER, Record
from running import Running
from test_shells import SETTINGS, federation, shell
from test_shells import run as run_shells
from toy import Toy, bundle, job

SLOW = ("--examples-per-s", "400")  # about seven rounds a second


@pytest.fixture(autouse=True)
def settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running.settle(tmp_path, monkeypatch, "ab")


def test_a_node_that_is_suspended_is_missed_and_goes_on_when_it_wakes() -> None:
    with Running() as fleet:
        node, _ = fleet.join("a", *SLOW), fleet.join("b", *SLOW)
        fleet.until(lambda status: status["version"] >= 2 and min(map(accepted, "ab")) >= 2)
        node.process.send_signal(signal.SIGSTOP)
        asleep = fleet.until(lambda status: of(status, "a")["state"] == "gone")
        fleet.until(lambda status: status["version"] >= asleep["version"] + 2)  # the other one goes on without it
        had = accepted("a")
        node.process.send_signal(signal.SIGCONT)
        fleet.until(lambda status: accepted("a") >= had + 2)
    assert [in_order(node) for node in "ab"] == [True, True]


def test_an_aggregator_that_is_suspended_finds_its_nodes_again_when_it_wakes() -> None:
    with Running() as fleet:
        node = fleet.join("a", *SLOW)
        before = fleet.until(lambda status: status["version"] >= 2)
        fleet.aggregator.process.send_signal(signal.SIGSTOP)
        gone = node.line("link.lost")
        fleet.aggregator.process.send_signal(signal.SIGCONT)
        fleet.until(lambda status: status["version"] >= before["version"] + 3)
        assert node.process.poll() is None, gone
    assert in_order("a")


def test_a_clock_that_is_set_back_by_a_day_changes_nothing_but_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, set_back = bundle(tmp_path / "bundle"), iter(range(10**9))
    truly = time.time
    monkeypatch.setattr(time, "time", lambda: truly() - 86400.0 * next(set_back))  # a day earlier at each look

    async def scenario() -> None:
        shells = {name: shell(found, name, Toy(80, seed)) for seed, name in enumerate("ab")}
        done = await federation(tmp_path / "run", SETTINGS, job(found), shells)
        assert {one.reason for one in done.values()} == {"finished"}

    run_shells(scenario)
    with Record.open(tmp_path / "run" / LEDGER) as record:
        at = [row["closed_at"] for row in record.versions()]
        assert at == sorted(at)
    assert [in_order(node) for node in "ab"] == [True, True]


def of(status: dict[str, Any], node: str) -> dict[str, Any]:
    return next((row for row in status["nodes"] if row["name"] == node), {"state": "unknown", "id": ""})


def accepted(node: str) -> int:
    """How many updates of this node are in the ledger."""
    with Record.open(Path("run") / LEDGER) as record:
        return sum(row["node"] == node and row["code"] == Code.ACCEPTED for row in record.updates())


def in_order(node: str) -> bool:
    """Whether each update of this node was judged once, in order."""
    with Record.open(Path("run") / LEDGER) as record:
        seqs = [row["seq"] for row in record.updates() if row["node"] == node]
    return seqs == list(range(1, len(seqs) + 1))
