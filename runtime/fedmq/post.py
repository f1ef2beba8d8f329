"""The post: what an aggregator says, to whom, counted as it goes out, and gathered until the shell collects it.

Who lacks the same gets the same frame, encoded once: a version costs the aggregator one encoding, however many nodes
there are. Where the link broadcasts, it is also handed over once. Whole versions then last: who comes later finds the
newest there, and is sent it only after showing that it did not arrive. A difference is of use only to who holds what it
is added to. So a whole version, the keyframe, waits beside it for those who come later, who are sent only what they
have missed since; it is renewed when that would be more than a whole. A task for everyone is handed over once as well.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fedmq import codec
from fedmq.effects import Audience, Effect, Level, Log, Publish, Send
from fedmq.journal import EventEntry, Journal, Traffic
from fedmq.messages import Message, Model, Task
from fedmq.roster import Member, Roster
from fedmq.versions import Versions

LONGEST = 2000  # characters of a sentence on the wire; what a node says of itself may be longer


class Post:
    """Effects on their way out, with the bytes and the events that they mean.

    origin     what marks our versions, where the link broadcasts; 0 where it does not
    lasting    the version that a node finds without asking, when it comes; -1 none
    """

    def __init__(self, roster: Roster, versions: Versions, journal: Journal, traffic: Traffic, origin: int = 0) -> None:
        self.origin, self.lasting = origin, -1
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

    def publish(self) -> None:
        """Hand the newest version over for everyone, where the link can."""
        versions = self._versions
        if not self.origin or versions.announced < versions.number:
            return
        if versions.lossless:
            self._publish(versions.whole, Audience.ALL)
        elif (difference := versions.latest()) is not None:
            self._publish(difference, Audience.PRESENT)
        if any(model.since < 0 for model in versions.news(self.lasting)):
            self._publish(versions.whole, Audience.LATER)

    def _publish(self, model: Model, audience: Audience) -> None:
        self._traffic.down_goodput += len(model.payload)
        self._hand_over(replace(model, origin=self.origin), audience)
        if audience is not Audience.PRESENT:
            self.lasting = model.version
        if audience is not Audience.LATER:
            for member in self._roster.connected():
                if model.since in (-1, member.holds):
                    member.holds = model.version

    def _hand_over(self, message: Message, audience: Audience) -> None:
        frame = codec.encode(message)
        self._traffic.down_application += codec.size_bytes(frame)
        self._effects.append(Publish(frame, audience))

    def bring(self, members: Iterable[Member], *, missed: bool = False) -> None:
        """Send each what it lacks to hold the newest version; nothing while that is still being written.

        missed     they have shown that they do not find what lasts
        """
        if self._versions.announced < self._versions.number:
            return
        behind: dict[int, list[Member]] = {}
        for member in members:
            behind.setdefault(member.holds, []).append(member)
        for held, group in behind.items():
            for model in self._versions.news(held) if missed or self.lasting < self._versions.number else ():
                self._traffic.down_goodput += len(model.payload) * len(group)
                self.send([member.peer for member in group], replace(model, origin=self.origin))
            for member in group:
                member.holds = self._versions.number

    def assign(self, members: Sequence[Member], *, missed: bool = False) -> None:
        """Bring each to the newest version that may be known, and ask it to train from there."""
        self.bring(members, missed=missed)
        for member in members:
            member.task = self._versions.announced
        task = Task(self._versions.announced)
        if self.origin and len(members) > 1 and len(members) == len(self._roster.connected()):
            self._hand_over(task, Audience.PRESENT)
        else:
            self.send([member.peer for member in members], task)

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
