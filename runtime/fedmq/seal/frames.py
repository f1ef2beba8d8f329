"""Sealed frames as bytes: their headers and sizes, and what is done to them with a key."""

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nacl import bindings
from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey
from zmq.utils import z85

from fedmq.codec import Limits
from fedmq.errors import BadFrame
from fedmq.keys import KeyPair
from fedmq.messages import Buffer

MAGIC = b"fms"
OPEN, ACCEPT, UP, DOWN, GROUP, BROADCAST, UNKNOWN = range(1, 8)
KEY_BYTES, NONCE_BYTES, TAG_BYTES, SIGNATURE_BYTES = 32, 24, 16, 64
HEADER = struct.Struct("<3sB8sQ")  # of everything in a session, and of a broadcast
SESSION = struct.Struct("<3sB8s")
GROUPS = struct.Struct("<Q32s")
OVERHEAD = HEADER.size + SIGNATURE_BYTES + TAG_BYTES
OPEN_BYTES = 4 + KEY_BYTES + NONCE_BYTES + TAG_BYTES + KEY_BYTES
ACCEPT_BYTES = 4 + NONCE_BYTES + TAG_BYTES + 3 * KEY_BYTES + GROUPS.size

Draw = Callable[[int], bytes]  # so many bytes that nobody can predict


class Unknown(BadFrame):
    """A frame of a session that this end does not have, which the other end should learn."""

    def __init__(self, session: bytes) -> None:
        super().__init__("unknown_session", f"session {session.hex()} is not known here, any more or yet")
        self.answer = SESSION.pack(MAGIC, UNKNOWN, session)


class Header(NamedTuple):
    """What stands in front of a sealed frame: a session's name or a group's, and the frame's number in it."""

    kind: int
    name: bytes
    number: int
    raw: bytes


def kind_of(data: Buffer, limits: Limits) -> int:
    """Return what a frame is, after looking at its size.

    raises     BadFrame: not_sealed, too_large or truncated
    """
    most = limits.frame_bytes + OVERHEAD
    if len(data) > most:
        raise BadFrame("too_large", f"sealed frame of {len(data)} bytes, limit is {most}; raise limits.frame_bytes")
    if bytes(data[:3]) != MAGIC or len(data) < 4:
        raise BadFrame("not_sealed", f"a sealed frame begins with {MAGIC!r}, this one with {bytes(data[:3])!r}")
    kind = int(data[3])
    exact = {OPEN: OPEN_BYTES, ACCEPT: ACCEPT_BYTES, UNKNOWN: SESSION.size}.get(kind)
    least = HEADER.size + TAG_BYTES + (SIGNATURE_BYTES if kind == BROADCAST else 0)
    if (exact is not None and len(data) != exact) or (exact is None and len(data) < least):
        raise BadFrame("truncated", f"{len(data)} bytes, a sealed frame of kind {kind} has {exact or least}")
    return kind


def header_of(data: Buffer) -> Header:
    """Return the header of a frame whose kind and size are known to fit."""
    raw = bytes(data[: HEADER.size])
    _, kind, name, number = HEADER.unpack(raw)
    return Header(kind, name, number, raw)


def seal(head: bytes, parts: Sequence[Buffer], key: bytes, number: int) -> bytes:
    """Return the parts sealed under this header, which is not part of what is returned."""
    nonce = number.to_bytes(NONCE_BYTES, "little")
    return bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(b"".join(parts), head, nonce, key)


def unseal(header: Header, sealed: memoryview, key: bytes) -> bytes:
    """Return what was sealed under this header.

    raises     BadFrame if it was not, or not with this key
    """
    nonce = header.number.to_bytes(NONCE_BYTES, "little")
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(bytes(sealed), header.raw, nonce, key)
    except CryptoError:
        raise BadFrame("forged", f"frame {header.number} of {header.name.hex()} was altered, or never sealed") from None


def box(own: KeyPair, other: bytes) -> Box:
    """Return the box between our long-lived key and the other's public half (z85)."""
    return Box(PrivateKey(z85.decode(own.secret)), PublicKey(z85.decode(other)))


def unbox(between: Box, data: Buffer) -> bytes:
    """Return what is in a box.

    raises     BadFrame if it was not made with the other's key, or was altered
    """
    try:
        return between.decrypt(bytes(data))
    except CryptoError:
        raise BadFrame("forged", "a greeting that was not made with the key that it names, or was altered") from None
