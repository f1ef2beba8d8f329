"""Sessions: one conversation between an aggregator and a node, the same class at both ends.

A session knows which message may come in which state, whether an update (or its verdict) was seen before, and how long
the other end has been silent. It knows nothing of rounds or arrays, and sends nothing itself.

The table is the protocol: anything that is not in it is Unexpected. A message of another session number is STALE: it
was sent by, or for, a process that is no more.
"""

from collections.abc import Mapping
from enum import StrEnum

from fedmq.errors import Unexpected
from fedmq.messages import (
    Bye,
    Hello,
    Message,
    Model,
    Ping,
    Pong,
    Ready,
    Refuse,
    Report,
    Task,
    Update,
    Verdict,
    Welcome,
)


class Side(StrEnum):
    """Which end this is."""

    AGGREGATOR = "aggregator"
    NODE = "node"


class State(StrEnum):
    """greeting: hello was said, or is awaited. open: work. closed: nothing more is expected."""

    GREETING = "greeting"
    OPEN = "open"
    CLOSED = "closed"


class Receipt(StrEnum):
    """What a message is to this session."""

    FRESH = "fresh"
    DUPLICATE = "duplicate"
    STALE = "stale"


_WORK: Mapping[type[Message], State] = dict.fromkeys((Hello, Ready, Update, Report, Ping), State.OPEN)
_ORDERS: Mapping[type[Message], State] = dict.fromkeys((Welcome, Model, Task, Verdict, Pong, Bye), State.OPEN)

TABLE: Mapping[tuple[Side, State], Mapping[type[Message], State]] = {
    (Side.AGGREGATOR, State.GREETING): {Hello: State.OPEN},
    (Side.AGGREGATOR, State.OPEN): {**_WORK, Bye: State.CLOSED},
    (Side.AGGREGATOR, State.CLOSED): {Hello: State.OPEN, Bye: State.CLOSED},
    # A broadcast model may overtake the welcome; the node drops it and is sent another.
    (Side.NODE, State.GREETING): {Welcome: State.OPEN, Refuse: State.CLOSED, **dict.fromkeys(
        (Model, Task, Verdict, Pong, Bye), State.GREETING)},
    (Side.NODE, State.OPEN): {**_ORDERS, Refuse: State.CLOSED},
    (Side.NODE, State.CLOSED): {},
}  # fmt: skip


class Session:
    """One conversation.

    number     drawn by the node's process; 0 at an aggregator that has not been greeted
    seq        at the aggregator the last update received, at the node the last one that has its verdict
    alive      whether anything but a hello was heard: a hello alone may be the last that a dead process had said
    """

    def __init__(self, side: Side, number: int, now: float, seq: int = 0) -> None:
        self.side, self.number, self.seq = side, number, seq
        self.state = State.GREETING
        self.heard_at = now
        self.alive = False

    def receive(self, message: Message, now: float) -> Receipt:
        """Move to the state that the message leads to, and say what the message is.

        raises     Unexpected if the table does not have it
        """
        steps = TABLE[self.side, self.state]
        if type(message) not in steps:
            known = ", ".join(sorted(kind.__name__ for kind in steps)) or "nothing"
            raise Unexpected(f"{type(message).__name__} in state {self.state}, which takes {known}")
        if getattr(message, "session", self.number) != self.number:
            return Receipt.STALE
        self.heard_at = now
        self.alive = self.alive or not isinstance(message, Hello)
        self.state = steps[type(message)]
        if isinstance(message, Update) or (isinstance(message, Verdict) and message.is_final):
            if message.seq <= self.seq:
                return Receipt.DUPLICATE
            self.seq = message.seq
        return Receipt.FRESH

    def is_new(self, update: Update) -> bool:
        """Whether `receive` would find this update fresh."""
        return self.state is State.OPEN and update.session == self.number and update.seq > self.seq

    def silent_for(self, now: float) -> float:
        """Seconds since the other end was heard."""
        return now - self.heard_at
