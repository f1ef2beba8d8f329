"""The reception: nodes come, get ready, say that they are alive, and go.

May this node take part? If not, it is told why, with both values. If it may, it is told everything that it needs,
whether it comes for the first time, after a broken link, or as a new process with an old identity.
"""

from dataclasses import replace

from fedmq import codec
from fedmq.codec import Limits
from fedmq.collecting import Collecting
from fedmq.effects import Level
from fedmq.errors import ConfigInvalid
from fedmq.journal import Journal
from fedmq.messages import Hello, Ping, Pong, Ready, Refuse, Verdict, Welcome
from fedmq.plan import Job, Settings
from fedmq.post import LONGEST, Post
from fedmq.roster import Member, Roster
from fedmq.session import Session, Side, State

REVOKED = "revoked", "this node's key is not enrolled any more; ask whoever runs the federation to enrol it"


def objection(hello: Hello, settings: Settings, job: Job) -> tuple[str, str] | None:
    """Return the reason code and the sentence with which to refuse, or None: welcome."""
    if codec.agreed(*hello.protocols) is None:
        oldest, newest = hello.protocols
        return "protocol_mismatch", (
            f"the node reads protocols {oldest} to {newest}, this end {codec.spoken()}; upgrade the older"
        )
    if hello.federation not in ("", settings.federation):
        return (
            "wrong_federation",
            f"this is federation {settings.federation!r}, the node was sent to {hello.federation!r}",
        )
    if hello.feature_space != job.feature_space:
        return "feature_space", (
            f"the node has features of space {hello.feature_space[:16]}, the federation {job.feature_space[:16]}: "
            "encoder, precision and preprocessing must be the same; join with the federation's bundle"
        )
    if hello.dim != job.dim:
        return (
            "adapter_shape",
            f"the node's features have {hello.dim} dimensions, the federation's adapter takes {job.dim}",
        )
    if job.method not in hello.methods:
        known = ", ".join(hello.methods) or "none"
        return (
            "unknown_method",
            f"the federation trains {job.method!r}, the node can do {known}; upgrade it, or install torch there",
        )
    for direction, name in (("up", settings.codec.up), ("down", settings.codec.down)):
        if name not in hello.codecs:
            known = ", ".join(hello.codecs) or "none"
            return "unknown_codec", f"the codec {direction} is {name!r}, the node knows {known}; upgrade the node"
    return None


def _finished(version: int) -> tuple[str, str]:
    return "finished", f"the federation has finished with version {version}"


class Reception:
    """Opens and closes conversations."""

    def __init__(
        self,
        settings: Settings,
        job: Job,
        run: str,
        roster: Roster,
        collector: Collecting,
        journal: Journal,
        post: Post,
    ) -> None:
        self._settings, self._job, self._run = settings, job, run
        self._roster, self._collector, self._journal, self._post = roster, collector, journal, post
        self._require_readable(Member("", Session(Side.AGGREGATOR, 0, 0.0)))

    def greet(self, peer: str, hello: Hello, finished: bool, now: float) -> tuple[str, str] | None:
        """Open the conversation, or open it again: whatever was lost on the way is told anew.

        returns    the objection, if the node is to blame for being refused
        """
        member = self._roster.members.get(peer)
        if member is not None and self._is_undecided(member, hello, now):
            return None
        objected = objection(hello, self._settings, self._job)
        if (no := objected or self._no_place(member, hello, finished)) is not None:
            self._post.log("warning", "node.refused", now, node=peer, name=hello.name, reason=no[0], text=no[1])
            self._post.send([peer], Refuse(hello.session, no[0], no[1][:LONGEST]))
            return objected
        if member is None:
            member = self._roster.members[peer] = Member(peer, Session(Side.AGGREGATOR, 0, now))
        if is_new := hello.session != member.session.number:
            self._begin(member, hello.session, now)
        member.session.receive(hello, now)
        member.protocol = codec.agreed(*hello.protocols) or codec.OLDEST
        member.name, member.ready, member.returning, member.reason = hello.name, False, False, ""
        versions = self._collector.versions
        member.holds = hello.version if versions.has(hello.version, hello.proof) else -1
        self._roster.update_free(member, versions.announced)
        disowned = hello.version if member.holds != hello.version else -1
        if is_new and hello.version < 0:
            member.holds = self._post.lasting
        self._post.send([peer], replace(self._welcome(member), disowned=disowned))
        self._post.log("info", "node.joined", now, node=peer, name=member.name, seq=member.session.seq)
        self._journal.add(member.entry(now))
        return None

    def ready(self, member: Member, ready: Ready, now: float) -> None:
        """A node can work. One that was training when its link broke still is."""
        version = self._collector.versions.number
        member.ready, member.examples, member.tests, member.activity = True, ready.examples, ready.tests, ""
        if ready.examples == 0:
            member.task = None
            self._collector.round.lose(member.peer, now)
        if member.task == version:
            self._collector.round.invite(member.peer, now)
            self._post.assign([member])
        elif member.task is not None:
            self._collector.round.expect(member.peer)
        elif self._settings.evaluates(version):
            self._post.bring([member])
        self._roster.update_free(member, version)
        self._post.log("info", "node.ready", now, node=member.peer, name=member.name, examples=ready.examples)
        self._journal.add(member.entry(now))

    def pulse(self, member: Member, ping: Ping) -> None:
        """Answer; and where the node waits for something that we have sent, send it again: it did not arrive."""
        member.activity, member.done, member.total = ping.activity, ping.done, ping.total
        if not member.ready and ping.activity != "encoding":
            self._post.send([member.peer], Refuse(ping.session, "no_session", "say hello again, your ready was lost"))
            return
        self._post.send([member.peer], Pong(ping.session, self._collector.versions.announced))
        if member.ready and ping.activity == "idle" and (ping.version < member.holds or member.task is not None):
            member.holds = min(member.holds, ping.version)
            if member.task is not None:
                self._post.assign([member], missed=True)
            else:
                self._post.bring([member], missed=True)

    def part(self, member: Member, reason: str, left: bool, now: float) -> None:
        """Close the conversation. A node whose link is lost may still be training; one that left is not."""
        member.session.state, member.ready, member.reason = State.CLOSED, False, reason
        if left:
            member.task = None
        self._collector.round.lose(member.peer, now)
        self._roster.update_free(member, self._collector.versions.number)
        level: Level = "info" if left else "warning"
        event = "node.left" if left else "node.lost"
        self._post.log(level, event, now, node=member.peer, name=member.name, reason=reason)
        self._journal.add(member.entry(now))

    def bar(self, peer: str, now: float) -> int:
        """Part with a peer whose key was revoked, if it is here, and return the number of its session."""
        member = self._roster.members.get(peer)
        if member is None:
            return 0
        if member.connected:
            self.part(member, REVOKED[0], left=True, now=now)
        return member.session.number

    def close(self, version: int) -> None:
        """Let those go who have not left by themselves: nobody will answer them."""
        for member in self._roster.connected():
            self._post.send([member.peer], Refuse(member.session.number, *_finished(version)))

    def sweep(self, now: float) -> None:
        """Part with the nodes that have been silent too long, also with those that a restart still waits for."""
        for member in self._roster.members.values():
            silence = member.session.silent_for(now)
            if silence <= self._settings.pulse.lost_after_s:
                continue
            if member.connected:
                self.part(member, f"silent for {silence:.1f} s", left=False, now=now)
            elif member.returning:
                member.returning = False
                self._collector.round.lose(member.peer, now)

    def _is_undecided(self, member: Member, hello: Hello, now: float) -> bool:
        """Whether it is not known yet which of two processes lives: this one, or a later one that said hello alone.

        A hello may be the last thing that is heard of a process that died, and may be overtaken by its successor's. Who
        lives will say more, or say it again.
        """
        session, patience_s = member.session, 2 * self._settings.pulse.heartbeat_s
        return hello.session in member.past and not session.alive and session.silent_for(now) <= patience_s

    def _no_place(self, member: Member | None, hello: Hello, finished: bool) -> tuple[str, str] | None:
        """Return why a node that could take part may not, through no fault of its own."""
        if member is not None:
            replaced = hello.session in member.past and member.session.alive
            return ("replaced", f"another process has joined as {hello.name!r}") if replaced else None
        if finished:
            return _finished(self._collector.versions.announced)
        if len(self._roster.members) >= self._settings.most_nodes:
            return "full", f"the federation knows {self._settings.most_nodes} nodes; raise most_nodes"
        return None

    def _begin(self, member: Member, number: int, now: float) -> None:
        """Talk to a new process of this node from now on; what the old one was doing is void.

        After a restart of ours nobody knows whether it is a new one, so what it was doing is then left as it was.
        """
        if member.connected:
            self._post.log("info", "node.replaced", now, node=member.peer, name=member.name)
        if member.session.number:
            member.past.append(member.session.number)
            if number in member.past:
                member.past.remove(number)
            member.task = None
            self._collector.round.lose(member.peer, now)
        member.session = Session(Side.AGGREGATOR, number, now, member.session.seq)

    def _require_readable(self, member: Member) -> None:
        """Raise ConfigInvalid if no node could read the welcome: a node reads with the limits that it was made with."""
        limits, frame = Limits(), codec.encode(self._welcome(member))
        envelope, whole = len(frame[0]), codec.size_bytes(frame)
        if envelope > limits.envelope_bytes or whole > limits.frame_bytes:
            raise ConfigInvalid(
                f"the welcome message has an envelope of {envelope} bytes, limit is {limits.envelope_bytes}, and "
                f"{whole} bytes in all, limit is {limits.frame_bytes}; make the task or its arrays smaller"
            )

    def _welcome(self, member: Member) -> Welcome:
        verdict: Verdict | None = member.verdict and replace(member.verdict, session=member.session.number)
        return Welcome(
            session=member.session.number,
            version=self._collector.versions.announced,
            trained=member.trained,
            seq=member.session.seq,
            verdict=verdict,
            heartbeat_s=self._settings.pulse.heartbeat_s,
            up=self._settings.codec.up,
            task=self._job.task,
            schema=self._job.params.schema.entries,
            evaluate_every=self._settings.evaluate_every,
            run=self._run,
            origin=self._post.origin,
            protocol=member.protocol,
            arrays=self._job.arrays,
        )
