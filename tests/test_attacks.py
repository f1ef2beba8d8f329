"""Attacks: whatever comes over a link, nothing is raised, nothing grows, and everything has its named refusal."""

import asyncio
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import golden
from desk import HELLO, SYNC, Desk, update
from fedmq import codec, keys
from fedmq.codec import PRELUDE, Frame, Limits
from fedmq.compress import CODECS
from fedmq.compress import codec as compression
from fedmq.delta import Arrays, Delta
from fedmq.messages import Code, Ready, Refuse, Update, Verdict, Welcome
from fedmq.plan import Stop
from fedmq.transports import AGGREGATOR
from fedmq.transports.zmq import ZmqHub, ZmqLink
from fedmq_nodes.node import Node
from pair import SCHEMA, Fleet, Worker, introduction

MUTATIONS = 100_000
# Neither strikes nor rates end an attack early here, so that every frame is looked at.
PATIENT = replace(SYNC, strikes=10**9, limits=Limits(frames_per_s=0.0, bytes_per_s=0.0))
REASONS = {
    "not_fedmq", "protocol_mismatch", "too_large", "truncated", "trailing", "malformed", "unknown_kind", "bad_field",
    "unexpected",
}  # fmt: skip
FRAMES = {name: golden.path(name).read_bytes() for name in golden.MESSAGES}


def met() -> tuple[Desk, Node]:
    """Return an aggregator that works with one node, and a node that is welcome elsewhere."""
    desk = Desk(PATIENT)
    desk.say("edge", replace(HELLO, session=7), codec.decode([FRAMES["ready"]]))
    node = Node(introduction("edge"), 7, np.random.default_rng(0), now=0.0)
    node.tick(0.0)
    node.receive(AGGREGATOR, codec.encode(Welcome(7, 0, 0, None, 2.0, "fp32", {}, SCHEMA.entries)), 0.0)
    return desk, node


def suffer(desk: Desk, node: Node, data: bytes) -> None:
    """Let both cores have it; nothing is raised."""
    desk.frame("edge", (data,))
    node.receive(AGGREGATOR, (data,), 0.0)


def struck(desk: Desk) -> list[str]:
    return [log.fields["reason"] for log in desk.events("peer.struck")]


@contextmanager
def at_most(limit_bytes: int) -> Iterator[None]:
    """Require that what happens here never needs more memory than this."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield
        grown = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert grown < limit_bytes, f"{grown} bytes, limit is {limit_bytes}"


# Bytes


@pytest.mark.parametrize("name", FRAMES)
def test_every_truncation_of_a_golden_frame_is_a_strike_with_its_reason(name: str) -> None:
    desk, node = met()
    whole = FRAMES[name]
    for length in range(len(whole)):
        suffer(desk, node, whole[:length])
    assert len(struck(desk)) == len(whole)
    assert set(struck(desk)) == {"truncated"}


def mutated(rng: np.random.Generator, data: bytes) -> bytes:
    """Return a frame with bytes overwritten, lost, repeated, or taken from another frame."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        place, length = int(rng.integers(len(out))), int(rng.integers(1, 5))
        match int(rng.integers(5)):
            case 0:
                out[place] ^= 1 << int(rng.integers(8))
            case 1:
                out[place : place + length] = rng.bytes(length)
            case 2:
                del out[place : place + length]
            case 3:
                out[place:place] = out[place : place + length]
            case 4:
                other = list(FRAMES.values())[int(rng.integers(len(FRAMES)))]
                out[place:] = other[place:]
        if not out:
            break
    return bytes(out) or b"\x00"


def test_a_hundred_thousand_mutations_of_golden_frames_raise_nothing_and_grow_nothing() -> None:
    rng = np.random.default_rng(20)
    names = list(FRAMES)
    desk, node = met()
    reasons: set[str] = set()
    for n in range(MUTATIONS):
        suffer(desk, node, mutated(rng, FRAMES[names[n % len(names)]]))
        if n % 5_000 == 0:
            reasons.update(struck(desk))
            desk, node = met()
    assert reasons <= REASONS | set(Code) | {"wrong_federation", "feature_space"}
    assert reasons >= REASONS
    assert set(desk.aggregator.roster.members) == {"edge"}


def test_two_thousand_mutations_need_no_more_memory_than_two_hundred() -> None:
    def run(count: int) -> int:
        rng = np.random.default_rng(21)
        desk, node = met()
        tracemalloc.start()
        for n in range(count):
            suffer(desk, node, mutated(rng, FRAMES[list(FRAMES)[n % len(FRAMES)]]))
            desk.logs.clear()
            for _ in iter(desk.aggregator._journal.next_batch, None):
                desk.aggregator._journal.kept(desk.aggregator._journal._batches)
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return kept

    run(200)
    assert run(2_000) < run(200) + 200_000


def enveloped(envelope: bytes, declared: int | None = None) -> bytes:
    return PRELUDE.pack(b"fmq", 1, len(envelope) if declared is None else declared) + envelope


@pytest.mark.parametrize(
    "data",
    [
        enveloped(b"", declared=2**32 - 1),
        enveloped(b"\xdd\xff\xff\xff\xff"),  # an array of 4 Gi
        enveloped(b"\x93\xa6update\xdf\xff\xff\xff\xff"),  # a map of 4 Gi
        enveloped(b"\x93\xa6update\x81\xa3seq\xdb\xff\xff\xff\xff"),  # a string of 4 GiB
        enveloped(b"\x93\xa6update\x81\xa3seq\xc6\xff\xff\xff\xff"),  # bytes of 4 GiB
        enveloped(b"\x93\xa6update\x80\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),  # a section of 16 EiB
        enveloped(b"\x93\xa6update\x80\xdd\x00\x00\xff\xf0" + b"\xcf" * 8),  # 65,520 sections
        enveloped(b"\x91" * 65_000),  # nested 65,000 deep
        enveloped(b"\x81\xa1x" * 20_000),
        enveloped(b"\x93\xa6update\x81\xa7unknown" + b"\x91" * 60_000 + b"\xc0\x91\x00"),
    ],
    ids=["envelope", "array", "map", "string", "bytes", "section", "sections", "nested", "maps", "nested field"],
)
def test_what_is_declared_huge_or_nested_deep_is_refused_by_name_and_costs_no_memory(data: bytes) -> None:
    desk, node = met()
    desk.frame("edge", (b"warm",))
    with at_most(2**20 + 16 * len(data)):
        suffer(desk, node, data)
    assert set(struck(desk)[1:]) <= {"malformed", "truncated", "too_large"}
    assert len(struck(desk)) == 2


def test_a_frame_over_the_limit_is_refused_unread() -> None:
    desk, _ = met()
    payload = bytes(Limits().frame_bytes)
    with at_most(2**20):
        desk.frame("edge", codec.encode(Update(7, 1, 0, "fp32", 10, payload=payload)))
    assert struck(desk) == ["too_large"]


@pytest.mark.parametrize("name", CODECS)
def test_a_payload_that_is_shorter_or_longer_than_the_adapter_is_refused_before_it_is_unpacked(name: str) -> None:
    size = compression(name).size_bytes(SCHEMA)
    for length in (0, 1, size - 1, size + 1, 2**24):
        desk = Desk(replace(PATIENT, codec=replace(PATIENT.codec, up=name)))
        desk.join("edge")
        bad = Update(100, 1, 0, name, 10, payload=bytes(length))
        with at_most(2**20):
            ((_, verdict),) = [one for one in desk.say("edge", bad) if isinstance(one[1], Verdict)]
        assert isinstance(verdict, Verdict)
        assert verdict.code is Code.BAD_PAYLOAD


# Values


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_payload_of_nan_or_infinity_is_refused_by_name_whatever_its_codec(name: str, value: float) -> None:
    desk = Desk(replace(PATIENT, codec=replace(PATIENT.codec, up=name)))
    desk.join("edge")
    with np.errstate(invalid="ignore", over="ignore"):
        payload = compression(name).pack(Delta(Arrays(SCHEMA, np.full(SCHEMA.size, value, np.float32))), 0)
    said = desk.say("edge", Update(100, 1, 0, name, 10, payload=payload))
    ((_, verdict),) = [one for one in said if isinstance(one[1], Verdict)]
    assert isinstance(verdict, Verdict)
    assert verdict.code in (Code.NOT_FINITE, Code.BAD_PAYLOAD)
    assert desk.aggregator.collector.round.updates == 0


# Order


def test_frames_that_are_recorded_and_replayed_in_any_order_change_nothing() -> None:
    recorded: list[tuple[str, Frame]] = []

    def carry(sender: str, receiver: str, frame: Frame, rng: np.random.Generator) -> tuple[float, ...]:
        if receiver == "aggregator":
            recorded.append((sender, frame))
        return (0.0,)

    fleet = Fleet(replace(SYNC, stop=Stop(versions=4)), {"a": Worker(), "b": Worker()}, carry=carry)
    fleet.run(stop=lambda: len(fleet.versions()) == 3)
    before = (fleet.aggregator.version, len(fleet.updates()), fleet.aggregator.collector.round.updates)
    judged = {(entry.node, entry.update.seq) for entry in fleet.updates()}
    rng = np.random.default_rng(5)
    for n in rng.permutation(np.repeat(np.arange(len(recorded)), 3)):
        sender, frame = recorded[n]
        message = codec.decode(frame)
        if isinstance(message, Update) and (sender, message.seq) not in judged:
            continue  # still under way, so its first copy is no replay
        fleet.aggregator.receive(sender, frame, fleet.simulation.now)
    assert (fleet.aggregator.version, len(fleet.updates()), fleet.aggregator.collector.round.updates) == before
    assert [log for _, _, log in fleet.simulation.logs if log.event == "peer.struck"] == []


# Names


def test_without_keys_a_stolen_name_takes_the_place_of_its_owner_who_is_told_and_folds_nothing_twice() -> None:
    desk = Desk(PATIENT)
    desk.join("edge", "other")
    desk.say("edge", update(100))
    before = desk.aggregator.collector.versions.exact
    desk.say("edge", replace(HELLO, session=666), Ready(666, 10, 0))
    ((peer, refusal),) = desk.say("edge", replace(HELLO, session=100))
    assert isinstance(refusal, Refuse)
    assert (peer, refusal.reason) == ("edge", "replaced")
    desk.say("edge", update(666))
    assert (desk.aggregator.collector.round.updates, desk.aggregator.version) == (0, 1)
    assert desk.aggregator.collector.versions.exact is before


def test_under_curve_a_node_is_its_key_whatever_name_it_says(tmp_path: Path) -> None:
    def pair(name: str) -> keys.KeyPair:
        return keys.load(keys.new(tmp_path, name).with_suffix(".key_secret"))

    own, victim, thief = (pair(name) for name in ("aggregator", "victim", "thief"))
    for name in ("victim", "thief"):
        keys.enrol(tmp_path / f"{name}.key", tmp_path / "enrolled")

    async def main() -> None:
        hub = ZmqHub.bind("tcp://127.0.0.1:*", Limits(), keys.AggregatorKeys(own, tmp_path / "enrolled"))
        link = ZmqLink.connect(hub.address, "thief", Limits(), keys.NodeKeys(thief, own.public))
        try:
            async with asyncio.timeout(60.0):
                # As a thief would: by hand, with the victim's key in the place of a name.
                await link._socket.send_multipart([victim.public, b"let me be you"])
                assert await hub.recv() == [(thief.public.decode(), (b"let me be you",))]
        finally:
            await link.close()
            await hub.close()

    asyncio.run(main())
