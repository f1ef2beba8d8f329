"""Transports: how frames get from one end to the other. Each module has a Link for either end.

A link carries whole frames, at least once, in any order, or not at all; sessions make that exactly once. What a link
holds in memory is bounded at both ends. A name is what the link itself knows of the other end (with CURVE its key),
never something that a frame says.
"""

from collections.abc import Sequence
from typing import Protocol

from fedmq.codec import Frame


class Link(Protocol):
    """One end. At a node the only peer is the aggregator."""

    async def recv(self) -> list[tuple[str, Frame]]:
        """Wait for a frame; return it and what else is there already, up to a bound, each with its sender."""

    async def send(self, peers: Sequence[str], frame: Frame) -> list[str]:
        """Hand over one frame for each of these peers without waiting; return those that it cannot be handed to now."""

    async def close(self) -> None:
        """Send what was handed over, within reason, and let go."""
