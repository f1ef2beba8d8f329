"""Frames between tasks of one process: for tests of the shells, and for a federation in a notebook."""

import asyncio
from collections.abc import Sequence

from fedmq.codec import Frame, size_bytes
from fedmq.transports import AGGREGATOR
from fedmq.transports.tally import Counting, Tally

QUEUED = 256  # frames that wait at an end before further ones are refused
BATCH = 64


class MemoryHub:
    """The aggregator's end; `connect` makes the nodes' ends."""

    def __init__(self, aggregator: str = AGGREGATOR) -> None:
        self._name = aggregator
        self._arrived: asyncio.Queue[tuple[str, Frame]] = asyncio.Queue(QUEUED)
        self._nodes: dict[str, MemoryLink] = {}
        self._counting = Counting()

    def connect(self, name: str) -> "MemoryLink":
        """Return a node's end; an earlier one with that name is cut off."""
        self._nodes[name] = MemoryLink(name, self._name, self)
        return self._nodes[name]

    async def recv(self) -> list[tuple[str, Frame]]:
        """Wait for frames from any node."""
        return await _drain(self._arrived, self._counting)

    async def send(self, peers: Sequence[str], frame: Frame) -> list[str]:
        """Put the frame into each peer's queue."""
        return [peer for peer in peers if not self._send(self._nodes.get(peer), frame)]

    def _send(self, node: "MemoryLink | None", frame: Frame) -> bool:
        if node is None:
            self._counting.gone += 1
            return False
        return _put(node.arrived, self._name, frame, self._counting)

    async def close(self) -> None:
        """Cut all nodes off."""
        self._nodes.clear()

    def tally(self) -> Tally:
        """Say what it has carried, and what its nodes have not taken."""
        waiting = [node.arrived.qsize() for node in self._nodes.values()]
        return self._counting.tally(sum(waiting), max(waiting, default=0))

    def waiting(self) -> int:
        """Return how many frames of nodes the aggregator has not taken."""
        return self._arrived.qsize()

    def take(self, link: "MemoryLink", frame: Frame) -> bool:
        """Take a frame from a node that is still connected, if there is room."""
        if self._nodes.get(link.name) is not link:
            link.counting.gone += 1
            return False
        return _put(self._arrived, link.name, frame, link.counting)

    def drop(self, link: "MemoryLink") -> None:
        """Cut one node off."""
        if self._nodes.get(link.name) is link:
            del self._nodes[link.name]


class MemoryLink:
    """A node's end."""

    def __init__(self, name: str, aggregator: str, hub: MemoryHub) -> None:
        self.name, self._aggregator, self._hub = name, aggregator, hub
        self.arrived: asyncio.Queue[tuple[str, Frame]] = asyncio.Queue(QUEUED)
        self.counting = Counting()

    async def recv(self) -> list[tuple[str, Frame]]:
        """Wait for frames from the aggregator."""
        return await _drain(self.arrived, self.counting)

    async def send(self, peers: Sequence[str], frame: Frame) -> list[str]:
        """Put the frame into the aggregator's queue."""
        return [] if self._hub.take(self, frame) else list(peers)

    async def close(self) -> None:
        """Leave."""
        self._hub.drop(self)

    def tally(self) -> Tally:
        """Say what it has carried, and what waits at the aggregator, of all nodes."""
        return self.counting.tally(self._hub.waiting())


def _put(queue: asyncio.Queue[tuple[str, Frame]], sender: str, frame: Frame, counting: Counting) -> bool:
    if queue.full():
        counting.full += 1
        return False
    queue.put_nowait((sender, frame))
    counting.sent_bytes += size_bytes(frame)
    return True


async def _drain(queue: asyncio.Queue[tuple[str, Frame]], counting: Counting) -> list[tuple[str, Frame]]:
    frames = [await queue.get()]
    while len(frames) < BATCH and not queue.empty():
        frames.append(queue.get_nowait())
    counting.received_bytes += sum(size_bytes(frame) for _, frame in frames)
    return frames
