"""What a node on somebody's device must respect: hours, a command that permits, other work; and data that arrives."""

import asyncio
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from fedmq.effects import Log
from fedmq.errors import ConfigInvalid
from fedmq_nodes import asking, images
from fedmq_nodes.arrivals import Arrivals, stamp
from fedmq_nodes.images import Digests, scan
from fedmq_nodes.options import NodeOptions
from fedmq_nodes.permit import Hours, Permit, permit
from running import Running, settle
from toy import features


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("08:00-17:30", (8 * 60, 17 * 60 + 29), (7 * 60 + 59, 17 * 60 + 30, 0)),
        ("22:00-06:00", (22 * 60, 23 * 60 + 59, 0, 5 * 60 + 59), (6 * 60, 21 * 60 + 59, 12 * 60)),
        ("00:00-00:00", (0, 12 * 60, 23 * 60 + 59), ()),
    ],
)
def test_hours_may_go_past_midnight(text: str, inside: tuple[int, ...], outside: tuple[int, ...]) -> None:
    hours = permit(text, None).hours
    assert hours is not None
    assert [hours.has(minute) for minute in inside] == [True] * len(inside)
    assert [hours.has(minute) for minute in outside] == [False] * len(outside)


@pytest.mark.parametrize(
    ("hours", "when", "sentence"),
    [
        ("22-6", None, "hours is '22-6'; it takes from and to, such as 22:00-06:00"),
        ("24:00-06:00", None, "hours is '24:00-06:00'"),
        (None, "test 'x", "which is no command"),
        (None, " ", "when is empty"),
    ],
)
def test_what_permits_nothing_sensible_is_named(hours: str | None, when: str | None, sentence: str) -> None:
    with pytest.raises(ConfigInvalid, match=sentence):
        NodeOptions("a", features=Path("a.npz"), hours=hours, when=when)


def refused(asked: Permit) -> str:
    return asyncio.run(asking.refusal(asked))


def test_a_command_permits_with_code_0_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "COMMAND_S", 0.2)
    assert refused(permit(None, "true")) == ""
    assert refused(permit(None, "false")) == "false says no, with exit code 1"
    assert refused(permit(None, "/no/such/thing")) == "/no/such/thing cannot be run: No such file or directory"
    assert refused(permit(None, "sleep 1000")) == "sleep did not end in 0 s"


def test_outside_its_hours_a_device_may_not_train(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(hour: int) -> time.struct_time:
        return time.struct_time((2026, 3, 1, hour, 0, 0, 0, 60, 0))

    monkeypatch.setattr(time, "localtime", lambda: at(12))
    assert refused(Permit(Hours(22 * 60, 6 * 60))) == "not before 22:00"
    monkeypatch.setattr(time, "localtime", lambda: at(23))
    assert refused(Permit(Hours(22 * 60, 6 * 60))) == ""


def test_whoever_waits_asks_again_says_why_once_and_stops_when_nobody_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["no", "no", "not yet", ""]
    logs: list[Log] = []

    async def answer(_permit: Permit) -> str:
        return answers.pop(0)

    async def for_ever() -> None:
        await asyncio.Event().wait()

    async def at_once() -> None:
        return

    monkeypatch.setattr(asking, "ASK_EVERY_S", 0.0)
    monkeypatch.setattr(asking, "refusal", answer)
    asyncio.run(asking.until_permitted(permit(None, "x"), for_ever, logs.append))
    assert ([log.fields["reason"] for log in logs], answers) == (["no", "not yet"], [])
    monkeypatch.setattr(asking, "ASK_EVERY_S", 60.0)
    answers += ["no", "no"]
    asyncio.run(asking.until_permitted(permit(None, "x"), at_once, logs.append))
    assert answers == ["no"]


class Box:
    """A source that is as it says."""

    def __init__(self) -> None:
        self.seen = 1

    def stamp(self) -> int:
        return self.seen


def test_a_source_is_looked_at_not_too_often_and_loaded_when_it_has_changed() -> None:
    box = Box()
    arrivals = Arrivals(box, 10.0, 0.0)
    assert [arrivals.due(now) for now in (9.0, 10.0)] == [False, True]
    assert arrivals.look(10.0) is False
    box.seen = 2
    assert arrivals.due(19.0) is False
    assert [arrivals.look(20.0), arrivals.look(30.0)] == [True, False]
    assert Arrivals(box, 0.0, 0.0).due(1e9) is False
    assert Arrivals(object(), 10.0, 0.0).due(1e9) is False


def test_a_folder_is_another_when_a_file_comes_goes_or_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    seen = [stamp(tmp_path)]
    (tmp_path / "cat" / "1.png").write_bytes(b"one")
    seen.append(stamp(tmp_path))
    (tmp_path / "cat" / "1.png").write_bytes(b"two")
    os.utime(tmp_path / "cat" / "1.png", ns=(1, 1))
    seen.append(stamp(tmp_path))
    (tmp_path / "cat" / "1.png").unlink()
    seen.append(stamp(tmp_path))
    assert len(set(seen)) == 4
    assert stamp(tmp_path) == seen[-1]
    assert stamp(tmp_path / "cat" / "1.png") == frozenset()


def test_looking_again_reads_only_files_that_are_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cat").mkdir()
    for name in ("a", "b"):
        (tmp_path / "cat" / f"{name}.png").write_bytes(name.encode())
    known: Digests = {}
    first = scan(tmp_path, ["cat"], known)
    (tmp_path / "cat" / "c.png").write_bytes(b"c")
    read: list[str] = []
    real = images._digest

    def digest(path: Path) -> bytes:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(images, "_digest", digest)
    second = scan(tmp_path, ["cat"], known)
    assert read == ["c.png"]
    monkeypatch.undo()
    assert second.images[:2] == first.images
    assert second.images == scan(tmp_path, ["cat"]).images


def test_a_node_waits_for_its_permit_and_takes_in_data_that_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(tmp_path, monkeypatch, "a")
    with Running() as running:
        node = running.join(
            "a", "--when", "test -e go", "--arrivals-s", "0.01", "--nice", "5", "--log-level", "info"
        )  # fmt: skip
        assert node.line("training.deferred")["reason"] == "test says no, with exit code 1"
        assert os.getpriority(os.PRIO_PROCESS, node.process.pid) == 5
        found = running.status()
        assert (found["version"], found["nodes"][0]["state"]) == (0, "training")
        node.stop()
        Path("go").touch()
        node = running.join("a", "--when", "test -e go", "--arrivals-s", "0.01", "--log-level", "info")
        before = running.until(lambda found: found["version"] >= 2)["nodes"][0]["examples"]
        values, labels = features(200, 0)
        np.savez("more.npz", features=values, labels=labels)
        shutil.move("more.npz", "a.npz")
        more = running.until(lambda found: found["nodes"][0]["examples"] > before)["nodes"][0]["examples"]
        counts = [line["train"] for line in node.lines() if line["event"] == "data.ready"]
        assert (counts[0], counts[-1]) == (before, more)
        Path("a.npz").write_bytes(b"half of it")
        assert "a.npz" in node.line("data.unusable")["text"]
        version = running.status()["version"]
        running.until(lambda found: found["version"] > version + 1)  # it goes on with what it had
        assert node.process.poll() is None
