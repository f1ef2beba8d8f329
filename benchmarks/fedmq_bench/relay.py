"""A slow link: a TCP relay in front of an aggregator that lets bytes through at a rate, after a delay.

Each connection has a link of its own, each direction of it a token bucket and a delay: what a node at the end of its
own uplink sees. Jitter and loss are not played: TCP would turn both into delay. What waits for its turn is at most what
is on its way at that rate plus a chunk, so a sender feels how slow the link is, as far as the sockets of this machine
let it: their buffers are kept small.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fedmq_bench.bucket import Bucket
from fedmq_bench.doorway import Doorway

BUFFER_BYTES = 64 * 1024
CHUNK_S = 0.005  # of a link's time that are let through at once
BURST_S = 0.01  # what a late timer may catch up with
CHUNK_BYTES = 1448, 256 * 1024


@dataclass(frozen=True)
class Shape:
    """One direction of a link: how many bytes a second, and how long each takes to arrive."""

    bytes_per_s: float
    delay_s: float = 0.0

    @classmethod
    def of(cls, mbps: float, rtt_ms: float) -> "Shape":
        """Return the shape of either direction of a link of so many Mbit/s and such a round trip."""
        return cls(mbps * 1e6 / 8, rtt_ms / 2e3)

    @property
    def chunk_bytes(self) -> int:
        """How much is let through at once."""
        least, most = CHUNK_BYTES
        return max(least, min(most, int(self.bytes_per_s * CHUNK_S)))


class Relay(Doorway):
    """Listens on loopback, and has a link to `host:port` for each connection that comes. `carried` is bytes (up, down).

    up         from who connects to who is behind the relay
    """

    def __init__(self, host: str, port: int, up: Shape, down: Shape) -> None:
        super().__init__()
        self._target, self._up, self._down = (host, port), up, down
        self.carried = [0, 0]

    async def _join(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        """Join both sides until one of them has gone."""
        ends = [to_near]
        try:
            far, to_far = await asyncio.open_connection(*self._target)
            ends.append(to_far)
            for end in ends:
                _narrow(end)
            async with asyncio.TaskGroup() as lanes:
                lanes.create_task(self._lane(near, to_far, self._up, 0))
                lanes.create_task(self._lane(far, to_near, self._down, 1))
        except* OSError:
            pass  # whoever is at the other end learns it from the connection that is closed now
        finally:
            for end in ends:
                end.close()

    async def _lane(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, shape: Shape, direction: int
    ) -> None:
        """Carry one direction until its sender has nothing more to say."""
        clock = asyncio.get_running_loop().time
        bucket = Bucket(shape.bytes_per_s, shape.bytes_per_s * BURST_S)
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                at, chunk = await under_way.get()
                await asyncio.sleep(at - clock())
                if not chunk:
                    break
                writer.write(chunk)
                await writer.drain()
                self.carried[direction] += len(chunk)
            if writer.can_write_eof():
                writer.write_eof()

        async with asyncio.TaskGroup() as both:
            both.create_task(deliver())
            while True:
                chunk = await reader.read(shape.chunk_bytes)
                passed_at = bucket.take(len(chunk), clock())
                under_way.put_nowait((passed_at + shape.delay_s, chunk))
                if not chunk:
                    break
                await asyncio.sleep(passed_at - clock())


async def run(
    host: str, port: int, up: Shape, down: Shape, listening: Callable[[int], None], stopped: Awaitable[object]
) -> None:
    """Relay until `stopped` is done; `listening` is told the port."""
    async with Relay(host, port, up, down) as relay:
        listening(relay.port)
        await stopped


def _narrow(writer: asyncio.StreamWriter) -> None:
    end = writer.get_extra_info("socket")
    for which in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        end.setsockopt(socket.SOL_SOCKET, which, BUFFER_BYTES)
    writer.transport.set_write_buffer_limits(high=BUFFER_BYTES)
