"""The roster: every node that the federation knows, and where each one stands.

It holds facts, not decisions: who is connected, who has features, who trains from which version, who may be invited.
"""

from collections import deque
from dataclasses import dataclass, field

from fedmq.journal import NodeEntry
from fedmq.messages import Report, Verdict
from fedmq.past import Known
from fedmq.session import Session, Side, State

PAST_SESSIONS = 16


@dataclass
class Member:
    """One node.

    holds        newest version that it has, or that is on its way to it; -1 none
    task         version of its live task; None is no task
    trained      newest version that it has delivered from; -1 none
    counted      session whose statistics were accepted
    verdict      on the update `session.seq`; None while that is being written, or there was none
    zero_shot    accuracy of the frozen model on its own test split; `accuracy` that of version `reported`, `personal`
                 that with its own part beside it, if it has one
    protocol     the newest that it and we read
    returning    it was connected before a restart of the aggregator, and may come back
    past         session numbers of its earlier processes
    """

    peer: str
    session: Session
    name: str = ""
    ready: bool = False
    holds: int = -1
    task: int | None = None
    trained: int = -1
    counted: int = 0
    verdict: Verdict | None = None
    examples: int = 0
    tests: int = 0
    activity: str = ""
    done: int = 0
    total: int = 0
    staleness: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    strikes: int = 0
    reason: str = ""
    zero_shot: float | None = None
    accuracy: float | None = None
    personal: float | None = None
    reported: int = -1
    protocol: int = 1
    returning: bool = False
    past: deque[int] = field(default_factory=lambda: deque(maxlen=PAST_SESSIONS))

    @property
    def connected(self) -> bool:
        """Whether the conversation is open."""
        return self.session.state is State.OPEN

    @property
    def state(self) -> str:
        """One word for the status table."""
        if not self.connected:
            return "finished" if self.reason == "finished" else "gone"
        if not self.ready:
            return self.activity or "preparing"
        return "training" if self.task is not None else "idle"

    def note(self, report: Report) -> None:
        """Take note of how good a version is on this node; reports may come in any order."""
        if report.examples == 0:
            return
        share = report.correct / report.examples
        if report.version is None:
            self.zero_shot = share
        elif report.version >= self.reported:
            self.reported, self.accuracy = report.version, share
            self.personal = None if report.personal is None else report.personal / report.examples

    def entry(self, now: float) -> NodeEntry:
        """Return this member as the ledger keeps it."""
        return NodeEntry(
            at=now,
            node=self.peer,
            name=self.name,
            state=self.state,
            reason=self.reason,
            examples=self.examples,
            tests=self.tests,
            bytes_up=self.bytes_up,
            bytes_down=self.bytes_down,
            strikes=self.strikes,
        )


class Roster:
    """All members, and which of them are free: ready, without a task, and not yet heard on the newest version.

    one_shot     each process of a node is heard once, whatever the version
    forgotten    nodes that are not to be asked
    """

    def __init__(self, one_shot: bool = False, forgotten: frozenset[str] = frozenset()) -> None:
        self._one_shot, self._forgotten = one_shot, forgotten
        self.members: dict[str, Member] = {}
        self.free: dict[str, None] = {}
        self._able: set[str] = set()

    def recall(self, known: Known, now: float) -> Member:
        """Return a member as the ledger remembers it, who may come back."""
        session = Session(Side.AGGREGATOR, 0, now, known.seq)
        member = Member(known.node, session, known.name, trained=known.trained, verdict=known.verdict)
        member.returning, member.strikes = known.active, known.strikes
        member.bytes_up, member.bytes_down = known.bytes_up, known.bytes_down
        self.members[known.node] = member
        return member

    def update_free(self, member: Member, newest: int) -> None:
        """Put the member among the free ones, or take it out, as its facts now say."""
        is_able = member.connected and member.ready and member.examples > 0
        if is_able:
            self._able.add(member.peer)
        else:
            self._able.discard(member.peer)
        can_train = is_able and member.peer not in self._forgotten
        is_heard = member.counted == member.session.number if self._one_shot else member.trained >= newest
        if can_train and member.task is None and not is_heard:
            self.free[member.peer] = None
        else:
            self.free.pop(member.peer, None)

    def connected(self) -> list[Member]:
        """Return the members whose conversation is open."""
        return [member for member in self.members.values() if member.connected]

    def awaited(self) -> bool:
        """Whether any node is connected, or may come back after a restart."""
        return any(member.connected or member.returning for member in self.members.values())

    def ready(self) -> int:
        """How many nodes could train."""
        return len(self._able)
