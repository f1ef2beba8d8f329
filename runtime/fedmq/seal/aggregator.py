"""The aggregator's end of sealing: sessions by key, one group for all, and nobody who is not enrolled.

A session counts from the first frame that comes in it: a greeting that somebody has recorded and repeats begins one
that nobody can use, and takes nothing from the one that is in use.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from zmq.utils import z85

from fedmq.codec import Frame, Limits
from fedmq.errors import BadFrame
from fedmq.keys import KeyPair
from fedmq.messages import Buffer
from fedmq.seal import frames
from fedmq.seal.channel import Channel, Ephemeral
from fedmq.seal.frames import KEY_BYTES, MAGIC, NONCE_BYTES, Draw, Unknown, box, header_of, kind_of, unbox
from fedmq.seal.group import Broadcaster

BEGUN = 4  # sessions of one node that were begun and not used yet


@dataclass
class Session:
    """One session of a node.

    route      what the link calls the node
    group      number of the newest group key that it was given
    """

    key: str
    route: str
    channel: Channel
    greeting: bytes
    accept: bytes
    group: int


@dataclass
class Taken:
    """What a frame led to: a frame from this peer for the core, or an answer for whoever sent it."""

    peer: str
    frame: Frame = ()
    answer: bytes = b""


class AggregatorSeal:
    """One aggregator process. `admitted` says whose keys are enrolled now."""

    def __init__(self, own: KeyPair, admitted: Callable[[], frozenset[str]], limits: Limits, draw: Draw) -> None:
        self._own, self._admitted, self._limits, self._draw = own, admitted, limits, draw
        self._broadcaster = Broadcaster(draw)
        self._sessions: dict[bytes, Session] = {}
        self._current: dict[str, Session] = {}
        self._begun: dict[str, deque[Session]] = {}

    def receive(self, route: str, data: Buffer) -> Taken:
        """Take one frame that the link has from `route`.

        raises     BadFrame; its reason is one of not_sealed, too_large, truncated, wrong_end, not_enrolled,
                   weak_key, unknown_session, misrouted, forged, replayed, too_old
        """
        match kind_of(data, self._limits):
            case frames.OPEN:
                return self._greeted(route, data)
            case frames.UP:
                return self._told(route, data)
            case kind:
                raise BadFrame("wrong_end", f"a sealed frame of kind {kind}, which no node sends")

    def route(self, peer: str) -> str | None:
        """Return what the link calls this peer, or None: there is no session with it."""
        session = self._current.get(peer)
        return session.route if session else None

    def peers(self, route: str) -> list[str]:
        """Return the peers that the link calls so."""
        return [peer for peer, session in self._current.items() if session.route == route]

    def seal(self, peer: str, frame: Frame) -> bytes:
        """Return the frame sealed for one peer, with which there is a session."""
        return self._current[peer].channel.seal(frames.DOWN, frame)

    def broadcast(self, frame: Frame) -> tuple[list[tuple[str, bytes]], bytes]:
        """Return what must go out first, as (route, group key) for who lacks it, and the frame sealed once for all.

        If somebody who has the group key is not enrolled any more, there is another one from now on.
        """
        admitted, group = self._admitted(), self._broadcaster
        if any(s.group == group.group and s.key not in admitted for s in self._sessions.values()):
            group.rotate()
        lacking = [s for s in self._current.values() if s.group != group.group and s.key in admitted]
        for session in lacking:
            session.group = group.group
        return [(s.route, s.channel.seal(frames.GROUP, [group.key])) for s in lacking], group.seal(frame)

    def _greeted(self, route: str, data: Buffer) -> Taken:
        key = z85.encode(bytes(data[4 : 4 + KEY_BYTES])).decode()
        if key not in self._admitted():
            raise BadFrame("not_enrolled", f"key {key} is not enrolled; fedmq keys enrol lets it in")
        between = box(self._own, key.encode())
        greeting = unbox(between, data[4 + KEY_BYTES :])
        begun = self._begun.setdefault(key, deque())
        for session in begun:
            if (session.greeting, session.route) == (greeting, route):
                return Taken(key, answer=session.accept)
        own, group = Ephemeral.draw(self._draw), self._broadcaster
        told = greeting + own.public + group.verify_key + group.key
        accept = MAGIC + bytes([frames.ACCEPT]) + bytes(between.encrypt(told, self._draw(NONCE_BYTES)))
        session = Session(key, route, Channel.of_aggregator(own, greeting), greeting, accept, group.group)
        if len(begun) == BEGUN:
            del self._sessions[begun.popleft().channel.name]
        begun.append(session)
        self._sessions[session.channel.name] = session
        return Taken(key, answer=accept)

    def _told(self, route: str, data: Buffer) -> Taken:
        header = header_of(data)
        session = self._sessions.get(header.name)
        if session is None:
            raise Unknown(header.name)
        if session.route != route:
            raise BadFrame(
                "misrouted", f"a frame of {session.key} comes from {route}, its session from {session.route}"
            )
        opened = session.channel.open(header, data)
        if self._current.get(session.key) is not session:
            self._use(session)
        return Taken(session.key, (opened,))

    def _use(self, session: Session) -> None:
        """Let this session take the place of the one before."""
        self._begun[session.key].remove(session)
        if (before := self._current.get(session.key)) is not None:
            del self._sessions[before.channel.name]
        self._current[session.key] = session
