"""A node's link in real time: a relay on loopback between its process and the aggregator, or the broker.

It tells frames apart, asks the plan what becomes of each (`host`, `link`: the law that virtual time has as well), and
lets the bytes through when that says that they arrive. What the protocol says by itself, greetings and heartbeats, is
as long on its way as the link is, and waits while that is cut. All else is real: sockets, connections that break and
are made again, and what either end makes of that.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from fedmq.codec import Frame
from fedmq_bench.doorway import Doorway
from fedmq_bench.scenario.host import DOWN, UP, Host
from fedmq_bench.scenario.link import Crossing

CHUNK_BYTES = 256 * 1024
TIE_S = 1e-9  # what arrives at the same moment stays in order
LINGER_S = 0.01  # for the last bytes to be written


@dataclass(frozen=True)
class Unit:
    """What passes as a whole: a frame, or what the protocol itself says.

    data      its bytes on the connection
    frame     None where it is the protocol's
    """

    data: bytes
    frame: Frame | None = None


class Splitter(Protocol):
    """What knows a protocol: one direction of one connection."""

    def feed(self, data: bytes) -> Iterator[Unit]:
        """Take what has arrived, and yield what is complete with it."""


@dataclass(frozen=True)
class _UnderWay:
    left_at: float
    at: float
    timer: asyncio.TimerHandle


# (direction, frame, now) -> what becomes of it, and whether its connection breaks as it leaves.
Carry = Callable[[str, Frame, float], tuple[Crossing, bool]]


class Wire(Doorway):
    """One node's link; every connection that its process makes goes through it.

    port        of the aggregator, or the broker
    splitter    for a direction of a new connection
    clock       seconds since the beginning of the run
    """

    def __init__(
        self, host: Host, port: int, splitter: Callable[[str], Splitter], carry: Carry, clock: Callable[[], float]
    ) -> None:
        super().__init__()
        self._host, self._target, self._splitter, self._carry, self._clock = host, port, splitter, carry, clock

    async def _join(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        """Join both ends until one of them has gone, or the link breaks."""
        ends = [to_near]
        try:
            begins_at = self._host.passable(now := self._clock())
            # TCP's handshake with this relay took no time; over the link it is a round trip.
            await asyncio.sleep(begins_at + self._host.half_way_s(UP) + self._host.half_way_s(DOWN) - now)
            far, to_far = await asyncio.open_connection("127.0.0.1", self._target)
            ends.append(to_far)
            lanes = [(UP, near, to_far), (DOWN, far, to_near)]
            tasks = [asyncio.ensure_future(self._lane(*lane)) for lane in lanes]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        except OSError:
            pass  # whoever is at the other end learns it from the connection that is closed now
        finally:
            for end in ends:
                end.close()

    async def _lane(self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction until its sender has gone and what had left has arrived, or the link breaks."""
        splitter, order = self._splitter(direction), count()
        under_way: list[_UnderWay] = []
        with suppress(ConnectionError):
            while chunk := await reader.read(CHUNK_BYTES):
                now = self._clock()
                under_way = [one for one in under_way if one.at >= now]
                for unit in splitter.feed(chunk):
                    crossing, breaks = self._crossing(direction, unit)
                    for at in crossing.arrive_at:
                        timer = self._later(at + next(order) * TIE_S, writer.write, unit.data)
                        under_way.append(_UnderWay(crossing.left_at, at, timer))
                    if breaks:
                        await asyncio.sleep(crossing.left_at - self._clock())
                        return
        gone_at = self._clock()
        for one in under_way:
            if one.left_at > gone_at:
                one.timer.cancel()
        last_at = max((one.at for one in under_way if not one.timer.cancelled()), default=gone_at)
        await asyncio.sleep(last_at - gone_at + LINGER_S)

    def _crossing(self, direction: str, unit: Unit) -> tuple[Crossing, bool]:
        now = self._clock()
        if unit.frame is not None:
            return self._carry(direction, unit.frame, now)
        left_at = self._host.passable(now)
        return Crossing(left_at, (left_at + self._host.half_way_s(direction),)), False

    def _later(self, at: float, call: Callable[[bytes], None], data: bytes) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(at - self._clock(), call, data)
