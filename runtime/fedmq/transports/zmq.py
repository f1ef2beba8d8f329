"""ZeroMQ: a ROUTER at the aggregator, a DEALER at each node.

    node -> aggregator     [name, head, section, ...]     name is empty under CURVE, where the key is the name
    aggregator -> node     [head, section, ...]

The parts behind `name` are those of a frame, so a payload is never copied into one piece. Nodes do not choose their
routing id: the socket gives each connection one, and this module remembers on which connection a name last spoke. So
nobody can take over another's route, and a node that comes back after SIGKILL is heard at once.

Traps that this module is built around: a ROUTER drops silently for an unknown or full peer unless ROUTER_MANDATORY is
set; queues count messages, not bytes, and the default of 1,000 is 2 GB of adapters per peer; a DEALER without IMMEDIATE
queues for connections that do not exist; and without a ZAP domain that is enforced, CURVE lets in any key that nobody
checks.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator

from fedmq import framing
from fedmq.codec import Frame, Limits
from fedmq.errors import AddressUnusable
from fedmq.keys import AggregatorKeys, NodeKeys
from fedmq.transports import AGGREGATOR, GONE
from fedmq.transports.held import Held, parts_of
from fedmq.transports.tally import Counting, Tally

BATCH_FRAMES, BATCH_BYTES = 64, 32 * 2**20
QUEUED_UP = 4  # an update, a report and a ping are what an honest node has under way
QUEUED_DOWN = 16
ROUTES = 65_536
NAME_BYTES = 64
# A frame is not interrupted for a beat: what takes longer than the timeout could never arrive. 2.1 MB in 60 s are
# 0.28 Mbit/s.
BEAT_MS, BEAT_TIMEOUT_MS = 5_000, 60_000
RECONNECT_MS, RECONNECT_MAX_MS = 100, 2_000
LINGER_MS, ENDING_MS = 2_000, 1_000
DOMAIN = "fedmq"


class ZmqHub:
    """The aggregator's end."""

    def __init__(self, socket: zmq.asyncio.Socket, authenticator: AsyncioAuthenticator | None) -> None:
        self.address = socket.get_string(zmq.LAST_ENDPOINT)
        self._socket, self._authenticator = socket, authenticator
        self._routes: OrderedDict[str, bytes] = OrderedDict()
        self._counting, self._held = Counting(), Held()

    @classmethod
    def bind(cls, address: str, limits: Limits, keys: AggregatorKeys | None = None) -> "ZmqHub":
        """Listen at an address such as tcp://127.0.0.1:5600, or tcp://127.0.0.1:* for any free port.

        keys       who we are and who may come; without, everyone may come, under the name that they say
        raises     AddressUnusable if it cannot be bound
        """
        context = zmq.asyncio.Context()
        socket = _socket(context, zmq.ROUTER, limits, receive=QUEUED_UP, send=QUEUED_DOWN)
        socket.set(zmq.ROUTER_MANDATORY, 1)
        authenticator = None
        if keys is not None:
            authenticator = _authenticator(context, keys)
            socket.set(zmq.CURVE_SERVER, 1)
            socket.set(zmq.CURVE_SECRETKEY, keys.own.secret)
            socket.set(zmq.ZAP_DOMAIN, DOMAIN.encode())
            socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            _close(socket, authenticator, linger_ms=0)
            raise AddressUnusable(_why_not(address, error)) from error
        return cls(socket, authenticator)

    async def recv(self) -> list[tuple[str, Frame]]:
        """Wait for frames from any node."""
        frames = []
        for route, name, *parts in await _drain(self._socket, least=3):
            self._counting.received_bytes += self._size(name, *parts)
            peer = name.get("User-Id") if self._authenticator else _name(name.bytes)
            self._routes[peer] = route.bytes
            self._routes.move_to_end(peer)
            if len(self._routes) > ROUTES:
                self._routes.popitem(last=False)
            frames.append((peer, tuple(part.buffer for part in parts)))
        return frames

    async def send(self, peers: Sequence[str], frame: Frame) -> list[str]:
        """Queue the frame for each peer; a peer whose queue is full, or that is gone, is returned."""
        shared = parts_of(frame)
        failed, size = [], self._size(*frame)
        for peer in peers:
            route = self._routes.get(peer)
            if route is None:
                self._counting.gone += 1
                failed.append(peer)
            elif await _send(self._socket, [route, *shared], self._counting):
                self._counting.sent_bytes += size
            else:
                failed.append(peer)
        if len(failed) < len(peers):
            self._held.add(shared)
        return failed

    def _size(self, *parts: Any) -> int:
        return framing.zmtp(map(len, parts), self._authenticator is not None)

    async def close(self) -> None:
        """Give what is queued two seconds to leave."""
        _close(self._socket, self._authenticator, LINGER_MS)

    def tally(self) -> Tally:
        """Say what it has carried, and how many frames ZeroMQ holds for whoever has not read them."""
        return self._counting.tally(self._held.count())


class ZmqLink:
    """A node's end. It says at once that a connection broke, and nobody else knows what was lost with it."""

    def __init__(self, socket: zmq.asyncio.Socket, monitor: zmq.asyncio.Socket, name: str, curve: bool) -> None:
        self._socket, self._monitor, self._name, self._curve = socket, monitor, name.encode(), curve
        self._counting, self._held = Counting(), Held()
        self._hearing: asyncio.Future[list[Any]] | None = None
        self._breaking: asyncio.Future[Any] | None = None

    @classmethod
    def connect(cls, address: str, name: str, limits: Limits, keys: NodeKeys | None = None) -> "ZmqLink":
        """Connect, now or as soon as there is something to connect to, and again whenever the connection breaks.

        raises     AddressUnusable if the address makes no sense
        """
        socket = _socket(zmq.asyncio.Context(), zmq.DEALER, limits, receive=QUEUED_DOWN, send=QUEUED_UP)
        socket.set(zmq.IMMEDIATE, 1)
        socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        if keys is not None:
            socket.set(zmq.CURVE_SERVERKEY, keys.aggregator)
            socket.set(zmq.CURVE_PUBLICKEY, keys.own.public)
            socket.set(zmq.CURVE_SECRETKEY, keys.own.secret)
            name = ""
        monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        try:
            socket.connect(address)
        except zmq.ZMQError as error:
            _unwatch(socket, monitor)
            _close(socket, None, linger_ms=0)
            raise AddressUnusable(_why_not(address, error)) from error
        return cls(socket, monitor, name, keys is not None)

    async def recv(self) -> list[tuple[str, Frame]]:
        """Wait for frames from the aggregator; GONE where the connection broke."""
        self._hearing = self._hearing or asyncio.ensure_future(_drain(self._socket, least=1))
        self._breaking = self._breaking or asyncio.ensure_future(self._monitor.recv_multipart())
        await asyncio.wait({self._hearing, self._breaking}, return_when=asyncio.FIRST_COMPLETED)
        heard: list[tuple[str, Frame]] = []
        if self._hearing.done():
            messages = self._hearing.result()
            self._counting.received_bytes += sum(framing.zmtp(map(len, parts), self._curve) for parts in messages)
            heard += [(AGGREGATOR, tuple(part.buffer for part in parts)) for parts in messages]
            self._hearing = None
        if self._breaking.done():
            self._breaking.result()
            heard.append((AGGREGATOR, GONE))
            self._breaking = None
        return heard

    async def send(self, peers: Sequence[str], frame: Frame) -> list[str]:
        """Queue the frame, if there is a connection with room."""
        parts = parts_of(frame)
        if not await _send(self._socket, [self._name, *parts], self._counting):
            return list(peers)
        self._counting.sent_bytes += framing.zmtp(map(len, (self._name, *frame)), self._curve)
        self._held.add(parts)
        return []

    async def close(self) -> None:
        """Give what is queued two seconds to leave."""
        awaited = [one for one in (self._hearing, self._breaking) if one is not None]
        for one in awaited:
            one.cancel()
        await asyncio.gather(*awaited, return_exceptions=True)
        _unwatch(self._socket, self._monitor)
        _close(self._socket, None, LINGER_MS)

    def tally(self) -> Tally:
        """Say what it has carried, and how many frames have not left."""
        return self._counting.tally(self._held.count())


def _socket(context: zmq.asyncio.Context, kind: int, limits: Limits, receive: int, send: int) -> zmq.asyncio.Socket:
    socket = context.socket(kind)
    # Twice the limit: a frame that is only just too large still reaches us, and is refused with its reason.
    socket.set(zmq.MAXMSGSIZE, 2 * limits.frame_bytes)
    socket.set(zmq.RCVHWM, receive)
    socket.set(zmq.SNDHWM, send)
    socket.set(zmq.HEARTBEAT_IVL, BEAT_MS)
    socket.set(zmq.HEARTBEAT_TIMEOUT, BEAT_TIMEOUT_MS)
    return socket


def _authenticator(context: zmq.asyncio.Context, keys: AggregatorKeys) -> AsyncioAuthenticator:
    authenticator = AsyncioAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve_callback(DOMAIN, _Gate(keys))
    return authenticator


class _Gate:
    """Asked by pyzmq's authenticator at each connection."""

    def __init__(self, keys: AggregatorKeys) -> None:
        self._keys = keys

    def callback(self, domain: str, key: bytes) -> bool:
        return self._keys.admits(key)


async def _drain(socket: zmq.asyncio.Socket, least: int) -> list[Any]:
    """Return the messages that are here, bounded in number and bytes; those of fewer than `least` parts are dropped.

    Bounded, because a socket that is never empty would otherwise grow this process's memory (pyzmq issue 1928).
    """
    messages = [await socket.recv_multipart(copy=False)]
    size = _size(messages[0])
    with suppress(zmq.Again):
        while len(messages) < BATCH_FRAMES and size < BATCH_BYTES:
            messages.append(await socket.recv_multipart(zmq.NOBLOCK, copy=False))
            size += _size(messages[-1])
    return [message for message in messages if len(message) >= least]


def _size(message: Any) -> int:
    return sum(len(part) for part in message)


async def _send(socket: zmq.asyncio.Socket, parts: list[Any], counting: Counting) -> bool:
    try:
        await socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
    except zmq.ZMQError as error:
        if error.errno == zmq.EAGAIN:
            counting.full += 1
        elif error.errno == zmq.EHOSTUNREACH:
            counting.gone += 1
        else:
            raise
        return False
    return True


def _name(said: bytes) -> str:
    """Return the name that a peer says it has, made printable, so that it can stand in a log."""
    return said[:NAME_BYTES].decode("ascii", "backslashreplace") or "nameless"


def _unwatch(socket: zmq.asyncio.Socket, monitor: zmq.asyncio.Socket) -> None:
    socket.disable_monitor()
    monitor.close(0)


def _close(socket: zmq.asyncio.Socket, authenticator: AsyncioAuthenticator | None, linger_ms: int) -> None:
    context = socket.context
    if authenticator is not None:
        authenticator.stop()
    socket.close(linger_ms)
    # It has been seen to wait for ever, for a handshake whose ZAP answer nobody gives any more. Nobody may wait for it.
    ending = threading.Thread(target=context.term, name="zmq-end", daemon=True)
    ending.start()
    ending.join((linger_ms + ENDING_MS) / 1000)


def _why_not(address: str, error: zmq.ZMQError) -> str:
    if error.errno == zmq.EADDRINUSE:
        return f"{address} is in use; stop what listens there, or choose another port"
    return f"{address} cannot be used: {error.strerror}; an address looks like tcp://127.0.0.1:5600"
