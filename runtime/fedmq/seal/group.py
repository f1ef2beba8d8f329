"""Frames that are sealed once for all nodes: every node opens them, and only the aggregator can have made them."""

import hashlib
from collections.abc import Sequence

from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey

from fedmq.errors import BadFrame
from fedmq.messages import Buffer
from fedmq.seal import frames
from fedmq.seal.frames import BROADCAST, GROUPS, HEADER, KEY_BYTES, MAGIC, SIGNATURE_BYTES, Draw, Header
from fedmq.seal.window import Window

KEYS = 2  # that a node remembers, because a frame may arrive after the next key


class Broadcaster:
    """The aggregator's side. `group` counts the keys of this process."""

    def __init__(self, draw: Draw) -> None:
        self.group = 1
        self._draw = draw
        self._signing = SigningKey(draw(KEY_BYTES))
        self._key, self._number = draw(KEY_BYTES), 0

    @property
    def verify_key(self) -> bytes:
        """What a node checks our signatures with."""
        return self._signing.verify_key.encode()

    @property
    def key(self) -> bytes:
        """The group's number and key, as they are handed over."""
        return GROUPS.pack(self.group, self._key)

    def rotate(self) -> None:
        """Use another key from now on: somebody who has this one may not read what follows."""
        self.group, self._key = self.group + 1, self._draw(KEY_BYTES)

    def seal(self, parts: Sequence[Buffer]) -> bytes:
        """Return the parts as one frame for everyone."""
        self._number += 1
        head = HEADER.pack(MAGIC, BROADCAST, _name(self.group), self._number)
        sealed = frames.seal(head, parts, self._key, self._number)
        return b"".join((head, self._signing.sign(_statement(head, sealed)).signature, sealed))


class Audience:
    """A node's side."""

    def __init__(self, verify_key: bytes) -> None:
        self._verify = VerifyKey(verify_key)
        self._keys: dict[int, bytes] = {}
        self._window = Window()

    def learn(self, key: bytes) -> None:
        """Take a group's number and key, which were sealed for us alone."""
        group, secret = GROUPS.unpack(key)
        self._keys[group] = secret
        for old in sorted(self._keys)[:-KEYS]:
            del self._keys[old]

    def knows(self, header: Header) -> bool:
        """Whether we have the key of the group that this frame is for."""
        return _group(header) in self._keys

    def open(self, header: Header, data: Buffer) -> bytes:
        """Return what the aggregator has sealed for everyone, once; for a group that is known.

        raises     BadFrame: forged, replayed or too_old
        """
        self._window.require_new(header.number)
        start = HEADER.size + SIGNATURE_BYTES
        sealed = memoryview(data)[start:]
        try:
            self._verify.verify(_statement(header.raw, sealed), bytes(data[HEADER.size : start]))
        except CryptoError:
            raise BadFrame("forged", f"broadcast {header.number} was altered, or is not the aggregator's") from None
        opened = frames.unseal(header, sealed, self._keys[_group(header)])
        self._window.take(header.number)
        return opened


def _name(group: int) -> bytes:
    return group.to_bytes(8, "little")


def _group(header: Header) -> int:
    return int.from_bytes(header.name, "little")


def _statement(head: bytes, sealed: Buffer) -> bytes:
    """Return what the signature of a broadcast is made over: a digest, because Ed25519 reads what it signs twice."""
    return b"fedmq broadcast" + head + hashlib.sha256(sealed).digest()
