"""Which nodes of a status are shown: those asked for, and where there are too many, those that matter first."""

from typing import Any

import pytest

from fedmq.attention import first
from fedmq.errors import ConfigInvalid
from fedmq.wanted import Wanted, words


def node(name: str, state: str = "idle", **more: Any) -> dict[str, Any]:
    return {"id": f"key-{name}", "name": name, "state": state, "staleness": 0, "reason": "", "awaited": False} | more


FLEET = [node("edge-1"), node("edge-2", "gone", reason="the link is gone"), node("hall", "training", staleness=3)]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Wanted(), ["edge-1", "edge-2", "hall"]),
        (Wanted(states=("gone", "training")), ["edge-2", "hall"]),
        (Wanted(names=("edge-*",)), ["edge-1", "edge-2"]),
        (Wanted(names=("key-hall", "edge-1")), ["edge-1", "hall"]),
        (Wanted(stale=3), ["hall"]),
        (Wanted(stale=4), []),
        (Wanted(states=("idle",), names=("hall",)), []),
    ],
)
def test_a_filter_keeps_the_nodes_of_which_everything_holds(wanted: Wanted, names: list[str]) -> None:
    found = wanted.of({"version": 4, "nodes": FLEET})
    assert ([one["name"] for one in found["nodes"]], found["known"], found["version"]) == (names, 3, 4)


def test_a_state_that_there_is_not_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(ConfigInvalid, match="--state is 'dead'; there are preparing, encoding, idle, training, gone"):
        Wanted(states=("dead",))


def test_an_option_takes_its_words_one_by_one_or_with_commas() -> None:
    assert words(["gone, training", "idle"]) == ("gone", "training", "idle")
    assert words(None) == ()


def test_where_there_is_no_room_trouble_comes_first_and_otherwise_names() -> None:
    nodes = [node(f"n{at:03}") for at in range(100)]
    nodes += [node("z-gone", "gone"), node("y-struck", reason="too_fast: 9 frames"), node("x-awaited", awaited=True)]
    assert [one["name"] for one in first(nodes, 4)] == ["y-struck", "z-gone", "x-awaited", "n000"]
    assert [one["name"] for one in first(nodes[:3][::-1], 4)] == ["n000", "n001", "n002"]
