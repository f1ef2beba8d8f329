"""A ledger for tests, and a life to put in it: updates judged and versions committed, as an aggregator would."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedmq import terms
from fedmq.collect import Collector
from fedmq.compress import codec
from fedmq.delta import Arrays, Params
from fedmq.guards import ENOUGH
from fedmq.journal import Entry, Traffic, UpdateEntry, VersionEntry
from fedmq.ledger import Keeping, Ledger
from fedmq.messages import Update
from fedmq.outer import Outer
from fedmq.past import Past
from fedmq.plan import Codecs, Settings
from fedmq.record import Record
from fedmq.rounds import Policy
from fedmq.segments import SEGMENT_BYTES
from pair import SCHEMA, params

META = {"federation": "test", "feature_space": "a" * 64, "method": "fedclip"}
NODES = ("a", "b", "c")
# What has a state to lose: stale updates, norms that scale the next one, velocity, a broadcast apart from the params.
SETTINGS = Settings(
    "test", codec=Codecs("int8", "int8"), rounds=Policy(goal=4, max_staleness=5), outer=Outer("momentum")
)

_open: list[Ledger | Record] = []


def opened(
    path: Path,
    meta: dict[str, str] | None = None,
    keeping: Keeping | None = None,
    start: Params | None = None,
    epoch: float = 0.0,
    notes: dict[str, str] | None = None,
    segment_bytes: int = SEGMENT_BYTES,
    settings: Settings = SETTINGS,
) -> Ledger:
    ledger = Ledger.open(
        path,
        META | (meta or {}),
        notes or {},
        start or params(),
        keeping or Keeping(),
        epoch,
        now=0.0,
        terms=terms.written(settings),
        segment_bytes=segment_bytes,
    )
    _open.append(ledger)
    return ledger


def reading(path: Path) -> Record:
    record = Record.open(path)
    _open.append(record)
    return record


def close_all() -> None:
    """Let go of what the two above have opened, at the end of a test."""
    while _open:
        _open.pop().close()


def as_a_kill_leaves_it(path: Path, copy: Path) -> Path:
    """Copy the files of a ledger that nobody closed."""
    copy.mkdir()
    for found in path.parent.glob(path.name + "*"):
        shutil.copy(found, copy)
    return copy / path.name


def updates(count: int, seed: int = 0) -> list[tuple[str, int, Update]]:
    """Return (node, versions behind, update); every seventh is loud, every fifth is not finite."""
    rng, found = np.random.default_rng(seed), []
    for i in range(count):
        delta = (rng.standard_normal(SCHEMA.size) * (100.0 if i % 7 == 6 else 0.1)).astype(np.float32)
        if i % 5 == 4:
            delta[0] = np.nan
        payload = codec("int8").pack(Arrays(SCHEMA, delta), i)
        update = Update(9, i // 3 + 1, 0, "int8", int(rng.integers(1, 100)), 3, 0.25, 1.5, payload)
        found.append((NODES[i % 3], int(rng.integers(0, 3)), update))
    return found


@dataclass
class Life:
    """What happens between an update's arrival and a version, with what would go to a ledger."""

    collector: Collector
    traffic: Traffic

    @classmethod
    def after(cls, past: Past, settings: Settings = SETTINGS) -> "Life":
        life = cls(Collector(settings, past.point), replace(past.traffic))
        for entry in past.pending:
            life.collector.refold(entry, 0.0)
        life.expect()
        return life

    def expect(self) -> None:
        for i in range(10):
            self.collector.round.expect(f"node-{i}")

    def take(self, arrived: Sequence[tuple[str, int, Update]], at: float = 0.0) -> list[list[Entry]]:
        """Judge updates one by one; return one batch of entries for each."""
        batches: list[list[Entry]] = []
        for i, (node, behind, update) in enumerate(arrived):
            now, version = at + i, self.collector.versions.number
            self.traffic.up_application += len(update.payload) + 90
            update = replace(update, base_version=max(0, version - behind))
            batch: list[Entry] = [self.collector.judge(node, update, len(update.payload) + 90, now)]
            if (cause := self.collector.round.cause(now)) is not None:
                batch.append(self.collector.commit(cause, replace(self.traffic), now))
                self.expect()
            batches.append(batch)
        return batches


def facts(entries: Sequence[Entry]) -> list[object]:
    """Return what must not differ between a life with and without a crash, arrays as bytes."""
    found: list[object] = []
    for entry in entries:
        if isinstance(entry, UpdateEntry):
            found.append(
                (
                    entry.code,
                    entry.text,
                    entry.number,
                    entry.staleness,
                    entry.weight,
                    entry.damping,
                    entry.scale,
                    entry.norm,
                )
            )
        elif isinstance(entry, VersionEntry):
            broadcast = None if entry.broadcast is None else entry.broadcast.flat
            arrays = (entry.params.flat, broadcast, *entry.states.values())
            found.append([None if array is None else array.tobytes() for array in arrays])
            found.append((entry.version, entry.cause, entry.updates, entry.folded, entry.step_norm))
    return found


assert ENOUGH < 24  # else the norms of a life as long as those in the tests scale nothing
