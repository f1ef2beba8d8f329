"""Frames between tasks of one process: for tests of the shells, and for a federation in a notebook."""

import asyncio
from collections.abc import Sequence

from fedmq.codec import Frame
from fedmq.transports import AGGREGATOR

QUEUED = 256  # frames that wait at an end before further ones are refused
BATCH = 64


class MemoryHub:
    """The aggregator's end; `connect` makes the nodes' ends."""

    def __init__(self, aggregator: str = AGGREGATOR) -> None:
        self._name = aggregator
        self._arrived: asyncio.Queue[tuple[str, Frame]] = asyncio.Queue(QUEUED)
        self._nodes: dict[str, MemoryLink] = {}

    def connect(self, name: str) -> "MemoryLink":
        """Return a node's end; an earlier one with that name is cut off."""
        self._nodes[name] = MemoryLink(name, self._name, self)
        return self._nodes[name]

    async def recv(self) -> list[tuple[str, Frame]]:
        """Wait for frames from any node."""
        return await _drain(self._arrived)

    async def send(self, peers: Sequence[str], frame: Frame) -> list[str]:
        """Put the frame into each peer's queue."""
        return [
            peer for peer in peers if peer not in self._nodes or not _put(self._nodes[peer].arrived, self._name, frame)
        ]

    async def close(self) -> None:
        """Cut all nodes off."""
        self._nodes.clear()

    def take(self, link: "MemoryLink", frame: Frame) -> bool:
        """Take a frame from a node that is still connected, if there is room."""
        return self._nodes.get(link.name) is link and _put(self._arrived, link.name, frame)

    def drop(self, link: "MemoryLink") -> None:
        """Cut one node off."""
        if self._nodes.get(link.name) is link:
            del self._nodes[link.name]


class MemoryLink:
    """A node's end."""

    def __init__(self, name: str, aggregator: str, hub: MemoryHub) -> None:
        self.name, self._aggregator, self._hub = name, aggregator, hub
        self.arrived: asyncio.Queue[tuple[str, Frame]] = asyncio.Queue(QUEUED)

    async def recv(self) -> list[tuple[str, Frame]]:
        """Wait for frames from the aggregator."""
        return await _drain(self.arrived)

    async def send(self, peers: Sequence[str], frame: Frame) -> list[str]:
        """Put the frame into the aggregator's queue."""
        return [] if self._hub.take(self, frame) else list(peers)

    async def close(self) -> None:
        """Leave."""
        self._hub.drop(self)


def _put(queue: asyncio.Queue[tuple[str, Frame]], sender: str, frame: Frame) -> bool:
    if queue.full():
        return False
    queue.put_nowait((sender, frame))
    return True


async def _drain(queue: asyncio.Queue[tuple[str, Frame]]) -> list[tuple[str, Frame]]:
    frames = [await queue.get()]
    while len(frames) < BATCH and not queue.empty():
        frames.append(queue.get_nowait())
    return frames
