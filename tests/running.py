"""A federation of processes that a test starts, asks and kills, through the commands that a person types."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

import toy
from fedmq import control
from fedmq.errors import AddressUnusable

PATIENCE_S = 240.0
LOOK_S = 0.02


def federation(start_nodes: int) -> str:
    """Return a federation of which nobody says when it ends, as a file."""
    return f"""
federation = "toy"
bundle = "./toy"
run = "run"
start_nodes = {start_nodes}
[task]
lr = 0.05
[rounds]
preset = "quorum"
[pulse]
heartbeat_s = 0.2
lost_after_s = 3.0
"""


def settle(folder: Path, monkeypatch: pytest.MonkeyPatch, names: str, more: str = "") -> None:
    """Work in this folder, with features for these nodes, and a federation that begins with one of them."""
    toy.settle(folder, monkeypatch, names)
    (folder / "federation.toml").write_text(federation(start_nodes=1) + more)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "fedmq", *words]


def fedmq(*words: str, code: int = 0) -> str:
    """Run a command to its end and return what it printed."""
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def wait(holds: Callable[[], Any], what: str) -> Any:
    """Wait for what another process brings about, and return it."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(LOOK_S)
    raise AssertionError(f"{what} has not come in {PATIENCE_S:.0f} s")


class Logged:
    """A process whose log is a file."""

    def __init__(self, log: Path, *words: str) -> None:
        self.log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=errors, text=True)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def line(self, event: str) -> dict[str, Any]:
        """Wait for a line of this event, and return the first."""
        found = wait(lambda: [line for line in self.lines() if line["event"] == event], f"{event} in {self.log}")
        return dict(found[0])

    def kill(self) -> None:
        """Kill it with SIGKILL, once or more often."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def stop(self) -> None:
        """Have it end by itself, as Ctrl-C does."""
        self.process.terminate()
        self.process.wait(PATIENCE_S)
        self.kill()


class Running:
    """An aggregator in this folder, with its nodes; everything is killed in the end."""

    def __init__(self, *words: str, file: str = "federation.toml") -> None:
        self._words, self._file = words, file
        self.nodes: dict[str, Logged] = {}
        self.start()

    def start(self, *more: str) -> None:
        """Start the aggregator, or start it again where it was."""
        port = ("--set", "link.address=tcp://127.0.0.1:*")
        self.aggregator = Logged(Path("serve.log"), "serve", self._file, *port, *self._words, *more, "--json")
        assert self.aggregator.process.stdout is not None
        line = self.aggregator.process.stdout.readline()
        assert line, Path("serve.log").read_text()[-2000:]
        self.told: dict[str, str] = json.loads(line)

    def fails(self, *words: str) -> str:
        """Start another aggregator that cannot be started, and return what it says."""
        done = subprocess.run(
            command("serve", self._file, "--set", "link.address=tcp://127.0.0.1:*", *words),
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode > 0
        return " ".join(done.stderr.split())

    def join(self, name: str, *words: str) -> Logged:
        """Start a node."""
        common = ("--features", f"{name}.npz", "--bundle", "./toy", "--name", name, "--state", "state")
        self.nodes[name] = Logged(Path(f"{name}.log"), "join", self.told["listening"], *common, *words)
        return self.nodes[name]

    def status(self) -> dict[str, Any]:
        try:
            return control.ask(Path(self.told["run"]))
        except AddressUnusable:
            return {}

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the status is such that `holds`, and return it."""

        def asked() -> dict[str, Any] | None:
            found = self.status()
            return found if found and holds(found) else None

        found: dict[str, Any] = wait(asked, "that status")
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self.aggregator, *self.nodes.values()):
            one.kill()
