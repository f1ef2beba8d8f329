"""The document: everything that the page shows, as one tree of plain values, and how two of them differ.

A page holds a copy. What it is sent is the whole once, and then JSON merge patches (RFC 7396), in which null takes a
key away; so there is no null in a document. Whatever changes with every heartbeat is told coarsely, lest a thousand
quiet nodes be a stream of news.
"""

from collections import Counter
from math import floor, log10
from typing import Any

from fedmq.attention import first
from fedmq.status import Status
from fedmq.story import Story

Tree = dict[str, Any]

MOST_ROWS = 2000  # of the fleet's table; those that need somebody come first
MOST_NAMED = 10
SEEN_S = 5.0
SHARES = 10  # bars of the histogram of participation


class Rows:
    """Numbers for nodes, which are shorter than keys and stay the same as long as the process lives."""

    def __init__(self) -> None:
        self._numbers: dict[str, str] = {}

    def number(self, node: str) -> str:
        """Return the number of this node, as text: a key of the document."""
        return self._numbers.setdefault(node, str(len(self._numbers)))


def document(status: Status, story: Story, rows: Rows, wall_at: float) -> Tree:
    """Return what there is to show.

    wall_at    now, in seconds since 1970
    """
    nodes = first(status["nodes"], MOST_ROWS)
    return {
        "head": _clean(_head(status, wall_at)),
        "nodes": {rows.number(node["id"]): _clean(_row(node, story, wall_at)) for node in nodes},
        "story": _story(status, story),
    }


def patch(before: Tree, after: Tree) -> Tree:
    """Return what makes of the one document the other; empty if they are equal."""
    found: Tree = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := patch(old, value):
                found[key] = inner
        elif key not in before or old != value:
            found[key] = value
    return found


def _head(status: Status, wall_at: float) -> Tree:
    round_, states = status["round"], Counter(node["state"] for node in status["nodes"])
    return {
        "federation": status["federation"],
        "version": status["version"],
        "versions": status["versions"],
        "phase": status["phase"],
        "reason": round_["reason"],
        "caveat": status["caveat"] or None,
        "stays": status["stays"] or None,
        "problem": status["ledger"]["problem"],
        "have": round_["have"],
        "goal": round_["goal"],
        "quorum": round_["quorum"],
        "opened_at": None if round_["open_s"] is None else round(wall_at - round_["open_s"], 1),
        "deadline_at": None if round_["deadline_in_s"] is None else round(wall_at + round_["deadline_in_s"], 1),
        "waiting_for": round_["waiting_for"][:MOST_NAMED],
        "waiting": len(round_["waiting_for"]),
        "gone": round_["gone"][:MOST_NAMED],
        "lost": len(round_["gone"]),
        "muted": [{"name": one["name"], "reason": one["reason"]} for one in status["muted"][:MOST_NAMED]],
        "accuracy": status["accuracy"]["federated"],
        "personal": status["accuracy"]["personal"],
        "zero_shot": status["accuracy"]["zero_shot"],
        "up": coarse(status["bytes"]["up_application"]),
        "down": coarse(status["bytes"]["down_application"]),
        "states": dict(states),
        "known": len(status["nodes"]),
    }


def _row(node: Tree, story: Story, wall_at: float) -> Tree:
    reason = node["reason"]
    return {
        "name": node["name"] or node["id"],
        "state": node["state"],
        "progress": f"{node['done']}/{node['total']}" if node["total"] else None,
        "version": node["version"] if node["version"] >= 0 else None,
        "staleness": node["staleness"],
        "accuracy": None if node["accuracy"] is None else round(node["accuracy"], 4),
        "personal": None if node["personal"] is None else round(node["personal"], 4),
        "examples": node["examples"],
        "taken": story.taken[node["id"]],
        "up": coarse(node["bytes_up"]),
        "down": coarse(node["bytes_down"]),
        "seen": floor((wall_at - node["silent_s"]) / SEEN_S) * SEEN_S,
        "note": reason if reason not in ("", node["state"]) else None,
        "awaited": 1 if node["awaited"] else None,
        "strikes": node["strikes"] or None,
    }


def _story(status: Status, story: Story) -> Tree:
    versions = max(1, status["version"])
    shares = Counter(
        min(SHARES - 1, story.taken[node["id"]] * SHARES // versions) for node in status["nodes"] if node["examples"]
    )
    return {
        "rounds": {
            str(one.version): [one.updates, one.invited, round(one.open_s, 3), one.up, one.down, one.total, one.cause]
            for one in story.rounds
        },
        "accuracy": {str(version): round(mean, 4) for version, mean in story.accuracy.items()},
        "staleness": {str(behind): count for behind, count in story.staleness.items()},
        "verdicts": dict(story.verdicts),
        "shares": {str(at): shares[at] for at in range(SHARES)},
    }


def coarse(count: int) -> int:
    """Return a number to three digits: as much as is shown of it."""
    return int(round(count, 2 - floor(log10(count)))) if count > 0 else 0


def _clean(tree: Tree) -> Tree:
    return {key: value for key, value in tree.items() if value is not None}
