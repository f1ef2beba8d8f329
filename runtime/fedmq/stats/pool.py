"""The pool: every node's newest statistics, their sum, and the head that they give. Steps 8, 10 and 11 of the walk.

It stands where the collector of deltas does, and differs in what an update means. Statistics say nothing of the version
that they were sent at, so none is too stale, and none is weighed: a node that sends again replaces what it sent before,
to the bit, and a version is a function of whose statistics are in it, not of how they came there.

The payloads of all nodes are held, because one that is replaced must be subtracted as it was added, and because the
penalty is chosen by leaving nodes out.
"""

from collections.abc import Mapping
from dataclasses import replace

from fedmq.closing import closing
from fedmq.compress import codec
from fedmq.delta import Params, norm, subtract
from fedmq.errors import BadPayload, Rejection
from fedmq.journal import Traffic, UpdateEntry, VersionEntry
from fedmq.messages import Code, Update
from fedmq.past import Point
from fedmq.plan import Settings
from fedmq.rounds import Cause, Round
from fedmq.stats.bounds import require_sound
from fedmq.stats.choice import FOLDS, penalty
from fedmq.stats.forms import FORMS
from fedmq.stats.heads import head
from fedmq.stats.layout import Layout, Statistics
from fedmq.stats.sums import Sum
from fedmq.versions import Versions


class Pool:
    """The open round, the newest statistics of each node, and the versions that come of them."""

    def __init__(self, settings: Settings, start: Point) -> None:
        self._settings, self._form = settings, FORMS[settings.codec.up]
        self._beginning = start.exact if start.beginning is None else start.beginning
        self._layout = Layout.of(self._beginning.schema)
        self._sum, self._live = Sum(self._layout), dict[str, UpdateEntry]()
        self._forgotten = start.forgotten
        self._folded = start.folded
        self.versions = Versions(start.version, start.exact, start.broadcast, codec(settings.codec.down))
        self.round = Round(start.version + 1, settings.rounds)
        for entry in start.live:
            self._replace(entry, self._read(entry.update))

    @property
    def point(self) -> Point:
        """Where a federation stands right after a commit: what another pool would go on from."""
        return Point(
            version=self.versions.number,
            exact=self.versions.exact,
            broadcast=self.versions.broadcast,
            folded=self._folded,
            beginning=self._beginning,
            live=tuple(self._live.values()),
            forgotten=self._forgotten,
        )

    @property
    def nodes(self) -> Mapping[str, UpdateEntry]:
        """Whose statistics are in the sum, and as what they came."""
        return self._live

    def judge(self, node: str, update: Update, frame_bytes: int, now: float) -> UpdateEntry:
        """Take the statistics in, or do not, and return what became of them."""
        staleness = max(0, self.versions.number - update.base_version)
        entry = UpdateEntry(
            at=now,
            node=node,
            # A copy: it is held for as long as the federation lasts, and the frame that it is a view of should not be.
            update=replace(update, payload=bytes(update.payload)),
            frame_bytes=frame_bytes,
            code=Code.ACCEPTED,
            number=self._folded,
            staleness=staleness,
            weight=float(update.examples),
            damping=1.0,
        )
        try:
            self._replace(entry, self._admit(node, update))
        except (Rejection, BadPayload) as error:
            code, text = Code(error.reason), str(error)
            return UpdateEntry(now, node, update, frame_bytes, code, text, staleness=staleness)
        self._folded += 1
        self.round.deliver(node, now)
        return entry

    def refold(self, entry: UpdateEntry, now: float) -> None:
        """Take in statistics that were accepted before a restart."""
        self._replace(entry, self._read(entry.update))
        self._folded += 1
        self.round.deliver(entry.node, now)

    def commit(self, cause: Cause, traffic: Traffic, now: float) -> VersionEntry:
        """End the round: solve the head of all statistics, make that the next version, and begin the next round."""
        ended, before = self.round, self.versions.exact
        self.versions.commit(self._solved())
        self.round = Round(self.versions.number + 1, self._settings.rounds)
        step_norm = norm(subtract(self.versions.exact, before))
        return closing(ended, self.versions, self._folded, cause, step_norm, traffic, now)

    def _solved(self) -> Params:
        if not self._live:
            return self._beginning
        settings = self._settings.statistics
        chosen = penalty(settings, self._sum, self._folds(), self._beginning)
        return head(settings, chosen, self._sum.totals(), self._beginning)

    def _folds(self) -> list[Sum]:
        """Return what is left out in turn: each node, or groups of them, that depend on the names alone."""
        if self._settings.statistics.penalty:
            return []
        folds = [Sum(self._layout) for _ in range(min(FOLDS, len(self._live)))]
        for place, node in enumerate(sorted(self._live)):
            folds[place % FOLDS].add(self._read(self._live[node].update))
        return folds

    def _admit(self, node: str, update: Update) -> Statistics:
        newest = self.versions.number
        if update.base_version > newest:
            raise Rejection(Code.UNKNOWN_VERSION, f"sent at version {update.base_version}, the newest is {newest}")
        if node in self._forgotten:
            raise Rejection(Code.FORGOTTEN, "this node was forgotten; fedmq forget --undo lets it contribute again")
        if update.codec != self._form.name:
            raise Rejection(Code.WRONG_CODEC, f"sent as {update.codec}, agreed was {self._form.name}")
        if update.examples == 0:
            raise Rejection(Code.NO_EXAMPLES, "statistics of 0 examples")
        found = self._read(update)
        require_sound(found, self._layout, self._form, update.examples)
        return found

    def _read(self, update: Update) -> Statistics:
        return FORMS[update.codec].unpack(update.payload, self._layout)

    def _replace(self, entry: UpdateEntry, found: Statistics) -> None:
        old = self._live.get(entry.node)
        if old is not None:
            self._sum.subtract(before := self._read(old.update))
        try:
            self._sum.add(found)
        except Rejection:
            if old is not None:
                self._sum.add(before)
            raise
        # Taken out and put in again, so that the newest stand last.
        self._live.pop(entry.node, None)
        self._live[entry.node] = entry
