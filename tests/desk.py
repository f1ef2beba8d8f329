"""An aggregator that a test speaks to directly, in the place of its nodes."""

from dataclasses import replace

import numpy as np

from fedmq import codec
from fedmq.aggregator import Aggregator
from fedmq.codec import Frame
from fedmq.compress import CODECS
from fedmq.effects import Effect, Keep, Log, Send
from fedmq.messages import (
    Hello,
    Message,
    Ready,
    Update,
)
from fedmq.past import Past
from fedmq.plan import Codecs, Settings
from pair import SCHEMA, SPACE, job, params

EXACT = Codecs("fp32", "fp32")
SYNC = Settings("test", codec=EXACT)
PAIR = replace(SYNC, start_nodes=2)
HELLO = Hello(1, "test", "edge", SPACE, 4, ("fedclip",), tuple(CODECS))


class Desk:
    """An aggregator that is spoken to directly. Batches are kept at once unless `hold` says otherwise."""

    def __init__(self, settings: Settings = SYNC, past: Past | None = None) -> None:
        start = past or Past.none(params())
        self.aggregator = Aggregator(settings, job(), start, np.random.default_rng(0), now=0.0)
        self.hold = False
        self.held: list[Keep] = []
        self.logs: list[Log] = []
        self.now = 0.0

    def say(self, peer: str, *messages: Message) -> list[tuple[str, Message]]:
        """Send messages as this peer; return what was said to whom."""
        return [said for message in messages for said in self.frame(peer, codec.encode(message))]

    def frame(self, peer: str, frame: Frame) -> list[tuple[str, Message]]:
        return self._carry_out(self.aggregator.receive(peer, frame, self.now))

    def wait(self, seconds: float) -> list[tuple[str, Message]]:
        self.now += seconds
        return self._carry_out(self.aggregator.tick(self.now))

    def lose(self, peer: str) -> list[tuple[str, Message]]:
        return self._carry_out(self.aggregator.lost(peer, self.now))

    def keep(self) -> list[tuple[str, Message]]:
        batch = self.held.pop(0)
        return self._carry_out(self.aggregator.kept(batch.number, self.now))

    def join(self, *peers: str, examples: int = 10) -> list[tuple[str, Message]]:
        said = []
        for number, peer in enumerate(peers):
            session = 100 + number
            said += self.say(peer, replace(HELLO, session=session, name=peer), Ready(session, examples, 0))
        return said

    def events(self, name: str) -> list[Log]:
        return [log for log in self.logs if log.event == name]

    def _carry_out(self, effects: list[Effect]) -> list[tuple[str, Message]]:
        said: list[tuple[str, Message]] = []
        for effect in effects:
            match effect:
                case Send(peers, frame):
                    said += [(peer, codec.decode(frame)) for peer in peers]
                case Keep():
                    self.held.append(effect)
                case Log():
                    self.logs.append(effect)
        while self.held and not self.hold:
            said += self.keep()
        return said


def update(session: int, seq: int = 1, base: int = 0, value: float = 1.0, examples: int = 10) -> Update:
    payload = np.full(SCHEMA.size, value, "<f4").tobytes()
    return Update(session, seq, base, "fp32", examples, payload=payload)


def kinds(said: list[tuple[str, Message]]) -> list[type[Message]]:
    return [type(message) for _, message in said]
