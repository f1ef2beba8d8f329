"""The aggregator: frames and time in, effects out. It awaits nothing, reads no clock and draws no global random number.

It composes: `reception` lets nodes in and out, `admission` answers their updates, `convene` has rounds begin and end,
`journal` knows what must be durable before anything is said, and `post` says it. What is left for this file is who is
listened to, the order in which the others are asked, and the end. After every event it settles: it goes on with the
round, keeps what is new, and finishes if everyone has.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum

from numpy.random import Generator

from fedmq import codec
from fedmq.admission import Admission
from fedmq.collecting import collector
from fedmq.convene import Convener
from fedmq.effects import Done, Effect, Keep
from fedmq.errors import BadFrame, RemoteError, Unexpected
from fedmq.journal import Journal, ReportEntry, UpdateEntry, VersionEntry
from fedmq.messages import Bye, Hello, Message, Ping, Ready, Refuse, Report, Update
from fedmq.past import Past
from fedmq.plan import CAVEAT, STAYS, Job, Settings
from fedmq.post import Post
from fedmq.rates import Rates
from fedmq.reception import REVOKED, Reception
from fedmq.roster import Member, Roster
from fedmq.session import Receipt
from fedmq.stall import Stall
from fedmq.strikes import Strikes


class Phase(StrEnum):
    """collecting; committing: a version is on its way to the ledger; finishing: nodes evaluate the last one; done."""

    COLLECTING = "collecting"
    COMMITTING = "committing"
    FINISHING = "finishing"
    DONE = "done"


class Aggregator:
    """One federation's aggregator.

    origin     a number that no other process draws, if the link broadcasts; 0 if it does not
    """

    def __init__(self, settings: Settings, job: Job, past: Past, rng: Generator, now: float, origin: int = 0) -> None:
        settings.require_room(job.params.schema)
        self.settings = settings
        self.caveat, self.stays = job.notes.get(CAVEAT, ""), job.notes.get(STAYS, "")
        self.phase = Phase.COLLECTING
        self.traffic = replace(past.traffic)
        self.roster = Roster(settings.one_shot, past.point.forgotten)
        self.collector = collector(settings, past.point)
        self.stall = Stall()
        self.strikes = Strikes(settings.strikes, settings.mute_s)
        self._rates = Rates(settings.limits)
        self._journal = Journal()
        self._post = Post(self.roster, self.collector.versions, self._journal, self.traffic, origin)
        self._reception = Reception(settings, job, past.run, self.roster, self.collector, self._journal, self._post)
        self._admission = Admission(
            settings, self.roster, self.collector, self.stall, self._journal, self._post, self.traffic
        )
        self._convener = Convener(settings, self.roster, self.collector, self._journal, self._post, self.traffic, rng)
        self._sweep_at = now + settings.pulse.heartbeat_s
        self._finish_at: float | None = None
        self._resume(past, now)
        self._post.publish()

    @property
    def version(self) -> int:
        """The newest version."""
        return self.collector.versions.number

    def receive(self, peer: str, frame: codec.Frame, now: float) -> list[Effect]:
        """Take one frame from this peer. Whatever it holds, nothing is raised."""
        size = codec.size_bytes(frame)
        self.traffic.up_application += size
        if self.strikes.muted(peer, now):
            return self._settle(now)
        if (too_fast := self._rates.over(peer, size, now)) is not None:
            self._strike(peer, "too_fast", too_fast, now)
        else:
            try:
                fault = self._take(peer, codec.decode(frame, self.settings.limits), size, now)
                if fault is not None:
                    self._strike(peer, *fault, now)
            except RemoteError as error:
                self._strike(peer, error.reason, str(error), now)
                if isinstance(error, BadFrame) and error.reason == "protocol_mismatch":
                    self._post.send([peer], Refuse(0, error.reason, str(error)))
        return self._settle(now)

    def lost(self, peer: str, now: float) -> list[Effect]:
        """The link cannot reach this peer."""
        member = self.roster.members.get(peer)
        if member is not None and member.connected:
            self._reception.part(member, "the link is gone", left=False, now=now)
        return self._settle(now)

    def bar(self, peer: str, frame: codec.Frame, now: float) -> list[Effect]:
        """Refuse this peer, which may not be here any more, and part with it; `frame` is what it sent, if anything."""
        self.traffic.up_application += codec.size_bytes(frame)
        if not self.strikes.muted(peer, now):
            session = self._reception.bar(peer, now)
            if frame:
                with suppress(BadFrame):
                    session = getattr(codec.decode(frame, self.settings.limits), "session", session)
                self._strike(peer, *REVOKED, now)
            self._post.send([peer], Refuse(session, *REVOKED))
        return self._settle(now)

    def tick(self, now: float) -> list[Effect]:
        """Look at the clock; call it once at the start, and whenever `next_deadline` has passed."""
        if now >= self._sweep_at:
            self._sweep_at = now + self.settings.pulse.heartbeat_s
            self._reception.sweep(now)
        if self.stall.due(now):
            self._post.add(Keep(*self._journal.again()))
        return self._settle(now)

    def kept(self, number: int, now: float) -> list[Effect]:
        """Batch `number` is durable: say what waited for that."""
        if self.stall.over():
            self._post.log(
                "info", "ledger.resumed", now, waiting_bytes=self.waiting_bytes, dropped=self._journal.dropped
            )
        for entry in self._journal.kept(number):
            if isinstance(entry, UpdateEntry):
                self._admission.acknowledge(entry)
            elif isinstance(entry, VersionEntry):
                self._announce(entry, now)
        return self._settle(now)

    def unkept(self, number: int, problem: str, now: float) -> list[Effect]:
        """Batch `number` could not be written, and nothing of it was: accept nothing more, and try again later."""
        assert number == self._journal.again()[0]
        if self.stall.failed(problem, now):
            self._post.log("error", "ledger.stalled", now, text=problem, waiting_bytes=self.waiting_bytes)
        return self._settle(now)

    @property
    def waiting_bytes(self) -> int:
        """Payload of the updates that wait for the ledger."""
        return self._journal.waiting_bytes

    def next_deadline(self) -> float | None:
        """When to call tick next; None when there is nothing left to wait for."""
        if self.phase is Phase.DONE:
            return None
        collecting = self.phase is Phase.COLLECTING
        closing_at = self.collector.round.next_deadline() if collecting else None
        times = (self._sweep_at, self._finish_at, self.stall.retry_at, closing_at)
        return min(at for at in times if at is not None)

    def _take(self, peer: str, message: Message, size: int, now: float) -> tuple[str, str] | None:
        """Hand a message to whom it concerns, and return the fault in it, if the peer is to blame for one."""
        if isinstance(message, Hello):
            return self._reception.greet(peer, message, self.settings.stop.is_last(self.version), now)
        member = self.roster.members.get(peer)
        if member is None or not member.connected:
            self._post.send([peer], Refuse(getattr(message, "session", 0), "no_session", "say hello first"))
            return None
        member.bytes_up += size
        if isinstance(message, Update):
            return self._admission.take(member, message, size, now)
        if member.session.receive(message, now) is Receipt.STALE:
            return None
        match message:
            case Ready():
                self._reception.ready(member, message, now)
                if self.phase is Phase.FINISHING:
                    self._dismiss([member])
            case Ping():
                self._reception.pulse(member, message)
            case Report():
                most = max(message.correct, message.personal or 0)
                if most > message.examples or (message.version or 0) > self.version:
                    right = f"{most} of {message.examples} right with version {message.version}"
                    raise Unexpected(f"a report of {right}; the newest is {self.version}")
                member.note(message)
                measured = (message.version, message.examples, message.correct, message.loss, message.personal)
                self._journal.add(ReportEntry(now, peer, *measured))
            case Bye():
                self._reception.part(member, message.reason, left=True, now=now)
        return None

    def _strike(self, peer: str, reason: str, text: str, now: float) -> None:
        count = self.strikes.add(peer, now, f"{reason}: {text}")
        if (member := self.roster.members.get(peer)) is not None:
            member.strikes += 1
            member.reason = f"{reason}: {text}"
        self._post.log("warning", "peer.struck", now, node=peer, reason=reason, text=text, strikes=count)

    def _announce(self, entry: VersionEntry, now: float) -> None:
        """Tell the nodes of a version that is durable, or that it was the last one."""
        self.collector.versions.announced = entry.version
        self._post.publish()
        if self.settings.stop.is_last(entry.version):
            self._finish(now)
            self._dismiss([member for member in self.roster.connected() if member.ready])
            self._post.log("info", "federation.finished", now, version=entry.version)
        else:
            self.phase = Phase.COLLECTING
            self._convener.reconvene()

    def _finish(self, now: float) -> None:
        self.phase = Phase.FINISHING
        self._finish_at = now + self.settings.stop.finish_s

    def _dismiss(self, members: Sequence[Member]) -> None:
        """Bring nodes to the last version, and let them go once they have evaluated it."""
        self._post.bring(members)
        for member in members:
            self._post.send([member.peer], Bye(member.session.number, "finished", self.version))

    def _settle(self, now: float) -> list[Effect]:
        """Go on with the round, keep, finish; return all effects of this event."""
        if self.phase is Phase.COLLECTING and self._convener.go_on(now):
            self.phase = Phase.COMMITTING
        if (batch := self._journal.next_batch()) is not None:
            self._post.add(Keep(*batch))
        if self.phase is Phase.FINISHING and self._journal.is_empty:
            assert self._finish_at is not None
            if now >= self._finish_at or not self.roster.awaited():
                self.phase = Phase.DONE
                self._reception.close(self.version)
                self._post.add(Done("finished"))
        return self._post.collect()

    def _resume(self, past: Past, now: float) -> None:
        """Stand where the ledger left off. Nodes that were connected then are waited for, but not for ever."""
        for entry in past.pending:
            self.collector.refold(entry, now)
        for known in past.nodes:
            member = self.roster.recall(known, now)
            if known.active and known.examples and known.trained < self.version:
                self.collector.round.invite(known.node, now)
                member.task = self.version
        if self.settings.stop.is_last(self.version):
            self._finish(now)
