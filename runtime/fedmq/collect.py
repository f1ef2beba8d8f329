"""Collecting: from one update to a new version. Steps 8, 10 and 11 of the walk of a delta.

An update is judged by its envelope, then unpacked and measured, then folded, or refused with the reason. When the round
ends, the sum becomes a step, and the step a version. The order of folding is numbered, so that a replay repeats it to
the bit.
"""

from dataclasses import dataclass, replace

from fedmq.budgets import Budgets
from fedmq.closing import closing
from fedmq.compress import codec
from fedmq.delta import Delta, Vector, norm
from fedmq.errors import BadPayload, Rejection
from fedmq.guards import Norms
from fedmq.journal import Traffic, UpdateEntry, VersionEntry
from fedmq.messages import Code, Update
from fedmq.outer import optimizer
from fedmq.past import Point
from fedmq.plan import Settings
from fedmq.rounds import Cause, Round
from fedmq.rules import RULES, Start
from fedmq.versions import Versions


@dataclass(frozen=True)
class _Admitted:
    delta: Delta
    weight: float
    damping: float
    scale: float
    norm: float
    steps: int


class Collector:
    """The open round, the running sum, and the versions that come of them."""

    def __init__(self, settings: Settings, start: Point) -> None:
        schema = start.exact.schema
        self._settings = settings
        self._up = codec(settings.codec.up)
        self._norms, self._budgets = Norms(settings.guard, start.norms), Budgets(settings.weight)
        self._rule = RULES[settings.rule](Start(schema, settings.combine, start.states, start.cached, start.version))
        self._optimizer = optimizer(settings.outer, schema, start.states)
        self._folded = start.folded
        self.versions = Versions(start.version, start.exact, start.broadcast, codec(settings.codec.down))
        self.round = Round(start.version + 1, settings.rounds)

    @property
    def point(self) -> Point:
        """Where a federation stands right after a commit: what another collector would go on from."""
        versions = self.versions
        return Point(
            versions.number,
            versions.exact,
            versions.broadcast,
            self._states,
            self._rule.cached,
            self._folded,
            tuple(self._norms.recent),
        )

    def judge(self, node: str, update: Update, frame_bytes: int, now: float) -> UpdateEntry:
        """Fold the update, or do not, and return what became of it."""
        staleness = self.versions.number - update.base_version
        try:
            admitted = self._admit(update, staleness)
        except (Rejection, BadPayload) as error:
            code, text = Code(error.reason), str(error)
            return UpdateEntry(now, node, update, frame_bytes, code, text, staleness=max(staleness, 0))
        number = self._folded
        self._fold(node, admitted)
        self.round.deliver(node, now)
        return UpdateEntry(
            at=now,
            node=node,
            update=update,
            frame_bytes=frame_bytes,
            code=Code.ACCEPTED,
            number=number,
            staleness=staleness,
            weight=admitted.weight,
            damping=admitted.damping,
            scale=admitted.scale,
            norm=admitted.norm,
        )

    def refold(self, entry: UpdateEntry, now: float) -> None:
        """Fold an update that was accepted before a restart, exactly as it was then."""
        delta = Delta(codec(entry.update.codec).unpack(entry.update.payload, self.versions.exact.schema))
        steps = self._budgets.of(entry.update)
        self._fold(entry.node, _Admitted(delta, entry.weight, entry.damping, entry.scale, entry.norm, steps))
        self.round.deliver(entry.node, now)

    def commit(self, cause: Cause, traffic: Traffic, now: float) -> VersionEntry:
        """End the round: move the params by the step, make that the next version, and begin the next round."""
        ended = self.round
        assert ended.opened_at is not None
        combined, damping = self._rule.step()
        step = self._budgets.whole(combined)
        self.versions.commit(self._optimizer.move(self.versions.exact, step, damping))
        self.round = Round(self.versions.number + 1, self._settings.rounds)
        entry = closing(ended, self.versions, self._folded, cause, norm(step), traffic, now)
        return replace(entry, states=self._states, cached=tuple(one.number for one in self._rule.cached))

    def _admit(self, update: Update, staleness: int) -> _Admitted:
        """Judge by the envelope first, which is cheap, then by the values."""
        newest, limit = self.versions.number, self._settings.rounds.max_staleness
        if staleness < 0:
            raise Rejection(Code.UNKNOWN_VERSION, f"trained from version {update.base_version}, the newest is {newest}")
        if staleness > limit:
            raise Rejection(
                Code.TOO_STALE, f"trained from version {update.base_version}, now {newest}, limit {limit} behind"
            )
        if update.codec != self._up.name:
            raise Rejection(Code.WRONG_CODEC, f"sent as {update.codec}, agreed was {self._up.name}")
        if update.examples == 0:
            raise Rejection(Code.NO_EXAMPLES, "trained on 0 examples")
        delta = Delta(self._up.unpack(update.payload, self.versions.exact.schema))
        steps = self._budgets.of(update)
        length, scale = self._norms.check(delta, steps)
        weight, damping = self._settings.weight.weight(update.examples), self._settings.weight.damping(staleness)
        return _Admitted(delta, weight, damping, scale, length * scale, steps)

    @property
    def _states(self) -> dict[str, Vector]:
        return {**self._optimizer.states, **self._rule.states}

    def _fold(self, node: str, admitted: _Admitted) -> None:
        scale = admitted.scale / admitted.steps
        self._rule.add(admitted.delta, admitted.weight, admitted.damping, scale, node, self._folded)
        self._budgets.add(node, admitted.steps)
        self._norms.accept(admitted.norm)
        self._folded += 1
