"""A node's end of sealing.

It opens a session, holds back what it has to say until there is one, and opens another when the aggregator does not
know this one any more, because either of them has been started again.
"""

from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from zmq.utils import z85

from fedmq.codec import Frame, Limits
from fedmq.errors import BadFrame
from fedmq.keys import NodeKeys
from fedmq.messages import Buffer
from fedmq.seal import frames
from fedmq.seal.channel import Channel, Ephemeral
from fedmq.seal.frames import KEY_BYTES, MAGIC, NONCE_BYTES, SESSION, Draw, Unknown, box, header_of, kind_of, unbox
from fedmq.seal.group import Audience

WAITING = 4  # an update, a report and a ping are what an honest node has to say at once


@dataclass
class Heard:
    """What a frame led to: frames for the core, and frames for the link."""

    frames: list[Frame]
    answers: list[bytes]


class NodeSeal:
    """One node process."""

    def __init__(self, keys: NodeKeys, limits: Limits, draw: Draw) -> None:
        self._public, self._limits, self._draw = z85.decode(keys.own.public), limits, draw
        self._box = box(keys.own, keys.aggregator)
        self._opening: Ephemeral | None = Ephemeral.draw(draw)
        self._channel: Channel | None = None
        self._audience: Audience | None = None
        self._waiting: deque[Frame] = deque(maxlen=WAITING)
        self._early: Buffer = b""  # a broadcast that has overtaken its key

    def seal(self, frame: Frame) -> bytes:
        """Return what to send for this frame: the frame sealed or, as long as there is no session, a greeting."""
        if self._channel is not None and self._opening is None:
            return self._channel.seal(frames.UP, frame)
        self._waiting.append(frame)
        return self._greeting()

    def receive(self, data: Buffer) -> Heard:
        """Take one frame from the link.

        raises     BadFrame; its reason is one of not_sealed, too_large, truncated, wrong_end, unknown_session,
                   unknown_group, unasked, forged, replayed, too_old
        """
        match kind_of(data, self._limits):
            case frames.ACCEPT:
                return self._accepted(data)
            case frames.DOWN | frames.GROUP:
                return self._told(data)
            case frames.BROADCAST:
                return self._broadcast(data)
            case frames.UNKNOWN:
                return self._unknown(data)
            case kind:
                raise BadFrame("wrong_end", f"a sealed frame of kind {kind}, which no aggregator sends")

    def _greeting(self) -> bytes:
        assert self._opening is not None
        sealed = self._box.encrypt(self._opening.public, self._draw(NONCE_BYTES))
        return MAGIC + bytes([frames.OPEN]) + self._public + bytes(sealed)

    def _accepted(self, data: Buffer) -> Heard:
        opened = unbox(self._box, data[4:])
        echo, other, verify_key = (opened[i : i + KEY_BYTES] for i in range(0, 3 * KEY_BYTES, KEY_BYTES))
        if self._opening is None or echo != self._opening.public:
            raise BadFrame("unasked", "the answer to a greeting that is not being waited for; it may be a replay")
        channel, self._opening = Channel.of_node(self._opening, other), None
        self._channel, self._audience = channel, Audience(verify_key)
        waiting, self._waiting = self._waiting, deque(maxlen=WAITING)
        heard = self._learned(self._audience, opened[3 * KEY_BYTES :])
        heard.answers += [channel.seal(frames.UP, frame) for frame in waiting]
        return heard

    def _told(self, data: Buffer) -> Heard:
        header = header_of(data)
        if self._channel is None or self._audience is None or header.name != self._channel.name:
            raise Unknown(header.name)
        opened = self._channel.open(header, data)
        return Heard([(opened,)], []) if header.kind == frames.DOWN else self._learned(self._audience, opened)

    def _learned(self, audience: Audience, key: bytes) -> Heard:
        """Take a group key, and what had overtaken it."""
        audience.learn(key)
        heard, early = Heard([], []), self._early
        if early and audience.knows(header_of(early)):
            self._early = b""
            with suppress(BadFrame):
                heard.frames.append((audience.open(header_of(early), early),))
        return heard

    def _broadcast(self, data: Buffer) -> Heard:
        header = header_of(data)
        if self._audience is None or not self._audience.knows(header):
            self._early = data
            raise BadFrame("unknown_group", f"group {header.name.hex()} has a key that is not here, any more or yet")
        return Heard([(self._audience.open(header, data),)], [])

    def _unknown(self, data: Buffer) -> Heard:
        """Greet anew if this is about the session that we have; nobody has signed it, so nothing is given up for it."""
        _, _, name = SESSION.unpack(data)
        if self._channel is None or name != self._channel.name:
            raise Unknown(name)
        if self._opening is None:
            self._opening = Ephemeral.draw(self._draw)
        return Heard([], [self._greeting()])
