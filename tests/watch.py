"""What must be true of a federation after every step, whatever goes wrong; and a model of the ledger to know it by.

Versions rise by one, and each is what its updates make of the one before, computed here by the formulas and not by the
core; under another rule than the mean, to the bit by a core that knows what was kept and nothing else. An update is
kept once, as the node remembered it, and never another with its seq. Nobody hears a verdict that is not kept, or holds
a version that is not, to the bit.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fedmq.collect import Collector
from fedmq.compress import codec
from fedmq.delta import Params
from fedmq.guards import REMEMBERED
from fedmq.journal import Entry, NodeEntry, Traffic, UpdateEntry, VersionEntry
from fedmq.memory import Memory
from fedmq.messages import Code, Update, Verdict
from fedmq.outer import VELOCITY
from fedmq.past import Known, Past, Point
from fedmq.plan import Settings
from fedmq.points import contribution
from fedmq.rounds import Cause
from fedmq_nodes.node import Node

Said = tuple[int, bytes]  # base version and payload


@dataclass
class Watch:
    """What was kept, remembered and heard so far.

    broadcast    version -> what nodes hold
    remembered   (node, seq) -> what the update with this seq says
    """

    settings: Settings
    start: Params
    versions: list[VersionEntry] = field(default_factory=list)
    updates: dict[tuple[str, int], UpdateEntry] = field(default_factory=dict)
    folded: list[UpdateEntry] = field(default_factory=list)
    nodes: dict[str, NodeEntry] = field(default_factory=dict)
    broadcast: dict[int, bytes] = field(default_factory=dict)
    remembered: dict[tuple[str, int], set[Said]] = field(default_factory=lambda: defaultdict(set))

    def __post_init__(self) -> None:
        self.versions.append(VersionEntry(0, "start", 0, 0, 0, 0, 0.0, 0.0, 0.0, Traffic(), self.start))
        self.broadcast[0] = self.start.flat.tobytes()

    @property
    def newest(self) -> VersionEntry:
        return self.versions[-1]

    def remember(self, node: str, memory: Memory, forgetful: bool) -> None:
        """A memory is on a node's disk; a node is forgetful once it was started without the last one."""
        if memory.update is not None:
            found = self.remembered[node, memory.update.seq]
            found.add(_said(memory.update))
            assert forgetful or len(found) == 1, f"{node} has made {len(found)} updates with seq {memory.update.seq}"

    def keep(self, entries: Sequence[Entry]) -> None:
        """A batch is in the ledger."""
        for entry in entries:
            match entry:
                case UpdateEntry():
                    self._keep_update(entry)
                case VersionEntry():
                    self._keep_version(entry)
                case NodeEntry():
                    self.nodes[entry.node] = entry

    def hear(self, node: str, seq: int, code: str) -> None:
        """A node has taken a verdict."""
        kept = self.updates.get((node, seq))
        assert kept is not None, f"{node} heard {code} of update {seq}, which is not kept"
        assert kept.code == code, f"{node} heard {code} of update {seq}, kept is {kept.code}"

    def hold(self, name: str, node: Node) -> None:
        """A node has adopted a version."""
        if node.version < 0 or node.params is None:
            return
        newest = self.newest.version
        assert node.version <= newest, f"{name} holds version {node.version}, kept is {newest}"
        same = node.params.flat.tobytes() == self.broadcast[node.version]
        assert same, f"{name} holds another version {node.version} than was kept"

    def past(self) -> Past:
        """Return what an aggregator goes on from, as a ledger would."""
        last = self.newest
        pending = tuple(replace(e, update=replace(e.update, session=0)) for e in self.folded[last.folded :])
        return Past(
            self._point(), pending, tuple(map(self._known, self.nodes.values())), replace(last.traffic), run="chaos"
        )

    def _point(self) -> Point:
        last = self.newest
        norms = [entry.norm for entry in self.folded[: last.folded] if entry.norm > 0]
        cached = sorted((self.folded[number] for number in last.cached), key=lambda entry: entry.node)
        return Point(
            last.version,
            last.params,
            last.broadcast or last.params,
            last.states,
            tuple(contribution(entry, last.params.schema) for entry in cached),
            last.folded,
            tuple(norms[-REMEMBERED:]),
        )

    def _keep_update(self, entry: UpdateEntry) -> None:
        key = entry.node, entry.update.seq
        assert key not in self.updates, f"update {key} was kept twice"
        assert _said(entry.update) in self.remembered[key], f"update {key} is not what its node remembered"
        self.updates[key] = entry
        if entry.code is Code.ACCEPTED:
            assert entry.number == len(self.folded), f"update {key} has number {entry.number}, not {len(self.folded)}"
            staleness = self.newest.version - entry.update.base_version
            assert entry.staleness == staleness <= self.settings.rounds.max_staleness
            self.folded.append(entry)
        else:
            assert entry.number is None

    def _keep_version(self, entry: VersionEntry) -> None:
        before, taken = self.newest, self.folded[self.newest.folded :]
        assert entry.version == before.version + 1, f"version {entry.version} was kept after {before.version}"
        assert (entry.updates, entry.folded) == (len(taken), len(self.folded)), f"version {entry.version} folds others"
        if self.settings.rule == "mean":
            np.testing.assert_allclose(entry.params.flat, self._committed(before, taken), rtol=1e-4, atol=1e-4)
        else:
            same = entry.params.flat.tobytes() == self._computed_again(taken).flat.tobytes()
            assert same, (
                f"version {entry.version} has other bits under the rule {self.settings.rule} from what was kept"
            )
        self.versions.append(entry)
        self.broadcast[entry.version] = (entry.broadcast or entry.params).flat.tobytes()

    def _computed_again(self, taken: Sequence[UpdateEntry]) -> Params:
        """Return the params after a commit, as one would make them who knows what was kept and nothing else."""
        collector = Collector(self.settings, self._point())
        for entry in taken:
            collector.refold(entry, entry.at)
        return collector.commit(Cause.GOAL, Traffic(), 0.0).params

    def _committed(self, before: VersionEntry, taken: Sequence[UpdateEntry]) -> NDArray[np.float64]:
        """Return the params after a commit, by the formulas of the weighted mean and of heavy-ball momentum."""
        schema, outer = before.params.schema, self.settings.outer
        total = sum(entry.weight for entry in taken)
        step = np.zeros(schema.size)
        for entry in taken:
            step += entry.taken / total * codec(entry.update.codec).unpack(entry.update.payload, schema).flat
        if outer.name == "momentum" and VELOCITY in before.states:
            damping = sum(entry.weight * entry.damping for entry in taken) / total
            step += damping * outer.momentum * before.states[VELOCITY]
        return before.params.flat + outer.lr * step

    def _known(self, entry: NodeEntry) -> Known:
        own = [kept for (node, _), kept in self.updates.items() if node == entry.node]
        last = max(own, key=lambda kept: kept.update.seq, default=None)
        trained = [kept.update.base_version for kept in own if kept.code is Code.ACCEPTED]
        return Known(
            node=entry.node,
            name=entry.name,
            seq=0 if last is None else last.update.seq,
            verdict=None if last is None else _verdict(last),
            trained=max(trained, default=-1),
            active=entry.state not in ("gone", "finished"),
            examples=entry.examples,
            bytes_up=entry.bytes_up,
            bytes_down=entry.bytes_down,
            strikes=entry.strikes,
        )


def _said(update: Update) -> Said:
    return update.base_version, bytes(update.payload)


def _verdict(entry: UpdateEntry) -> Verdict:
    return Verdict(0, entry.update.seq, entry.code, entry.text, entry.staleness, entry.taken)
