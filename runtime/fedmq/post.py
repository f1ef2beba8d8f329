"""The post: what an aggregator says, to whom, counted as it goes out, and gathered until the shell collects it.

Who lacks the same gets the same frame, encoded once: a version costs the aggregator one encoding, however many nodes
there are.
"""

from collections.abc import Iterable, Sequence

from fedmq import codec
from fedmq.effects import Effect, Level, Log, Send
from fedmq.journal import EventEntry, Journal, Traffic
from fedmq.messages import Message, Task
from fedmq.roster import Member, Roster
from fedmq.versions import Versions


class Post:
    """Effects on their way out, with the bytes and the events that they mean."""

    def __init__(self, roster: Roster, versions: Versions, journal: Journal, traffic: Traffic) -> None:
        self._roster, self._versions, self._journal, self._traffic = roster, versions, journal, traffic
        self._effects: list[Effect] = []

    def send(self, peers: Sequence[str], message: Message) -> None:
        """Send one message to each of these peers."""
        if not peers:
            return
        frame = codec.encode(message)
        size = codec.size_bytes(frame)
        for peer in peers:
            if (member := self._roster.members.get(peer)) is not None:
                member.bytes_down += size
        self._traffic.down_application += size * len(peers)
        self._effects.append(Send(tuple(peers), frame))

    def bring(self, members: Iterable[Member]) -> None:
        """Send each what it lacks to hold the newest version; nothing while that is still being written."""
        if self._versions.announced < self._versions.number:
            return
        behind: dict[int, list[Member]] = {}
        for member in members:
            behind.setdefault(member.holds, []).append(member)
        for held, group in behind.items():
            for model in self._versions.news(held):
                self._traffic.down_goodput += len(model.payload) * len(group)
                self.send([member.peer for member in group], model)
            for member in group:
                member.holds = self._versions.number

    def assign(self, members: Sequence[Member]) -> None:
        """Bring each to the newest version that may be known, and ask it to train from there."""
        self.bring(members)
        for member in members:
            member.task = self._versions.announced
        self.send([member.peer for member in members], Task(self._versions.announced))

    def log(self, level: Level, event: str, now: float, **fields: object) -> None:
        """Tell a person, and unless it is a detail, the ledger."""
        self._effects.append(Log(level, event, fields))
        if level != "debug":
            self._journal.add(EventEntry(now, level, event, fields))

    def add(self, effect: Effect) -> None:
        """Put any other effect behind what was said before."""
        self._effects.append(effect)

    def collect(self) -> list[Effect]:
        """Return what has gathered, and begin anew."""
        effects, self._effects = self._effects, []
        return effects
