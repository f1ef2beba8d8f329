"""A node without torch: it counts and evaluates, is small, and says what it cannot do. Real processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from fedmq.record import LEDGER, Record
from fedmq_models.methods import METHODS
from fedmq_nodes import task
from running import PATIENCE_S
from test_fleet import FEDERATION, own_folder, serving

__all__ = ["own_folder"]

MOST_KB = 100_000
STATISTICS = ("task.method=statistics", "codec.up=stats-rank4", "start_nodes=1", "stop.versions=1")
# As if what a device has no use for were not installed; in the end, what the kernel says of the process.
SLIM = """
import atexit, sys
from pathlib import Path
_, name, *words = sys.argv
sys.modules.update(dict.fromkeys(("torch", "matplotlib", "jinja2")))
from fedmq.cli import main
def tell():
    facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    Path(name + ".kb").write_text(facts["VmHWM"].split()[0])
atexit.register(tell)
sys.argv = ["fedmq", *words]
main()
"""


def join(address: str, name: str, *more: str) -> "subprocess.CompletedProcess[str]":
    """Run a node without torch to its end."""
    words = ["join", address, "--bundle", "./toy", "--features", "a.npz", "--name", name, *more]
    command = [sys.executable, "-c", SLIM, name, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_a_node_without_torch_sends_statistics_and_takes_less_than_100_mb() -> None:
    Path("federation.toml").write_text(FEDERATION)
    with serving("federation.toml", *(word for setting in STATISTICS for word in ("--set", setting))) as (_, address):
        done = join(address, "small")
    assert done.returncode == 0, done.stderr
    with Record.open(Path("run") / LEDGER) as record:
        assert [row["code"] for row in record.updates()] == ["accepted"]
        assert {row["version"] for row in record.reports()} == {None, 0, 1}
    assert int(Path("small.kb").read_text()) < MOST_KB


def test_a_node_without_torch_that_should_train_is_refused_with_what_it_can_do() -> None:
    Path("federation.toml").write_text(FEDERATION)
    with serving("federation.toml", "--set", "start_nodes=1") as (_, address):
        done = join(address, "small")
    assert done.returncode == 4
    assert "the federation trains 'fedclip', the node can do statistics" in done.stderr
    assert "install torch" in done.stderr


def test_without_torch_a_node_that_only_evaluates_can_do_every_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert task.methods(trains=True) == ("statistics",)
    assert task.methods(trains=False) == tuple(METHODS)
