"""What must survive a crash, as values, and the queue in which they go to the ledger.

Times (`*_at`) are the core's clock; the ledger adds what makes them wall-clock labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedmq.delta import Params, Vector
from fedmq.messages import Code, Update


@dataclass(frozen=True)
class UpdateEntry:
    """One update and its verdict.

    number     its place in the order of folding; None where it was refused
    damping    what the delta was multiplied by for its staleness, beside its weight
    norm       of the delta as folded, after scaling
    scale      what it was multiplied by for its length; 1 unless it was too long
    """

    at: float
    node: str
    update: Update
    frame_bytes: int
    code: Code
    text: str = ""
    number: int | None = None
    staleness: int = 0
    weight: float = 0.0
    damping: float = 0.0
    norm: float = 0.0
    scale: float = 1.0

    @property
    def taken(self) -> float:
        """The weight that it had in the end."""
        return self.weight * self.damping * self.scale


@dataclass
class Traffic:
    """Bytes since the federation began; a restart forgets those since the last version.

    Goodput is codec payload, upwards that of accepted updates alone; application is all frames, envelopes included.
    """

    up_goodput: int = 0
    up_application: int = 0
    down_goodput: int = 0
    down_application: int = 0


@dataclass(frozen=True)
class VersionEntry:
    """One commit.

    folded       updates folded since the federation began, up to this version
    broadcast    None where it is no different from params
    states       of the rule and the optimizer, by name
    cached       numbers of the updates that the rule goes on from, whatever version they are in
    """

    version: int
    cause: str
    updates: int
    folded: int
    quorum: int
    invited: int
    opened_at: float
    closed_at: float
    step_norm: float
    traffic: Traffic
    params: Params = field(repr=False)
    broadcast: Params | None = field(default=None, repr=False)
    states: Mapping[str, Vector] = field(default_factory=dict, repr=False)
    cached: tuple[int, ...] = ()


@dataclass(frozen=True)
class NodeEntry:
    """What is known of a node. `state` is the word that the status table has for it."""

    at: float
    node: str
    name: str
    state: str
    reason: str = ""
    examples: int = 0
    tests: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    strikes: int = 0


@dataclass(frozen=True)
class ReportEntry:
    """Accuracy of a version on one node's test split; version None is the frozen model alone.

    personal     right with the node's own part; None where there is none
    """

    at: float
    node: str
    version: int | None
    examples: int
    correct: int
    loss: float
    personal: int | None = None


@dataclass(frozen=True)
class EventEntry:
    """Something that a person may want to read about later."""

    at: float
    level: str
    event: str
    fields: Mapping[str, Any]


Entry = UpdateEntry | VersionEntry | NodeEntry | ReportEntry | EventEntry


MOST_QUEUED = 10_000


class Journal:
    """Entries on their way to the ledger, and what waits for them to be there.

    One batch is under way at a time; what comes meanwhile goes together in the next, so that the slower the disk, the
    more entries share one fsync. It is bounded: the aggregator accepts no update that would have too many bytes wait, a
    node's newest facts take the place of older ones, and of reports and events so many are queued and no more.

    waiting_bytes   of payloads that are not kept yet
    dropped         reports and events that there was no place for
    """

    def __init__(self) -> None:
        self.waiting_bytes = self.dropped = 0
        self._queued: list[Entry] = []
        self._nodes: dict[str, int] = {}  # where in the queue a node's facts are
        self._under_way: tuple[Entry, ...] = ()
        self._batches = 0

    def add(self, entry: Entry) -> None:
        """Queue an entry, or drop it if it only tells, and too many wait."""
        match entry:
            case UpdateEntry():
                self.waiting_bytes += len(entry.update.payload)
            case NodeEntry() if entry.node in self._nodes:
                self._queued[self._nodes[entry.node]] = entry
                return
            case NodeEntry():
                self._nodes[entry.node] = len(self._queued)
            case ReportEntry() | EventEntry() if len(self._queued) >= MOST_QUEUED:
                self.dropped += 1
                return
        self._queued.append(entry)

    def next_batch(self) -> tuple[int, tuple[Entry, ...]] | None:
        """Return the number and the entries of the next batch, or None: nothing is queued, or one is under way."""
        if self._under_way or not self._queued:
            return None
        self._under_way, self._queued, self._nodes = tuple(self._queued), [], {}
        self._batches += 1
        return self._batches, self._under_way

    def again(self) -> tuple[int, tuple[Entry, ...]]:
        """Return the batch that is under way, which the ledger has not taken."""
        assert self._under_way, "no batch is under way"
        return self._batches, self._under_way

    def kept(self, number: int) -> tuple[Entry, ...]:
        """Return the entries that are now durable."""
        assert number == self._batches, f"batch {number} was kept, {self._batches} is under way"
        done, self._under_way = self._under_way, ()
        self.waiting_bytes -= sum(len(entry.update.payload) for entry in done if isinstance(entry, UpdateEntry))
        return done

    @property
    def is_empty(self) -> bool:
        """Whether everything is durable."""
        return not self._under_way and not self._queued
