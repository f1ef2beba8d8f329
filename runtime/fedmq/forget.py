"""Forgetting: a node's statistics are taken out of a run, as if they had never been in it.

The sum without them has the same bits as one that they were never added to, so the head does too. What is left of the
node is who it was and when, and that it may not contribute any more.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from fedmq import erase, terms
from fedmq.errors import ConfigInvalid, LedgerUnusable
from fedmq.folder import claim
from fedmq.journal import EventEntry, VersionEntry
from fedmq.ledger import Keeping, Ledger
from fedmq.plan import Settings
from fedmq.points import Points
from fedmq.record import LEDGER, Record
from fedmq.rounds import Cause
from fedmq.stats.pool import Pool


@dataclass(frozen=True)
class Forgotten:
    """node: its id; version: made without it; nodes: how many are in that; payloads, payload_bytes: what was erased."""

    node: str
    version: int
    nodes: int
    payloads: int
    payload_bytes: int


def forget(run: Path, who: str) -> Forgotten:
    """Forget a node of a run that nobody serves.

    who        its id or its name
    raises     LedgerUnusable if the run is in use, or cannot be read or written; ConfigInvalid if it has no such node,
               or learns by deltas, which cannot be taken out again
    """
    path = run / LEDGER
    with claim(_existing(run)):
        erase.finish(path)
        with Record.open(path) as record:
            node, settings = _node(record, who), _settings(record)
            entry, nodes = _without(record, settings, node)
            meta, (_, beginning) = record.meta(), record.params(0)
        ledger = Ledger.open(
            path,
            {key: meta[key] for key in ("federation", "feature_space", "method")},
            {},
            beginning,
            Keeping(versions=0),
            epoch=0.0,
            now=entry.closed_at,
            terms=terms.written(settings),
        )
        try:
            facts = {"node": node, "version": entry.version}
            ledger.keep([entry, EventEntry(entry.closed_at, "info", "node.forgotten", facts)], entry.closed_at)
        finally:
            ledger.close()
        return Forgotten(node, entry.version, nodes, *erase.erase(path, node, entry.version))


def allow(run: Path, who: str) -> str:
    """Let a forgotten node contribute again, and return its id. What was forgotten stays so."""
    path = run / LEDGER
    with claim(_existing(run)):
        with Record.open(path) as record:
            node = _node(record, who)
        erase.allow(path, node)
    return node


def _existing(run: Path) -> Path:
    if not (run / LEDGER).is_file():
        raise LedgerUnusable(f"there is no ledger in {run}; a run writes one when its aggregator starts")
    return run


def _node(record: Record, who: str) -> str:
    found = [row["node"] for row in record.nodes() if who in (row["node"], row["name"])]
    if len(found) != 1:
        known = ", ".join(f"{row['name']} ({row['node']})" for row in record.nodes()) or "none"
        raise ConfigInvalid(f"{len(found)} nodes are called {who!r}; there are {known}")
    return str(found[0])


def _settings(record: Record) -> Settings:
    known = record.settings()
    number = record.versions()[-1]["settings"]
    text = known.get(number) if number is not None else None
    settings = None if text is None and not known else terms.read(text or known[max(known)])
    if settings is None or not settings.one_shot:
        raise ConfigInvalid(
            f"this run learns by {record.meta()['method']}, whose deltas are in every version since; only statistics "
            "(task.method = 'statistics') can be taken out again"
        )
    return settings


def _without(record: Record, settings: Settings, node: str) -> tuple[VersionEntry, int]:
    """Return the next version, made of everybody's statistics but this node's, and how many nodes are in it."""
    past = Points(record).past()
    newest = {entry.node: entry for entry in (*past.point.live, *past.pending)}
    newest.pop(node, None)
    folded = past.point.folded + len(past.pending)
    pool = Pool(settings, replace(past.point, live=tuple(newest.values()), folded=folded))
    entry = pool.commit(Cause.FORGOTTEN, past.traffic, time.time())
    return replace(entry, updates=len(past.pending)), len(newest)
