"""Frames: the golden ones read as they were meant, and whatever else comes is refused, and never worse than that."""

import struct
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from fedmq import codec
from fedmq.codec import MAGIC, PRELUDE, PROTOCOL, Frame, Limits
from fedmq.errors import BadFrame
from fedmq.messages import Message, Model, Update, Welcome
from golden import MESSAGES
from strategies import tries

NAMES = sorted(MESSAGES)
REASONS = {
    "not_fedmq",
    "protocol_mismatch",
    "too_large",
    "truncated",
    "trailing",
    "malformed",
    "unknown_kind",
    "bad_field",
}
KINDS = {type(message).__name__.lower(): type(message) for message in MESSAGES.values()}


def joined(message: Message) -> bytes:
    return b"".join(codec.encode(message))


def frame(kind: object, values: object, lengths: object, tail: bytes = b"") -> bytes:
    return enveloped(msgpack.packb([kind, values, lengths], datetime=True), tail)


def enveloped(envelope: bytes, tail: bytes = b"") -> bytes:
    return PRELUDE.pack(MAGIC, PROTOCOL, len(envelope)) + envelope + tail


def reason(*parts: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(BadFrame) as refused:
        codec.decode(parts, limits)
    return refused.value.reason


def update(**changed: object) -> bytes:
    """An update's frame with some fields changed, as no encoder of ours would write it."""
    values = {"session": 7, "seq": 4, "base_version": 40, "codec": "int8", "examples": 512} | changed
    return frame("update", values, [0])


def survives(*parts: bytes) -> None:
    """Decode, and let only BadFrame pass, with a reason that the specification knows."""
    try:
        outcome = type(codec.decode(parts)).__name__.lower()
    except BadFrame as error:
        outcome = error.reason
    assert outcome in REASONS | KINDS.keys()


# What it is


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_frame_is_what_its_message_encodes_to_and_decodes_from(name: str) -> None:
    data = golden.path(name).read_bytes()
    assert (joined(MESSAGES[name]), codec.decode([data])) == (data, MESSAGES[name])


def test_there_is_a_golden_frame_of_every_kind_of_message_and_no_other() -> None:
    assert set(KINDS.values()) == set(Message.__args__)
    assert sorted(path.stem for path in golden.FOLDER.iterdir()) == NAMES


def test_a_frame_is_laid_out_as_its_specification_says() -> None:
    message = Model(version=2, since=1, codec="int8", digest=b"\x01", payload=b"payload")
    envelope = msgpack.packb(["model", {"version": 2, "since": 1, "codec": "int8", "digest": b"\x01"}, [7]])
    assert joined(message) == b"fmq\x01" + struct.pack("<I", len(envelope)) + envelope + b"payload"


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_in_parts_and_the_same_frame_joined_are_the_same_message(name: str) -> None:
    parts = codec.encode(MESSAGES[name])
    assert codec.decode(parts) == codec.decode([b"".join(parts)]) == MESSAGES[name]
    assert codec.size_bytes(parts) == len(b"".join(parts))


@pytest.mark.parametrize("parted", [True, False])
def test_a_payload_is_a_view_of_what_came_and_not_a_copy(parted: bool) -> None:
    parts: Frame = codec.encode(MESSAGES["update"])
    parts = parts if parted else (b"".join(parts),)
    message = codec.decode(parts)
    assert isinstance(message, Update)
    assert isinstance(message.payload, memoryview)
    assert message.payload.obj is parts[-1]


@pytest.mark.parametrize("name", NAMES)
def test_unknown_fields_are_ignored(name: str) -> None:
    message = MESSAGES[name]
    kind, values, lengths = msgpack.unpackb(codec.encode(message)[0][PRELUDE.size :])
    values |= {"colour": "blue", "deep": [[[{}]]], "": None}
    assert codec.decode([frame(kind, values, lengths), *codec.encode(message)[1:]]) == message


def test_a_field_that_is_absent_has_its_default() -> None:
    message = codec.decode([update()])
    assert isinstance(message, Update)
    assert (message.steps, message.loss, message.train_s, bytes(message.payload)) == (0, 0.0, 0.0, b"")


def test_a_payload_cannot_be_smuggled_in_by_the_envelope() -> None:
    message = codec.decode([update(payload="not a section")])
    assert isinstance(message, Update)
    assert bytes(message.payload) == b""


def test_a_whole_number_is_good_enough_for_a_real_one() -> None:
    message = codec.decode([update(loss=2)])
    assert isinstance(message, Update)
    assert message.loss == 2.0


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_may_be_any_number_for_it_is_only_shown(loss: float) -> None:
    message = codec.decode([update(loss=loss)])
    assert isinstance(message, Update)
    assert repr(message.loss) == repr(loss)


# What is refused


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_of_a_golden_frame_is_refused(name: str) -> None:
    data = golden.path(name).read_bytes()
    assert {reason(data[:length]) for length in range(len(data))} == {"truncated"}


@pytest.mark.parametrize("name", ["update", "model-since", "welcome"])
def test_every_truncation_of_a_frame_in_parts_is_refused(name: str) -> None:
    head, payload = map(bytes, codec.encode(MESSAGES[name]))
    assert reason(head) == "truncated"
    assert {reason(head, payload[:length]) for length in range(1, len(payload))} == {"truncated"}
    assert {reason(head[:length], payload) for length in range(len(head))} == {"truncated"}
    assert reason() == "truncated"


@pytest.mark.parametrize("name", NAMES)
def test_a_byte_too_many_is_refused(name: str) -> None:
    parts = codec.encode(MESSAGES[name])
    assert reason(b"".join(parts) + b"\x00") == "trailing"
    assert reason(*map(bytes, parts), b"\x00") == "trailing"


def test_parts_that_are_cut_elsewhere_than_the_sections_are_refused() -> None:
    head, payload = map(bytes, codec.encode(MESSAGES["update"]))
    assert reason(head, payload[:7], payload[7:]) == "malformed"
    assert reason(head + payload[:7], payload[7:]) == "malformed"
    assert reason(head, payload, b"") == "malformed"
    assert reason(head, b"", payload) == "malformed"


def test_other_protocols_are_refused_with_both_numbers() -> None:
    data = bytearray(golden.path("hello").read_bytes())
    data[3] = 9
    with pytest.raises(BadFrame, match="protocol 9, this end 1") as refused:
        codec.decode([bytes(data)])
    assert refused.value.reason == "protocol_mismatch"
    assert reason(b"GET / HTTP/1.1\r\n\r\n") == "not_fedmq"


def test_a_frame_over_the_limit_is_refused_with_both_numbers_before_anything_is_unpacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unpackb(*_given: object, **_named: object) -> None:
        raise AssertionError("unpacked")

    data = golden.path("update").read_bytes()
    declared = PRELUDE.unpack_from(data)[2]
    monkeypatch.setattr(msgpack, "unpackb", unpackb)
    with pytest.raises(BadFrame, match=rf"frame of {len(data)} bytes, limit is 20;") as refused:
        codec.decode([data], Limits(frame_bytes=20))
    assert refused.value.reason == "too_large"
    with pytest.raises(BadFrame, match=rf"envelope of {declared} bytes, limit is 10") as refused:
        codec.decode([data], Limits(envelope_bytes=10))
    assert refused.value.reason == "too_large"


def test_a_frame_at_the_limit_is_read_and_its_parts_count_together() -> None:
    parts = codec.encode(MESSAGES["update"])
    size = codec.size_bytes(parts)
    assert codec.decode(parts, Limits(frame_bytes=size)) == MESSAGES["update"]
    assert reason(*map(bytes, parts), limits=Limits(frame_bytes=size - 1)) == "too_large"


def test_huge_declared_lengths_are_refused_and_not_allocated() -> None:
    assert reason(PRELUDE.pack(MAGIC, PROTOCOL, 2**32 - 1)) == "too_large"
    with pytest.raises(BadFrame, match="envelope of 5 bytes, 4294967295 were declared"):
        codec.decode([PRELUDE.pack(MAGIC, PROTOCOL, 2**32 - 1) + b"12345"], Limits(envelope_bytes=2**32))
    with pytest.raises(BadFrame, match="3 bytes of sections, 9223372036854775807 were declared"):
        codec.decode([frame("model", {}, [2**63 - 1], b"abc")])
    for head in (b"\xdd", b"\xdf", b"\xdb", b"\xc6"):
        assert reason(enveloped(head + b"\xff\xff\xff\xff")) == "malformed"


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1x", b"\xdd\x00\x00\x00\x01"])
def test_an_envelope_nested_deeper_than_any_stack_is_refused(opening: bytes) -> None:
    deep = opening * (60_000 // len(opening))
    assert reason(enveloped(deep + b"\xc0")) == "malformed"
    assert reason(enveloped(deep)) == "malformed"


def test_what_is_nested_less_deeply_is_ignored_in_an_unknown_field_and_refused_in_a_known_one() -> None:
    deep: object = None
    for _ in range(400):
        deep = [deep]
    assert isinstance(codec.decode([update(unknown=deep)]), Update)
    assert reason(update(seq=deep)) == "bad_field"


@pytest.mark.parametrize(
    "extension",
    [
        b"\xd6\xff\x00\x00\x00\x00",  # a timestamp of 32 bits
        b"\xd7\xff" + bytes(8),  # of 64
        b"\xc7\x0c\xff" + bytes(12),  # of 96
        b"\xc7\x00\xff",  # of none
        b"\xd4\x05\x00",  # one byte of type 5
        b"\xc7\x00\x05",  # no byte of type 5
        b"\xc9\xff\xff\xff\xff\x05",  # 4 GiB of type 5, declared
    ],
)
def test_extension_types_are_refused_wherever_they_stand(extension: bytes) -> None:
    for place in (b"\xa7unknown", b"\xa3seq", b"\xa5codec"):
        assert reason(enveloped(b"\x93\xa6update\x81" + place + extension + b"\x91\x00")) == "malformed"
    assert reason(enveloped(b"\x93\xa7welcome\x81\xa4task\x81\xa1x" + extension + b"\x91\x00")) == "malformed"
    assert reason(enveloped(extension)) == "malformed"


def test_an_aware_datetime_is_an_extension_type_too() -> None:
    assert reason(update(loss=datetime(2026, 11, 20, tzinfo=UTC))) == "malformed"


@pytest.mark.parametrize(
    "changed",
    [
        {"loss": "0.5"},
        {"loss": True},
        {"train_s": -1.0},
        {"train_s": float("nan")},
        {"train_s": float("inf")},
        {"seq": -1},
        {"seq": 2**63},
        {"seq": 1.0},
        {"seq": "1"},
        {"seq": True},
        {"seq": None},
        {"session": -1},
        {"examples": [1]},
        {"codec": "x" * 201},
        {"codec": b"int8"},
        {"codec": 8},
        {"base_version": {}},
    ],
)
def test_a_field_outside_its_bounds_is_refused_by_name(changed: dict[str, object]) -> None:
    with pytest.raises(BadFrame, match=rf"update\.{next(iter(changed))}: ") as refused:
        codec.decode([update(**changed)])
    assert refused.value.reason == "bad_field"


def test_a_missing_field_is_refused_by_name() -> None:
    with pytest.raises(BadFrame, match=r"update\.base_version: ") as refused:
        codec.decode([frame("update", {"session": 7, "seq": 4, "codec": "int8", "examples": 512}, [0])])
    assert refused.value.reason == "bad_field"


def test_a_kind_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(BadFrame, match="a message of kind 'gossip'; this end knows hello, welcome, ") as refused:
        codec.decode([frame("gossip", {}, [])])
    assert refused.value.reason == "unknown_kind"


def test_a_kind_that_is_a_book_is_not_repeated_in_full() -> None:
    with pytest.raises(BadFrame) as refused:
        codec.decode([frame("x" * 50_000, {}, [])])
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "envelope",
    [
        [],
        ["task"],
        ["task", {"version": 1}],
        ["task", {"version": 1}, [], None],
        {"task": 1},
        "task",
        7,
        None,
        [b"task", {"version": 1}, []],
        ["task", [1], []],
        ["task", {"version": 1}, {}],
        ["task", {"version": 1}, [0]],
        ["model", {"version": 1, "since": -1, "codec": "fp32"}, []],
        ["model", {"version": 1, "since": -1, "codec": "fp32"}, [-1]],
        ["model", {"version": 1, "since": -1, "codec": "fp32"}, [0.0]],
        ["model", {"version": 1, "since": -1, "codec": "fp32"}, [False]],
        ["model", {"version": 1, "since": -1, "codec": "fp32"}, [0, 0]],
        ["task", {1: 1}, []],
    ],
)
def test_an_envelope_of_another_form_is_malformed(envelope: object) -> None:
    assert reason(enveloped(msgpack.packb(envelope))) == "malformed"


@pytest.mark.parametrize("envelope", [b"", b"\xc1", b"\xa3\xed\xa0\x80", msgpack.packb(["task", {}, []]) + b"\xc0"])
def test_an_envelope_that_is_not_msgpack_is_malformed(envelope: bytes) -> None:
    assert reason(enveloped(envelope)) == "malformed"


# Whatever comes


@tries(400)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    assert reason(data) in ("truncated", "not_fedmq")


@tries(400)
@given(st.binary(max_size=200), st.binary(max_size=20))
def test_random_envelopes_raise_nothing_but_bad_frame(envelope: bytes, tail: bytes) -> None:
    survives(enveloped(envelope, tail))


@tries(1000)
@given(
    st.sampled_from(NAMES),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4),
    st.tuples(st.integers(0, 2**16), st.integers(0, 8)),
    st.tuples(st.integers(0, 2**16), st.binary(max_size=8)),
)
def test_mutated_golden_frames_raise_nothing_but_bad_frame(
    name: str, changes: list[tuple[int, int]], cut: tuple[int, int], inserted: tuple[int, bytes]
) -> None:
    data = bytearray(golden.path(name).read_bytes())
    for place, byte in changes:
        data[place % len(data)] = byte
    del data[cut[0] % len(data) :][: cut[1]]
    where = inserted[0] % (len(data) + 1)
    data[where:where] = inserted[1]
    survives(bytes(data))


SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.sampled_from([0, -1, 2**63, "accepted", "fp32", msgpack.ExtType(5, b""), datetime(2026, 1, 1, tzinfo=UTC)])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3),
    max_leaves=6,
)
FIELDS = sorted({f.name for kind in KINDS.values() for f in fields(kind)})


@tries(1000)
@given(
    st.sampled_from(NAMES),
    st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), ANYTHING, max_size=4),
    st.none() | ANYTHING,
)
def test_right_envelopes_with_wrong_values_raise_nothing_but_bad_frame(
    name: str, changed: dict[str, object], lengths: object
) -> None:
    kind, values, declared = msgpack.unpackb(codec.encode(MESSAGES[name])[0][PRELUDE.size :])
    survives(frame(kind, values | changed, declared if lengths is None else lengths, bytes(sum(declared))))


@tries(200)
@given(
    st.builds(
        Welcome,
        session=st.integers(0, 2**64 - 1),
        version=st.integers(0, 2**63 - 1),
        seq=st.integers(0, 2**63 - 1),
        verdict=st.just(golden.VERDICT) | st.none(),
        heartbeat_s=st.floats(0, 1e9),
        up=st.text(max_size=200),
        task=st.dictionaries(st.text(max_size=5), st.integers(0, 9) | st.text(max_size=5), max_size=3),
        schema=st.lists(st.tuples(st.text(max_size=9), st.lists(st.integers(0, 9), max_size=3).map(tuple))).map(tuple),
        arrays=st.binary(max_size=50),
    )
    | st.builds(
        Update,
        session=st.integers(0, 2**64 - 1),
        seq=st.integers(0, 2**63 - 1),
        base_version=st.integers(0, 2**63 - 1),
        codec=st.text(max_size=200),
        examples=st.integers(0, 2**63 - 1),
        steps=st.integers(0, 2**63 - 1),
        loss=st.floats(allow_nan=False, allow_infinity=False),
        train_s=st.floats(0, 1e300),
        payload=st.binary(max_size=50),
    )
)
def test_what_is_encoded_is_decoded_whole(message: Message) -> None:
    assert codec.decode(codec.encode(message)) == codec.decode([joined(message)]) == message
