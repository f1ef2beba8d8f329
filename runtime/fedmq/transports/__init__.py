"""Transports: how frames get from one end to the other. Each module has a Link for either end.

A link carries whole frames, at least once, in any order, or not at all; sessions make that exactly once. What a link
holds in memory is bounded at both ends. A name is what the link itself knows of the other end (with CURVE its key),
never something that a frame says.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from fedmq.codec import Frame
from fedmq.effects import Audience
from fedmq.transports.tally import Tally

AGGREGATOR = "aggregator"  # what a node's link calls the other end
GONE: Frame = ()  # in place of a frame: the link knows that this peer cannot be reached


class Link(Protocol):
    """One end. At a node the only peer is the aggregator."""

    async def recv(self) -> list[tuple[str, Frame]]:
        """Wait for a frame; return it and what else is there already, up to a bound, each with its sender.

        GONE in place of a frame says that its sender cannot be reached, as far as the link can know.
        """

    async def send(self, peers: Sequence[str], frame: Frame) -> list[str]:
        """Hand over one frame for each of these peers without waiting; return those that it cannot be handed to now."""

    async def close(self) -> None:
        """Send what was handed over, within reason, and let go."""

    def tally(self) -> Tally:
        """Say what it has carried, and what waits; in the loop's thread."""


@runtime_checkable
class Broadcasting(Link, Protocol):
    """An aggregator's end that need not send a frame once for each node."""

    async def publish(self, frame: Frame, audience: Audience) -> None:
        """Hand over one frame for all of these nodes; for those who come later, the last such frame is kept."""
