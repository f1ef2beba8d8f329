"""One session between a node and the aggregator, at either end: a key, a number and a window per direction."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from nacl import bindings
from nacl.exceptions import CryptoError

from fedmq.errors import BadFrame
from fedmq.messages import Buffer
from fedmq.seal import frames
from fedmq.seal.frames import HEADER, KEY_BYTES, MAGIC, Draw, Header
from fedmq.seal.window import Window


@dataclass(frozen=True)
class Ephemeral:
    """A pair that lives as long as one session."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def draw(cls, draw: Draw) -> "Ephemeral":
        """Draw one."""
        secret = draw(KEY_BYTES)
        return cls(bindings.crypto_scalarmult_base(secret), secret)


class Channel:
    """One end of a session."""

    def __init__(self, name: bytes, sends: bytes, takes: bytes) -> None:
        self.name = name
        self._sends, self._takes = sends, takes
        self._number = 0
        self._window = Window()

    @classmethod
    def of_node(cls, own: Ephemeral, other: bytes) -> "Channel":
        """Return a node's end; `other` is the aggregator's public half."""
        takes, sends = bindings.crypto_kx_client_session_keys(own.public, own.secret, other)
        return cls(_name(own.public, other), sends, takes)

    @classmethod
    def of_aggregator(cls, own: Ephemeral, other: bytes) -> "Channel":
        """Return the aggregator's end; `other` is the node's public half.

        raises     BadFrame if that is one of the few points that give everyone the same key
        """
        try:
            takes, sends = bindings.crypto_kx_server_session_keys(own.public, own.secret, other)
        except CryptoError:
            raise BadFrame("weak_key", f"ephemeral key {other.hex()} agrees on the same secret with everyone") from None
        return cls(_name(other, own.public), sends, takes)

    def seal(self, kind: int, parts: Sequence[Buffer]) -> bytes:
        """Return the parts as one sealed frame."""
        self._number += 1
        head = HEADER.pack(MAGIC, kind, self.name, self._number)
        return head + frames.seal(head, parts, self._sends, self._number)

    def open(self, header: Header, data: Buffer) -> bytes:
        """Return what was sealed, once.

        raises     BadFrame: forged, replayed or too_old
        """
        self._window.require_new(header.number)
        opened = frames.unseal(header, memoryview(data)[HEADER.size :], self._takes)
        self._window.take(header.number)
        return opened


def _name(node: bytes, aggregator: bytes) -> bytes:
    """Return what both ends call the session of these two ephemeral public keys."""
    return hashlib.blake2b(node + aggregator, digest_size=8, person=b"fedmq session").digest()
