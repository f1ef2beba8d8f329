"""Sealed links: a wrapper around the link of a carrier that is not trusted, such as a broker. Both ends wrap theirs.

What cannot be opened is dropped with its reason in the log, and the core never hears of it: nobody can be blamed for it
but the carrier. A frame for several peers is sealed once.
"""

from collections.abc import Callable, Sequence

from fedmq.codec import Frame
from fedmq.effects import Audience, Level, Log
from fedmq.errors import BadFrame
from fedmq.messages import Buffer
from fedmq.seal.aggregator import AggregatorSeal
from fedmq.seal.frames import Unknown
from fedmq.seal.node import NodeSeal
from fedmq.transports import GONE, Broadcasting, Link
from fedmq.transports.tally import Tally

# A link may repeat and delay frames, so these say nothing of anyone's intentions.
HARMLESS = ("replayed", "too_old", "unknown_group", "unknown_session", "unasked")


class SealedHub:
    """The aggregator's end. Peers are called by their public keys, whatever the inner link calls them."""

    def __init__(self, link: Link, seal: AggregatorSeal, log: Callable[[Log], None]) -> None:
        self._link, self._seal, self._log = link, seal, log

    async def recv(self) -> list[tuple[str, Frame]]:
        """Wait for frames that can be opened, from enrolled nodes."""
        frames: list[tuple[str, Frame]] = []
        while not frames:
            for route, frame in await self._link.recv():
                if frame == GONE:
                    frames += [(peer, GONE) for peer in self._seal.peers(route)]
                    continue
                try:
                    taken = self._seal.receive(route, _whole(frame))
                except BadFrame as error:
                    _refused(self._log, route, error)
                    if isinstance(error, Unknown):
                        await self._link.send([route], (error.answer,))
                    continue
                if taken.answer:
                    await self._link.send([route], (taken.answer,))
                if taken.frame:
                    frames.append((taken.peer, taken.frame))
        return frames

    async def send(self, peers: Sequence[str], frame: Frame) -> list[str]:
        """Seal the frame, once for all if there are several peers, and hand it over."""
        routes = {peer: route for peer in peers if (route := self._seal.route(peer)) is not None}
        failed: list[str] = []
        if routes:
            one = len(routes) == 1
            sealed = self._seal.seal(next(iter(routes)), frame) if one else await self._seal_for_all(frame)
            failed = await self._link.send(list(routes.values()), (sealed,))
        return [peer for peer in peers if peer not in routes or routes[peer] in failed]

    async def _seal_for_all(self, frame: Frame) -> bytes:
        """Hand the group's key to who lacks it, and return the frame sealed with it."""
        keys, sealed = self._seal.broadcast(frame)
        for route, key in keys:
            await self._link.send([route], (key,))
        return sealed

    async def close(self) -> None:
        """Let go of the inner link."""
        await self._link.close()

    def tally(self) -> Tally:
        """Say what the inner link says: bytes are of sealed frames."""
        return self._link.tally()


class SealedPublisher(SealedHub):
    """The aggregator's end of a link that broadcasts. What lasts can be opened by whoever opens a session later.

    A group key that was changed since makes it useless to them, and they are sent a version as over any other link.
    """

    def __init__(self, link: Broadcasting, seal: AggregatorSeal, log: Callable[[Log], None]) -> None:
        super().__init__(link, seal, log)
        self._publisher = link

    async def publish(self, frame: Frame, audience: Audience) -> None:
        """Seal the frame for all, and hand it over once."""
        await self._publisher.publish((await self._seal_for_all(frame),), audience)


class SealedLink:
    """A node's end."""

    def __init__(self, link: Link, seal: NodeSeal, log: Callable[[Log], None]) -> None:
        self._link, self._seal, self._log = link, seal, log

    async def recv(self) -> list[tuple[str, Frame]]:
        """Wait for frames that the aggregator has sealed for this node, or for all."""
        frames: list[tuple[str, Frame]] = []
        while not frames:
            for sender, frame in await self._link.recv():
                try:
                    heard = self._seal.receive(_whole(frame))
                except BadFrame as error:
                    _refused(self._log, sender, error)
                    continue
                for answer in heard.answers:
                    await self._link.send([sender], (answer,))
                frames += [(sender, opened) for opened in heard.frames]
        return frames

    async def send(self, peers: Sequence[str], frame: Frame) -> list[str]:
        """Seal the frame and hand it over; without a session it is held back, and a greeting goes out instead."""
        return await self._link.send(peers, (self._seal.seal(frame),))

    async def close(self) -> None:
        """Let go of the inner link."""
        await self._link.close()

    def tally(self) -> Tally:
        """Say what the inner link says: bytes are of sealed frames."""
        return self._link.tally()


def _whole(frame: Frame) -> Buffer:
    return frame[0] if len(frame) == 1 else b"".join(frame)


def _refused(log: Callable[[Log], None], sender: str, error: BadFrame) -> None:
    level: Level = "debug" if error.reason in HARMLESS else "warning"
    log(Log(level, "frame.refused", {"peer": sender, "reason": error.reason, "text": str(error)}))
