"""Series: what the plots of a report show, from the rows of a record. Seconds count from version 0."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fedmq.record import Record, Row
from fedmq.summary import ACCEPTED, share

MARKS = {"node.lost": "lost", "node.left": "left", "node.ready": "ready", "node.refused": "refused"}


@dataclass(frozen=True)
class Curve:
    """One node's accuracy: x is the version, or bytes; zero_shot is the frozen model's, where it was measured."""

    name: str
    x: list[float]
    accuracy: list[float]
    zero_shot: float | None


@dataclass(frozen=True)
class Bar:
    """One local training of a node, from start to the arrival of its update."""

    node: str
    start: float
    stop: float
    accepted: bool
    staleness: int


@dataclass(frozen=True)
class Mark:
    """Something that happened to a node."""

    node: str
    at: float
    what: str


class Series:
    """Everything that the plots need."""

    def __init__(self, record: Record) -> None:
        self._versions, self._updates = record.versions(), record.updates()
        self._reports, self._events = record.reports(), record.events()
        self.names = {row["node"]: row["name"] or row["node"] for row in record.nodes()}
        self._began = self._versions[0]["closed_at"]

    def accuracy(self) -> list[Curve]:
        """Return one curve over versions per node that has reported."""
        return [curve for node in self.names if (curve := self._curve(node)).x]

    def accuracy_by_bytes(self) -> Curve:
        """Return, over bytes in both directions, the mean over nodes of what each had last reported by that version."""
        frozen = {r["node"]: share(r) for r in self._reports if r["version"] is None and r["examples"]}
        newest: dict[str, float] = {}
        bytes_at, means = [], []
        for version in self._versions:
            reports = [row for row in self._reports if row["version"] == version["version"] and row["examples"]]
            newest |= {row["node"]: share(row) for row in reports}
            if reports:
                bytes_at.append(float(version["up_application"] + version["down_application"]))
                means.append(sum(newest.values()) / len(newest))
        return Curve("mean", bytes_at, means, sum(frozen.values()) / len(frozen) if frozen else None)

    def trainings(self) -> list[Bar]:
        """Return every training whose update arrived."""
        return [
            Bar(
                self._name(row["node"]),
                row["at"] - row["train_s"] - self._began,
                row["at"] - self._began,
                row["code"] == ACCEPTED,
                row["staleness"],
            )
            for row in self._updates
        ]

    def marks(self) -> list[Mark]:
        """Return when nodes came, went and were refused."""
        found = []
        for row in self._events:
            if row["event"] in MARKS:
                node = json.loads(row["fields"]).get("node", "")
                found.append(Mark(self._name(node), row["at"] - self._began, MARKS[row["event"]]))
        return found

    def commits(self) -> list[float]:
        """Return when each version was committed."""
        return [row["closed_at"] - self._began for row in self._versions[1:]]

    def rounds(self) -> list[tuple[int, float, int]]:
        """Return (version, seconds that its round was open, updates in it)."""
        return [(row["version"], row["closed_at"] - row["opened_at"], row["updates"]) for row in self._versions[1:]]

    def staleness(self) -> dict[int, int]:
        """Return how many accepted updates were so many versions behind."""
        counts = Counter(row["staleness"] for row in self._updates if row["code"] == ACCEPTED)
        return dict(sorted(counts.items()))

    def traffic(self) -> list[tuple[int, int, int]]:
        """Return (version, bytes up, bytes down) of the application layer since the version before."""
        return [
            (after["version"], *(after[key] - before[key] for key in ("up_application", "down_application")))
            for before, after in zip(self._versions, self._versions[1:], strict=False)
        ]

    def _curve(self, node: str) -> Curve:
        own = [row for row in self._reports if row["node"] == node and row["examples"]]
        frozen = [share(row) for row in own if row["version"] is None]
        adapted = [row for row in own if row["version"] is not None]
        return Curve(
            self._name(node),
            [float(row["version"]) for row in adapted],
            [share(row) for row in adapted],
            frozen[-1] if frozen else None,
        )

    def _name(self, node: str) -> str:
        name: str = self.names.get(node, node)
        return name


def notable(events: Sequence[Row]) -> list[Row]:
    """Return the events that a person should read: warnings and errors."""
    return [event for event in events if event["level"] in ("warning", "error")]
