"""The voice: what a node says to its aggregator and asks of its shell, gathered until the shell collects it."""

from fedmq import codec
from fedmq.effects import Effect, Level, Log, Send
from fedmq.messages import Message
from fedmq.transports import AGGREGATOR


class Voice:
    """Effects on their way out."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []

    def send(self, message: Message) -> None:
        """Send one message to the aggregator."""
        self._effects.append(Send((AGGREGATOR,), codec.encode(message)))

    def log(self, level: Level, event: str, **fields: object) -> None:
        """Tell a person."""
        self._effects.append(Log(level, event, fields))

    def add(self, effect: Effect) -> None:
        """Put any other effect behind what was said before."""
        self._effects.append(effect)

    def collect(self) -> list[Effect]:
        """Return what has gathered, and begin anew."""
        effects, self._effects = self._effects, []
        return effects
