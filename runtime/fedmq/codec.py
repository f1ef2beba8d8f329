"""Messages to bytes and back. This docstring is the specification of a frame.

    offset  size  field
    0       3     "fmq"
    3       1     protocol, 1: the oldest whose readers understand this frame
    4       4     n, length of the envelope, little-endian unsigned
    8       n     envelope, msgpack: [kind, {field: value}, [length of each section]]
    8+n           the sections, one after the other, nothing behind them

`kind` is the message's name in lower case. A field that is absent has its default; a field that is unknown is ignored,
so that a newer sender can say more, and an older one less. Raw fields (payloads, arrays) are the sections, in the order
of their declaration. Integers and strings are as msgpack has them, enumerations are strings, extension types are not
allowed.

A link that carries several parts may send the head (up to the end of the envelope) and each section as a part of its
own, which spares copying the payload; joined, they are the same frame. Sizes are checked before anything is unpacked,
and nothing that a peer sends makes `decode` raise anything but BadFrame.

A frame of any protocol from OLDEST to PROTOCOL is read, and what is sent is marked OLDEST. A node says in its hello
which ones it reads, the aggregator answers with the newest that both read, or refuses with both ranges. What only
readers of a newer protocol understand is marked with that, and sent to those alone.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, fields, is_dataclass
from typing import Any, NoReturn, cast, get_args, get_type_hints

import msgpack
from pydantic import TypeAdapter, ValidationError

from fedmq.errors import BadFrame
from fedmq.messages import Buffer, Message, Raw
from fedmq.quantities import Amount, Positive

OLDEST, PROTOCOL = 1, 1
MAGIC = b"fmq"
PRELUDE = struct.Struct("<3sBI")

Frame = tuple[Buffer, ...]


@dataclass(frozen=True)
class Limits:
    """What a peer may send before it is refused unread; a rate of 0 is none."""

    frame_bytes: Positive = 64 * 2**20
    envelope_bytes: Positive = 64 * 2**10
    frames_per_s: Amount = 1_000.0
    bytes_per_s: Amount = 1e9


@dataclass(frozen=True)
class _Form:
    """How one type of message travels: which fields stand in the envelope, which are sections."""

    kind: str
    plain: tuple[Field[Any], ...]
    raw: tuple[str, ...]
    adapter: TypeAdapter[Message]


def _form(message: type[Message]) -> _Form:
    hints = get_type_hints(message, include_extras=True)
    raw = tuple(f.name for f in fields(message) if hints[f.name] == Raw)
    plain = tuple(f for f in fields(message) if f.name not in raw)
    return _Form(message.__name__.lower(), plain, raw, TypeAdapter(message))


_FORMS: Mapping[type[Message], _Form] = {message: _form(message) for message in get_args(Message)}
_KINDS: Mapping[str, _Form] = {form.kind: form for form in _FORMS.values()}


def spoken() -> str:
    """Return the protocols that this end reads, in words."""
    return str(PROTOCOL) if OLDEST == PROTOCOL else f"{OLDEST} to {PROTOCOL}"


def agreed(oldest: int, newest: int) -> int | None:
    """Return the newest protocol that this end and one that reads these both read, or None: there is none."""
    common = min(newest, PROTOCOL)
    return common if common >= max(oldest, OLDEST) else None


def encode(message: Message) -> Frame:
    """Return the frame in parts: the head, then each section that is not empty, uncopied."""
    form = _FORMS[type(message)]
    values = {}
    for f in form.plain:
        value = getattr(message, f.name)
        if value != f.default or f.default is MISSING:
            values[f.name] = asdict(value) if is_dataclass(value) else value  # type: ignore[arg-type]
    sections = [getattr(message, name) for name in form.raw]
    envelope = msgpack.packb([form.kind, values, [len(section) for section in sections]])
    head = PRELUDE.pack(MAGIC, OLDEST, len(envelope)) + envelope
    return (head, *(section for section in sections if len(section)))


def size_bytes(frame: Frame) -> int:
    """How many bytes the frame is when joined."""
    return sum(len(part) for part in frame)


def decode(frame: Sequence[Buffer], limits: Limits | None = None) -> Message:
    """Return the message; its raw fields are views of the frame.

    frame      the parts as they came: one with everything, or the head and one per section that is not empty
    raises     BadFrame; its reason is one of not_fedmq, protocol_mismatch, too_large, truncated, trailing, malformed,
               unknown_kind, bad_field
    """
    limits = limits or Limits()
    total = sum(len(part) for part in frame)
    if total > limits.frame_bytes:
        raise BadFrame("too_large", f"frame of {total} bytes, limit is {limits.frame_bytes}; raise limits.frame_bytes")
    head = memoryview(frame[0]) if frame else memoryview(b"")
    kind, values, lengths, rest = _unpack_envelope(head, limits)
    form = _KINDS.get(kind)
    if form is None:
        raise BadFrame("unknown_kind", f"a message of kind {kind[:40]!r}; this end knows {', '.join(_KINDS)}")
    if len(lengths) != len(form.raw):
        raise BadFrame("malformed", f"{kind} with {len(lengths)} sections, it has {len(form.raw)}")
    for name, section in zip(form.raw, _split(lengths, rest, frame[1:]), strict=True):
        values[name] = section
    try:
        return form.adapter.validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BadFrame("bad_field", f"{kind}.{where}: {first['msg']}") from None


def _unpack_envelope(head: memoryview, limits: Limits) -> tuple[str, dict[str, Any], Sequence[int], memoryview]:
    if len(head) < PRELUDE.size:
        raise BadFrame("truncated", f"{len(head)} bytes, a frame begins with {PRELUDE.size}")
    magic, protocol, length = PRELUDE.unpack_from(head)
    if magic != MAGIC:
        raise BadFrame("not_fedmq", f"a frame begins with {MAGIC!r}, this one with {magic!r}")
    if not OLDEST <= protocol <= PROTOCOL:
        raise BadFrame(
            "protocol_mismatch", f"the peer speaks protocol {protocol}, this end {spoken()}; upgrade the older"
        )
    if length > limits.envelope_bytes:
        raise BadFrame("too_large", f"envelope of {length} bytes, limit is {limits.envelope_bytes}")
    if len(head) < PRELUDE.size + length:
        raise BadFrame("truncated", f"envelope of {len(head) - PRELUDE.size} bytes, {length} were declared")
    try:
        envelope = msgpack.unpackb(
            head[PRELUDE.size : PRELUDE.size + length],
            use_list=False,
            strict_map_key=True,
            max_ext_len=0,
            ext_hook=_refuse_extension,
        )
        kind, values, lengths = envelope
        wellformed = isinstance(kind, str) and isinstance(values, dict) and isinstance(lengths, tuple)
        wellformed = wellformed and all(type(n) is int and n >= 0 for n in lengths)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise BadFrame(
            "malformed", f"envelope is not [kind, fields, lengths]: {error or type(error).__name__}"
        ) from None
    if not wellformed:
        raise BadFrame("malformed", "envelope is not [kind, fields, lengths]")
    return kind, values, lengths, head[PRELUDE.size + length :]


def _refuse_extension(code: int, data: bytes) -> NoReturn:
    """Refuse an extension type of length 0, the only one that `max_ext_len` lets through."""
    raise ValueError(f"extension type {code}")


def _split(lengths: Sequence[int], rest: memoryview, parts: Sequence[Buffer]) -> list[Buffer]:
    """Return one buffer per length, from the tail of the head or from the parts behind it, exactly used up."""
    declared, present = sum(lengths), len(rest) + sum(len(part) for part in parts)
    if declared != present:
        reason = "truncated" if present < declared else "trailing"
        raise BadFrame(reason, f"{present} bytes of sections, {declared} were declared")
    if parts:
        if len(rest) or [n for n in lengths if n] != [len(part) for part in parts]:
            raise BadFrame("malformed", f"parts of {[len(part) for part in parts]} bytes, sections of {list(lengths)}")
        remaining = iter(parts)
        return [cast(Buffer, memoryview(next(remaining))) if n else b"" for n in lengths]
    sections: list[Buffer] = []
    for n in lengths:
        sections.append(rest[:n])
        rest = rest[n:]
    return sections
