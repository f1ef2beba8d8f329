"""The aggregator: frames and time in, effects out. It awaits nothing, reads no clock and draws no global random number.

It composes: `reception` lets nodes in and out, `session` decides what a message is, `collect` what becomes of an
update, `rounds` when a round ends, `journal` what must be durable before anything is said, and `post` says it. What is
left for this file is the order in which they are asked. After every event it settles: it invites whom it can, ends the
round if it can, and keeps what is new.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum

from numpy.random import Generator

from fedmq import codec
from fedmq.collect import Collector
from fedmq.effects import Done, Effect, Keep
from fedmq.errors import BadFrame, RemoteError, Unexpected
from fedmq.journal import Journal, ReportEntry, UpdateEntry, VersionEntry
from fedmq.messages import Bye, Code, Hello, Message, Ping, Ready, Refuse, Report, Update, Verdict
from fedmq.past import Past
from fedmq.plan import Job, Settings
from fedmq.post import Post
from fedmq.rates import Rates
from fedmq.reception import LONGEST, REVOKED, Reception
from fedmq.roster import Member, Roster
from fedmq.rounds import Cause
from fedmq.session import Receipt, Session, Side
from fedmq.stall import Stall
from fedmq.strikes import Strikes

FAULTS = frozenset(Code) - {Code.ACCEPTED, Code.TOO_STALE, Code.FINISHED, Code.BUSY}


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
        self.phase = Phase.COLLECTING
        self.traffic = replace(past.traffic)
        self.roster = Roster()
        self.collector = Collector(settings, past.point)
        self.stall = Stall()
        self._journal = Journal()
        self._post = Post(self.roster, self.collector.versions, self._journal, self.traffic, origin)
        self._reception = Reception(settings, job, past.run, self.roster, self.collector, self._journal, self._post)
        self.strikes = Strikes(settings.strikes, settings.mute_s)
        self._rates = Rates(settings.limits)
        self._rng = rng
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
                self._take(peer, codec.decode(frame, self.settings.limits), size, now)
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
                self._acknowledge(entry)
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

    def _take(self, peer: str, message: Message, size: int, now: float) -> None:
        member = self.roster.members.get(peer)
        if isinstance(message, Hello):
            if (no := self._reception.greet(peer, message, self._is_last(self.version), now)) is not None:
                self._strike(peer, *no, now)
            return
        if member is None or not member.connected:
            self._post.send([peer], Refuse(getattr(message, "session", 0), "no_session", "say hello first"))
            return
        member.bytes_up += size
        if isinstance(message, Update) and (why := self._no_room(message)) and member.session.is_new(message):
            self._put_off(member, message, why, now)
            return
        receipt = member.session.receive(message, now)
        if receipt is Receipt.STALE:
            return
        match message:
            case Update() if receipt is Receipt.DUPLICATE:
                if member.verdict is not None and member.verdict.seq == message.seq:
                    self._post.send([peer], member.verdict)
            case Update():
                self._judge(member, message, size, now)
            case Ready():
                self._reception.ready(member, message, now)
                if self.phase is Phase.FINISHING:
                    self._dismiss([member])
            case Ping():
                self._reception.pulse(member, message)
            case Report():
                if message.correct > message.examples or (message.version or 0) > self.version:
                    right = f"{message.correct} of {message.examples} right with version {message.version}"
                    raise Unexpected(f"a report of {right}; the newest is {self.version}")
                member.note(message)
                entry = ReportEntry(now, peer, message.version, message.examples, message.correct, message.loss)
                self._journal.add(entry)
            case Bye():
                self._reception.part(member, message.reason, left=True, now=now)

    def _no_room(self, update: Update) -> str:
        """Return why no update can be taken now; a first one always fits."""
        if self.stall.problem:
            return self.stall.problem
        size, limit = len(update.payload), self.settings.backlog_bytes
        if self.waiting_bytes > 0 and self.waiting_bytes + size > limit:
            return f"{self.waiting_bytes} bytes wait for the ledger, with these {size} over {limit} (backlog_bytes)"
        return ""

    def _put_off(self, member: Member, update: Update, why: str, now: float) -> None:
        member.session.heard_at = now
        verdict = Verdict(update.session, update.seq, Code.BUSY, why[:LONGEST], retry_after_s=self.stall.wait_s(now))
        self._post.send([member.peer], verdict)
        self._post.log("debug", "update.put_off", now, node=member.peer, seq=update.seq, text=why)

    def _judge(self, member: Member, update: Update, size: int, now: float) -> None:
        member.task, member.verdict = None, None
        if self._is_last(self.version):
            text = f"the federation has finished with version {self.version}"
            entry = UpdateEntry(now, member.peer, update, size, Code.FINISHED, text)
        else:
            entry = self.collector.judge(member.peer, update, size, now)
        member.staleness = entry.staleness
        self._journal.add(entry)
        facts = {
            "node": member.peer,
            "seq": update.seq,
            "base_version": update.base_version,
            "version": self.version,
            "staleness": entry.staleness,
            "examples": update.examples,
            "size_bytes": size,
        }
        if entry.code is Code.ACCEPTED:
            member.trained = max(member.trained, update.base_version)
            self.traffic.up_goodput += len(update.payload)
            self.roster.update_free(member, self.version)
            self._post.log("debug", "update.admitted", now, **facts, weight=entry.taken)
            return
        # Refused from the newest version, a node is asked again; its strikes see to it that this ends.
        self.roster.update_free(member, self.version)
        self.collector.round.lose(member.peer, now)
        self._post.log("warning", "update.refused", now, **facts, code=entry.code.value, text=entry.text)
        if entry.code in FAULTS:
            self._strike(member.peer, entry.code, entry.text, now)

    def _strike(self, peer: str, reason: str, text: str, now: float) -> None:
        count = self.strikes.add(peer, now, f"{reason}: {text}")
        if (member := self.roster.members.get(peer)) is not None:
            member.strikes += 1
            member.reason = f"{reason}: {text}"
        self._post.log("warning", "peer.struck", now, node=peer, reason=reason, text=text, strikes=count)

    def _acknowledge(self, entry: UpdateEntry) -> None:
        member = self.roster.members[entry.node]
        if member.session.seq != entry.update.seq:
            return
        member.verdict = Verdict(
            session=member.session.number,
            seq=entry.update.seq,
            code=entry.code,
            text=entry.text,
            staleness=entry.staleness,
            weight=entry.taken,
        )
        if member.connected:
            self._post.send([member.peer], member.verdict)

    def _announce(self, entry: VersionEntry, now: float) -> None:
        """Tell the nodes of a version that is durable, or that it was the last one."""
        self.collector.versions.announced = entry.version
        self._post.publish()
        ready = [member for member in self.roster.connected() if member.ready]
        if self._is_last(entry.version):
            self._finish(now)
            self._dismiss(ready)
            self._post.log("info", "federation.finished", now, version=entry.version)
            return
        self.phase = Phase.COLLECTING
        for member in ready:
            self.roster.update_free(member, self.version)
            if member.task is not None:
                self.collector.round.expect(member.peer)
        if self.settings.evaluates(entry.version):
            # A node that trains is not disturbed: it is brought up to date when it is next invited.
            self._post.bring(member for member in ready if member.task is None)

    def _is_last(self, version: int) -> bool:
        return 0 < self.settings.stop.versions <= version

    def _finish(self, now: float) -> None:
        self.phase = Phase.FINISHING
        self._finish_at = now + self.settings.stop.finish_s

    def _dismiss(self, members: Sequence[Member]) -> None:
        """Bring nodes to the last version, and let them go once they have evaluated it."""
        self._post.bring(members)
        for member in members:
            self._post.send([member.peer], Bye(member.session.number, "finished", self.version))

    def _settle(self, now: float) -> list[Effect]:
        """Invite, close, keep; return all effects of this event."""
        if self.phase is Phase.COLLECTING:
            round_ = self.collector.round
            if not round_.invited:
                # A new round asks first: an update carried over must not close it before anyone could take part.
                self._invite(now)
            if (cause := round_.cause(now)) is not None:
                self._commit(cause, now)
            else:
                self._invite(now)
                if round_.overdue(now):
                    self._extend(now)
        if (batch := self._journal.next_batch()) is not None:
            self._post.add(Keep(*batch))
        if self.phase is Phase.FINISHING and self._journal.is_empty:
            assert self._finish_at is not None
            if now >= self._finish_at or not self.roster.awaited():
                self.phase = Phase.DONE
                self._reception.close(self.version)
                self._post.add(Done("finished"))
        return self._post.collect()

    def _invite(self, now: float) -> None:
        """Invite the free nodes that the open round has a place for.

        A round that waits for everyone whom it invited takes nobody more while it waits; one with a fixed goal takes
        all.
        """
        round_, policy = self.collector.round, self.settings.rounds
        if not self.roster.free or round_.is_full or (round_.waiting_for and not policy.goal):
            return
        if self.version == 0 and round_.opened_at is None and self.roster.ready() < self.settings.start_nodes:
            return
        chosen = list(self.roster.free)
        if policy.places is not None and len(chosen) > (places := round_.places_left(policy.places)):
            chosen = [chosen[i] for i in sorted(self._rng.choice(len(chosen), places, replace=False))]
        members = [self.roster.members[peer] for peer in chosen]
        self._post.assign(members)
        for member in members:
            round_.invite(member.peer, now)
            self.roster.update_free(member, self.version)

    def _commit(self, cause: Cause, now: float) -> None:
        self.phase = Phase.COMMITTING
        entry = self.collector.commit(cause, replace(self.traffic), now)
        self._journal.add(entry)
        self._post.log(
            "info",
            "round.closed",
            now,
            version=entry.version,
            cause=cause.value,
            updates=entry.updates,
            invited=entry.invited,
            open_s=round(now - entry.opened_at, 3),
            step_norm=round(entry.step_norm, 6),
        )

    def _extend(self, now: float) -> None:
        """The deadline passed without a quorum: what was accepted stays, and the round goes on."""
        round_ = self.collector.round
        waiting = sorted(round_.waiting_for)
        self._post.log(
            "warning", "round.extended", now, updates=round_.updates, quorum=round_.quorum, waiting_for=waiting
        )
        round_.extend(now)

    def _resume(self, past: Past, now: float) -> None:
        """Stand where the ledger left off. Nodes that were connected then are waited for, but not for ever."""
        for entry in past.pending:
            self.collector.refold(entry, now)
        for known in past.nodes:
            session = Session(Side.AGGREGATOR, 0, now, known.seq)
            member = Member(known.node, session, known.name, trained=known.trained, verdict=known.verdict)
            member.returning, member.strikes = known.active, known.strikes
            member.bytes_up, member.bytes_down = known.bytes_up, known.bytes_down
            self.roster.members[known.node] = member
            if known.active and known.examples and known.trained < self.version:
                self.collector.round.invite(known.node, now)
                member.task = self.version
        if self._is_last(self.version):
            self._finish(now)
