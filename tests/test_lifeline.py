"""Who is started by a process that is killed ends as well; who is started by hand does not care."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from fedmq import control
from fedmq.errors import AddressUnusable
from fedmq.record import LEDGER, Record
from toy import settle

PATIENCE_S = 240.0
FLEET = """
[federation]
federation = "toy"
bundle = "./toy"
run = "run"
rounds.preset = "quorum"
pulse.heartbeat_s = 0.2
pulse.lost_after_s = 3.0
[defaults]
bundle = "./toy"
state = "state"
examples_per_s = 200.0
[[nodes]]
name = "a"
features = "a.npz"
[[nodes]]
name = "b"
features = "b.npz"
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(tmp_path, monkeypatch, "ab")
    Path("fleet.toml").write_text(FLEET)


@contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python meanwhile, as one that a person starts and leaves alone: it can read nothing, not even at first."""
    command = [sys.executable, *words]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def fedmq(*words: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return started("-m", "fedmq", *words)


def line(process: subprocess.Popen[str]) -> str:
    """Return what a process says next."""
    assert process.stdout is not None
    return process.stdout.readline()


def children(parent: int) -> list[int]:
    """Return the processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name of a process stands in parentheses and may hold anything; its parent is the second word after it.
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


def wait_for_version(process: subprocess.Popen[str], version: int) -> None:
    """Ask the aggregator until it says so, for as long as the process that started it lives."""
    found = -1
    while found < version:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
        with suppress(AddressUnusable):
            found = control.ask(Path("run"))["version"]


def wait_for_the_end(pids: Iterable[int]) -> None:
    """Wait until each of these processes has ended, whoever may be its parent by now."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([handle], [], [], PATIENCE_S)[0], f"process {pid} lives on"
        finally:
            os.close(handle)


def test_the_processes_of_a_fleet_end_when_up_is_killed_and_the_next_up_goes_on() -> None:
    with fedmq("up", "fleet.toml") as up:
        wait_for_version(up, 2)
        orphans = children(up.pid)
        assert len(orphans) == 3
        up.kill()
        wait_for_the_end(orphans)
    before = Record.open(Path("run") / LEDGER).versions()
    with fedmq("up", "fleet.toml", "--set", f"stop.versions={len(before) + 1}") as again:
        assert again.wait(PATIENCE_S) == 0
    after = Record.open(Path("run") / LEDGER).versions()
    assert (after[: len(before)], after[-1]["version"]) == (before, len(before) + 1)


def test_who_is_started_by_hand_does_not_care_that_standard_input_has_ended() -> None:
    words = ("--set", "link.address=tcp://127.0.0.1:*", "--set", "stop.versions=2", "--json")
    with fedmq("serve", "fleet.toml", *words) as aggregator:
        join = (
            "join",
            json.loads(line(aggregator))["listening"],
            "--bundle",
            "./toy",
            "--state",
            "state",
            "--features",
        )
        with fedmq(*join, "a.npz", "--name", "a") as a, fedmq(*join, "b.npz", "--name", "b") as b:
            assert [process.wait(PATIENCE_S) for process in (aggregator, a, b)] == [0, 0, 0]


DRAWING = r"""
import os, time
from concurrent.futures import ProcessPoolExecutor
from fedmq_nodes.lifeline import hold_worker
def work(_number):
    os.write(1, f"{os.getpid()}\n".encode())
    time.sleep(1000)
with ProcessPoolExecutor(2, initializer=hold_worker) as pool:
    list(pool.map(work, range(2)))
"""


def test_the_workers_of_a_process_that_is_killed_end_while_they_work() -> None:
    with started("-c", DRAWING) as parent:
        workers = [int(line(parent)) for _ in range(2)]
        parent.kill()
        wait_for_the_end(workers)


TRAINING = r"""
import time
from multiprocessing import active_children
import numpy as np
from fedmq_bench.scenario.ahead import training
from fedmq_models.training import Training
from fedmq_nodes.task import Task
with training(2, Task(Training(), ("cat", "dog"), 1.0, np.eye(2, dtype=np.float32)), 10):
    print(*(process.pid for process in active_children()), flush=True)
    time.sleep(1000)
"""


def test_processes_that_train_for_one_that_is_killed_end_as_well() -> None:
    with started("-c", TRAINING) as parent:
        workers = list(map(int, line(parent).split()))
        assert len(workers) == 2
        parent.kill()
        wait_for_the_end(workers)
