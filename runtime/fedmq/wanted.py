"""Wanted: which nodes of a status, or of a record, a person asked to see."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from fedmq.errors import ConfigInvalid
from fedmq.status import Status

STATES = ("preparing", "encoding", "idle", "training", "gone", "finished")


@dataclass(frozen=True)
class Wanted:
    """What must hold of a node; nothing asked for is everything.

    states     one of these is its state
    names      its name or its id matches one of these, such as edge-*
    stale      its last update was at least so many versions behind
    """

    states: Sequence[str] = ()
    names: Sequence[str] = ()
    stale: int | None = None

    def __post_init__(self) -> None:
        for state in self.states:
            if state not in STATES:
                raise ConfigInvalid(f"--state is {state!r}; there are {', '.join(STATES)}")

    def named(self, name: str, identity: str) -> bool:
        """Whether a node of this name and id is asked for."""
        return not self.names or any(fnmatchcase(one, glob) for glob in self.names for one in (name, identity))

    def applies(self, node: dict[str, Any]) -> bool:
        """Whether a node of a status is asked for."""
        return (
            self.named(node["name"], node["id"])
            and (not self.states or node["state"] in self.states)
            and (self.stale is None or node["staleness"] >= self.stale)
        )

    def of(self, status: Status) -> Status:
        """Return a status with the nodes that are asked for, and how many there are in all."""
        nodes = status["nodes"]
        return {**status, "nodes": [node for node in nodes if self.applies(node)], "known": len(nodes)}


def words(given: Sequence[str] | None) -> tuple[str, ...]:
    """Return the words of an option that may be given several times, or once with commas."""
    return tuple(word.strip() for text in given or () for word in text.split(",") if word.strip())
