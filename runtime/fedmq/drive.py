"""Driving a core: the one loop that joins frames, timers, finished work and a person's wish to stop.

Both shells use it; what they add is what an effect other than Send, Publish and Log means. Work that an effect started
comes back as an event, a function of the time that the core is then told.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from fedmq.codec import Frame
from fedmq.core import Core, Event
from fedmq.effects import Done, Effect, Log, Publish, Send
from fedmq.transports import GONE, Broadcasting, Link

Perform = Callable[[Effect], Awaitable[Event] | None]
INTERRUPTED = Done("interrupted")


class Drive:
    """One core, its link, and the work that is under way for it.

    perform    starts the work that an effect asks for; None where there is nothing to wait for
    stopped    what the core wants to say when a person stops it
    """

    def __init__(
        self, core: Core, link: Link, perform: Perform, log: Callable[[Log], None], stopped: Callable[[], list[Effect]]
    ) -> None:
        self._core, self._link, self._perform, self._log, self._stopped = core, link, perform, log, stopped
        self._work: set[asyncio.Future[Event]] = set()
        self._clock = asyncio.get_running_loop().time

    async def run(self, stop: asyncio.Event) -> Done:
        """Drive the core until it is done, or `stop` is set; an exception of its work ends it too."""
        receiving = asyncio.ensure_future(self._link.recv())
        stopping = asyncio.ensure_future(stop.wait())
        frames: deque[tuple[str, Frame]] = deque()
        try:
            done = await self._apply(self._core.tick(self._clock()))
            while done is None:
                awaited: set[asyncio.Future[Any]] = {receiving, stopping, *self._work}
                # Frames that came together are taken one by one: what the first asks for begins before the last is read
                timeout = 0 if frames else self._time_left()
                await asyncio.wait(awaited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if not frames and receiving.done():
                    frames.extend(receiving.result())
                    receiving = asyncio.ensure_future(self._link.recv())
                effects: list[Effect] = []
                if frames:
                    peer, frame = frames.popleft()
                    now = self._clock()
                    effects += self._core.lost(peer, now) if frame == GONE else self._core.receive(peer, frame, now)
                for work in [work for work in self._work if work.done()]:
                    self._work.discard(work)
                    effects += work.result()(self._clock())
                if self._time_left() == 0:
                    effects += self._core.tick(self._clock())
                done = await self._apply(effects)
                if done is None and stopping.done():
                    done = await self._apply(self._stopped()) or INTERRUPTED
            return done
        finally:
            left: list[asyncio.Future[Any]] = [receiving, stopping, *self._work]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _apply(self, effects: list[Effect]) -> Done | None:
        """Carry out effects, and what the core says when a peer turns out to be unreachable."""
        done, queue = None, deque(effects)
        while queue:
            match queue.popleft():
                case Send(peers, frame):
                    for peer in await self._link.send(peers, frame):
                        queue.extend(self._core.lost(peer, self._clock()))
                case Publish(frame, audience):
                    assert isinstance(self._link, Broadcasting)
                    await self._link.publish(frame, audience)
                case Log() as log:
                    self._log(log)
                case Done() as found:
                    done = found
                case effect:
                    if (work := self._perform(effect)) is not None:
                        self._work.add(asyncio.ensure_future(work))
        return done

    def _time_left(self) -> float | None:
        deadline = self._core.next_deadline()
        return None if deadline is None else max(0.0, deadline - self._clock())
