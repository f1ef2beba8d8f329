"""Looking on from a terminal, and from a pipe."""

import io
import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from fedmq import view
from fedmq.ledger import Keeping, Ledger
from fedmq.plan import Settings, Stop
from fedmq.record import LEDGER, Record
from fedmq.status import status
from fedmq.story import Story
from fedmq.wanted import Wanted
from pair import Fleet, Worker, params
from running import PATIENCE_S, Running, command, fedmq, settle, wait

META = {"federation": "test", "feature_space": "a" * 64, "method": "fedclip"}


def test_bars_show_the_newest_values_from_the_smallest_to_the_largest() -> None:
    assert view.bars([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert view.bars(range(100), 3) == "███"
    assert view.bars([5, 5], 9) == "██"
    assert view.bars([], 4) == ""
    assert view.bars([0, 0], 4) == "▁▁"


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60), (60, 20)])
def test_a_thousand_nodes_fit_any_terminal_and_trouble_is_in_sight(width: int, height: int, tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / LEDGER, META, {}, params(), Keeping(durable=False), 0.0, 0.0)
    workers = {f"edge-{at:04}": Worker(tests=4) for at in range(1000)}
    fleet = Fleet(Settings("test", stop=Stop(versions=3)), workers, ledger=ledger)
    fleet.run()
    fleet.aggregator.roster.members["edge-0777"].reason = "too_fast: 900 frames"
    fleet.aggregator.roster.members["edge-0777"].session.state = fleet.nodes["edge-0001"]._session.state
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None)
    with Story(tmp_path / LEDGER) as story:
        story.advance()
        console.print(view.render(status(fleet.aggregator, 50.0), story, console))
    ledger.close()
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue().splitlines()
    assert len(shown) <= height
    assert max(map(len, shown)) <= width
    assert any("edge-0777" in line for line in shown)
    assert any("of 1000 nodes" in line for line in shown)


def test_status_watch_and_log_of_a_running_federation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(tmp_path, monkeypatch, "abc")
    monkeypatch.setenv("COLUMNS", "160")
    with Running("--set", "start_nodes=3") as running:
        for name in "abc":
            running.join(name)
        running.until(lambda found: found["version"] >= 2)
        shown = json.loads(fedmq("status", "run", "--node", "[ab]", "--json"))
        assert ({node["name"] for node in shown["nodes"]}, shown["known"]) == ({"a", "b"}, 3)
        once = fedmq("watch", "run", "--once", "--node", "c")
        assert "bytes/round" in once
        assert "1 of 3 nodes" in once
        running.nodes["c"].kill()
        running.until(lambda found: any(node["state"] == "gone" for node in found["nodes"]))
        gone = json.loads(fedmq("status", "run", "--state", "gone", "--json"))["nodes"]
        assert [node["name"] for node in gone] == ["c"]
        assert "c" in fedmq("watch", "run", "--once", "--state", "gone")
    found = [json.loads(line) for line in fedmq("log", "run", "--json", "--last", "50").splitlines()]
    assert {line["kind"] for line in found} == {"update", "version"} | {line["kind"] for line in found}
    accepted = next(line for line in found if line["kind"] == "update" and line["version"] is not None)
    story = fedmq("log", "run", "--update", accepted["update"]).splitlines()
    assert len(story) == 2
    assert accepted["update"] in story[0]
    assert f"version {accepted['version']}" in story[1]


def test_a_pipe_is_told_lines_and_of_an_aggregator_that_went_and_came_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(tmp_path, monkeypatch, "a")
    heard = Path("watched.txt")
    with Running() as running, heard.open("w") as file:
        watching = subprocess.Popen(command("watch", "run", "--every-s", "0.1"), stdout=file, stderr=subprocess.STDOUT)
        try:
            wait(lambda: "version 0" in heard.read_text(), "the first line")
            running.aggregator.stop()
            wait(lambda: "no aggregator is running" in heard.read_text(), "that it is gone")
            running.start("--set", "stop.versions=3", "--set", "stop.finish_s=1.0")
            running.join("a")
            assert watching.wait(PATIENCE_S) == 0, heard.read_text()
        finally:
            watching.kill()
            watching.wait()
    told = heard.read_text().splitlines()
    assert told[-1].endswith("the federation has finished with version 3")
    assert all(line[2] == line[5] == ":" for line in told), told


def test_on_a_terminal_it_is_drawn_anew_and_the_last_view_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(tmp_path, monkeypatch, "a")
    monkeypatch.setenv("TERM", "xterm-256color")
    ours, theirs = pty.openpty()
    heard = bytearray()

    def drawn(word: str) -> bool:
        while select.select([ours], [], [], 0)[0]:
            try:
                heard.extend(os.read(ours, 65536))
            except OSError:  # the other end is closed
                break
        return word in heard.decode(errors="replace")

    with Running("--set", "stop.versions=400") as running:
        running.join("a")
        running.until(lambda found: found["version"] >= 1)
        watching = subprocess.Popen(command("watch", "run", "--every-s", "0.1"), stdin=theirs, stdout=theirs)
        try:
            wait(lambda: drawn("bytes/round"), "the first view")
            running.aggregator.stop()
            wait(lambda: drawn("no aggregator is running"), "that it is gone")
            with Record.open(Path("run") / LEDGER) as record:
                reached = record.versions()[-1]["version"]
            running.nodes["a"].kill()
            running.start("--set", f"stop.versions={reached + 2}")
            running.join("a")
            wait(lambda: not drawn("\0") and watching.poll() is not None, "the end")  # read on, or it waits for us
            assert watching.returncode == 0
        finally:
            watching.kill()
            watching.wait()
            os.close(theirs)
    drawn("")
    os.close(ours)
    last = heard.decode(errors="replace").rpartition("\x1b[?1049l")[2]  # back from the other screen
    assert "bytes/round" in last


def test_nobody_to_watch_is_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fedmq", "watch", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 5
    assert "no aggregator is running in" in done.stderr
    assert Wanted().of({"nodes": []}) == {"nodes": [], "known": 0}
