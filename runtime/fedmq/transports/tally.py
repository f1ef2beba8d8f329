"""What a link can say of itself: bytes that it has carried, and what it has not got rid of yet.

Bytes are those of frames as the link frames them, each once per peer that it is sent to. What connections exchange for
themselves (greetings, heartbeats, MQTT's acknowledgements) is not in them, nor are TLS and TCP/IP below, which no link
knows.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tally:
    """How a link stands, since it was made.

    waiting      frames that it has taken and not got rid of, over all peers
    most         of those, for the one peer that most wait for; None where a link cannot tell peers apart
    full         frames that it did not take, because too many waited for their peer, or at a node of ZeroMQ because
                 there was no connection
    gone         frames that it did not take, because their peer was not there
    """

    received_bytes: int = 0
    sent_bytes: int = 0
    waiting: int = 0
    most: int | None = None
    full: int = 0
    gone: int = 0


@dataclass
class Counting:
    """The part of a tally that only grows."""

    received_bytes: int = 0
    sent_bytes: int = 0
    full: int = 0
    gone: int = 0

    def tally(self, waiting: int, most: int | None = None) -> Tally:
        """Return it with how things stand now."""
        return Tally(self.received_bytes, self.sent_bytes, waiting, most, self.full, self.gone)
