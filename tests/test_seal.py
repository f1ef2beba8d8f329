"""Sealing: what a carrier can do to frames, and what it is told for it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.public import Box, PrivateKey, PublicKey
from zmq.utils import z85

from fedmq.codec import Limits
from fedmq.errors import BadFrame
from fedmq.keys import KeyPair, NodeKeys
from fedmq.seal import frames
from fedmq.seal.aggregator import BEGUN, AggregatorSeal
from fedmq.seal.node import WAITING, NodeSeal
from fedmq.seal.window import WIDTH, Window

OWN, A, B = (KeyPair(*zmq.curve_keypair()) for _ in range(3))
LIMITS = Limits(frame_bytes=4096)


def name(pair: KeyPair) -> str:
    return pair.public.decode()


@dataclass
class Party:
    """An aggregator and two nodes, a carrier that holds every frame, and whoever is enrolled."""

    seed: int = 0
    admitted: frozenset[str] = frozenset({name(A), name(B)})
    hub: AggregatorSeal = field(init=False)

    def __post_init__(self) -> None:
        self.draw = np.random.default_rng(self.seed).bytes
        self.start_hub()

    def start_hub(self) -> None:
        self.hub = AggregatorSeal(OWN, lambda: self.admitted, LIMITS, self.draw)

    def node(self, pair: KeyPair) -> NodeSeal:
        return NodeSeal(NodeKeys(pair, OWN.public), LIMITS, self.draw)

    def joined(self, pair: KeyPair, route: str) -> NodeSeal:
        """Return a node whose session is in use."""
        node = self.node(pair)
        answer = self.hub.receive(route, node.seal((b"hello",))).answer
        (hello,) = node.receive(answer).answers
        assert self.hub.receive(route, hello).frame == (b"hello",)
        return node


def why(act: Callable[[], object]) -> str:
    with pytest.raises(BadFrame) as refused:
        act()
    return refused.value.reason


def heard(node: NodeSeal, data: bytes) -> list[bytes]:
    return [bytes(frame[0]) for frame in node.receive(data).frames]


# The way it should be


def test_the_first_frame_waits_for_a_session_and_then_frames_go_both_ways() -> None:
    party = Party()
    node = party.joined(A, "edge-1")
    up = node.seal((b"head", memoryview(b"payload")))
    assert b"payload" not in up
    taken = party.hub.receive("edge-1", up)
    assert (taken.peer, taken.frame) == (name(A), (b"headpayload",))
    assert party.hub.route(name(A)) == "edge-1"
    down = party.hub.seal(name(A), (b"task",))
    assert b"task" not in down
    assert heard(node, down) == [b"task"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4), st.integers(0, 2**32))
def test_what_is_sealed_is_opened_whole_on_every_way(parts: list[bytes], seed: int) -> None:
    party = Party(seed)
    node, other = party.joined(A, "a"), party.joined(B, "b")
    frame, whole = tuple(parts), b"".join(parts)
    assert party.hub.receive("a", node.seal(frame)).frame == (whole,)
    assert heard(node, party.hub.seal(name(A), frame)) == [whole]
    _, broadcast = party.hub.broadcast(frame)
    assert heard(node, broadcast) == heard(other, broadcast) == [whole]


def test_what_a_node_says_before_it_has_a_session_is_held_back_and_bounded() -> None:
    party, node = Party(), Party().node(A)
    greetings = {bytes(node.seal((b"%d" % n,)))[:36] for n in range(10)}
    assert len(greetings) == 1
    answer = party.hub.receive("a", node.seal((b"last",))).answer
    said = [party.hub.receive("a", sealed).frame for sealed in node.receive(answer).answers]
    assert said == [(b"7",), (b"8",), (b"9",), (b"last",)]
    assert len(said) == WAITING


def test_a_greeting_that_is_repeated_has_the_same_answer() -> None:
    party = Party()
    greeting = party.node(A).seal((b"hello",))
    assert party.hub.receive("a", greeting).answer == party.hub.receive("a", greeting).answer


def test_an_aggregator_that_was_restarted_says_that_it_does_not_know_the_session_and_gets_another() -> None:
    party = Party()
    node = party.joined(A, "a")
    party.start_hub()
    with pytest.raises(frames.Unknown) as unknown:
        party.hub.receive("a", node.seal((b"ping",)))
    (greeting,) = node.receive(unknown.value.answer).answers
    assert node.receive(party.hub.receive("a", greeting).answer).answers == []
    assert party.hub.receive("a", node.seal((b"ping",))).frame == (b"ping",)


def test_a_node_that_was_restarted_is_heard_at_once_and_its_old_process_no_more() -> None:
    party = Party()
    old = party.joined(A, "a")
    late = old.seal((b"late",))
    new = party.joined(A, "a")
    assert why(lambda: party.hub.receive("a", late)) == "unknown_session"
    assert heard(new, party.hub.seal(name(A), (b"welcome",))) == [b"welcome"]


# What a carrier may try


def test_every_altered_byte_of_every_kind_of_frame_is_refused_by_name() -> None:
    party = Party()
    node = party.joined(A, "a")
    party.joined(B, "b")
    other = party.node(A)
    greeting = other.seal((b"x",))
    answer = party.hub.receive("a", greeting).answer
    ways: list[tuple[bytes, Callable[[bytes], object]]] = [
        (node.seal((b"up",)), lambda data: party.hub.receive("a", data)),
        (greeting, lambda data: party.hub.receive("a", data)),
        (party.hub.seal(name(A), (b"down",)), node.receive),
        (party.hub.broadcast((b"all",))[1], node.receive),
        (answer, other.receive),
    ]
    reasons = set()
    for genuine, take in ways:
        for place in range(len(genuine)):
            altered = bytearray(genuine)
            altered[place] ^= 0x41
            reasons.add(why(lambda take=take, altered=altered: take(bytes(altered))))  # type: ignore[misc]
        take(genuine)
    assert reasons == {"not_sealed", "wrong_end", "unknown_session", "unknown_group", "not_enrolled", "forged"}


def test_every_truncation_and_every_tail_is_refused_by_name() -> None:
    party = Party()
    node = party.joined(A, "a")
    for genuine, take in (
        (node.seal((b"up",)), lambda data: party.hub.receive("a", data)),
        (party.node(A).seal((b"x",)), lambda data: party.hub.receive("a", data)),
        (party.hub.broadcast((b"all",))[1], node.receive),
    ):
        cut = {why(lambda take=take, n=n, genuine=genuine: take(genuine[:n])) for n in range(len(genuine))}  # type: ignore[misc]
        assert cut <= {"not_sealed", "truncated", "forged"}
        assert why(lambda take=take, genuine=genuine: take(genuine + b"x")) in ("forged", "truncated")  # type: ignore[misc]


def test_a_frame_over_the_limit_is_refused_with_both_numbers_and_not_opened() -> None:
    party = Party()
    party.joined(A, "a")
    with pytest.raises(BadFrame, match=r"sealed frame of 4197 bytes, limit is 4196; raise limits\.frame_bytes"):
        party.hub.receive("a", bytes(LIMITS.frame_bytes + frames.OVERHEAD + 1))


def test_a_frame_that_is_repeated_is_refused_as_a_replay_in_both_directions_and_for_all() -> None:
    party = Party()
    node = party.joined(A, "a")
    up, down, both = node.seal((b"1",)), party.hub.seal(name(A), (b"2",)), party.hub.broadcast((b"3",))[1]
    party.hub.receive("a", up)
    assert why(lambda: party.hub.receive("a", up)) == "replayed"
    for data in (down, both):
        node.receive(data)
        assert why(lambda data=data: node.receive(data)) == "replayed"  # type: ignore[misc]


def test_frames_in_another_order_are_taken_each_once_and_one_that_is_far_too_late_is_refused() -> None:
    party = Party()
    node = party.joined(A, "a")
    sent = [node.seal((b"%d" % n,)) for n in range(WIDTH + 1)]
    order = [2, 0, 1, *range(4, WIDTH + 1)]
    assert [party.hub.receive("a", sent[n]).frame for n in order] == [(b"%d" % n,) for n in order]
    assert party.hub.receive("a", sent[3]).frame == (b"3",)
    party.hub.receive("a", node.seal((b"newest",)))
    assert {why(lambda n=n: party.hub.receive("a", sent[n])) for n in (0, 1)} == {"too_old"}  # type: ignore[misc]


def test_what_was_recorded_from_a_process_that_is_no_more_opens_for_nobody() -> None:
    party = Party()
    first = party.joined(A, "a")
    recorded = [first.seal((b"bye",)), party.hub.seal(name(A), (b"refuse",)), party.hub.broadcast((b"version",))[1]]
    party.start_hub()
    again = party.joined(A, "a")
    assert why(lambda: party.hub.receive("a", recorded[0])) == "unknown_session"
    assert why(lambda: again.receive(recorded[1])) == "unknown_session"
    assert why(lambda: again.receive(recorded[2])) == "forged"


def test_a_recorded_greeting_takes_nothing_from_the_session_in_use_however_often_it_is_repeated() -> None:
    party = Party()
    recorded = [bytes(party.node(A).seal((b"hello",))) for _ in range(3 * BEGUN)]
    node = party.joined(A, "a")
    for greeting in recorded:
        party.hub.receive("elsewhere", greeting)
    assert party.hub.receive("a", node.seal((b"still here",))).frame == (b"still here",)
    assert party.hub.route(name(A)) == "a"
    assert len(party.hub._sessions) == 1 + BEGUN


def test_a_recorded_answer_does_not_bring_back_an_old_session() -> None:
    party, node = Party(), Party().node(A)
    answer = party.hub.receive("a", node.seal((b"hello",))).answer
    node.receive(answer)
    assert why(lambda: node.receive(answer)) == "unasked"


def test_frames_that_are_swapped_between_nodes_are_refused() -> None:
    party = Party()
    first, second = party.joined(A, "a"), party.joined(B, "b")
    for_a = party.hub.seal(name(A), (b"for a",))
    assert why(lambda: second.receive(for_a)) == "unknown_session"
    assert heard(first, for_a) == [b"for a"]
    assert why(lambda: party.hub.receive("b", first.seal((b"from a",)))) == "misrouted"


def test_a_frame_that_is_thrown_back_at_its_sender_is_refused() -> None:
    party = Party()
    node = party.joined(A, "a")
    assert why(lambda: node.receive(node.seal((b"up",)))) == "wrong_end"
    turned = bytearray(node.seal((b"up",)))
    turned[3] = frames.DOWN
    assert why(lambda: node.receive(bytes(turned))) == "forged"
    assert why(lambda: party.hub.receive("a", party.hub.seal(name(A), (b"down",)))) == "wrong_end"


def test_a_stolen_name_or_another_key_opens_nothing() -> None:
    party = Party()
    thief = Party(1).node(B)
    greeting = bytearray(thief.seal((b"hello",)))
    greeting[4:36] = z85.decode(A.public)
    assert why(lambda: party.hub.receive("a", bytes(greeting))) == "forged"
    elsewhere = NodeSeal(NodeKeys(A, B.public), LIMITS, party.draw)  # another aggregator's key
    assert why(lambda: party.hub.receive("a", elsewhere.seal((b"hello",)))) == "forged"


def test_a_key_that_is_not_enrolled_is_refused_unopened() -> None:
    party = Party(admitted=frozenset({name(B)}))
    assert why(lambda: party.hub.receive("a", party.node(A).seal((b"hello",)))) == "not_enrolled"


def test_an_enrolled_node_with_a_key_that_everyone_can_agree_with_is_refused() -> None:
    party = Party()
    sealed = Box(PrivateKey(z85.decode(A.secret)), PublicKey(z85.decode(OWN.public))).encrypt(bytes(32), bytes(24))
    greeting = frames.MAGIC + bytes([frames.OPEN]) + z85.decode(A.public) + bytes(sealed)
    assert why(lambda: party.hub.receive("a", greeting)) == "weak_key"


# Frames for all


def test_a_node_cannot_make_a_version_for_the_others() -> None:
    party = Party()
    node, victim = party.joined(A, "a"), party.joined(B, "b")
    genuine = party.hub.broadcast((b"version",))[1]
    assert node._audience is not None
    (key,) = node._audience._keys.values()  # a node has this, and may know the format
    head = frames.HEADER.pack(frames.MAGIC, frames.BROADCAST, (1).to_bytes(8, "little"), 2)
    forged = head + genuine[frames.HEADER.size :][: frames.SIGNATURE_BYTES] + frames.seal(head, [b"poison"], key, 2)
    assert why(lambda: victim.receive(forged)) == "forged"
    assert heard(victim, genuine) == [b"version"]


def test_after_a_revocation_the_next_version_is_sealed_with_a_key_that_the_revoked_node_does_not_get() -> None:
    party = Party()
    node, revoked = party.joined(A, "a"), party.joined(B, "b")
    _, before = party.hub.broadcast((b"v1",))
    party.admitted = frozenset({name(A)})
    keys, after = party.hub.broadcast((b"v2",))
    assert [route for route, _ in keys] == ["a"]
    assert why(lambda: revoked.receive(after)) == "unknown_group"
    assert why(lambda: revoked.receive(keys[0][1])) == "unknown_session"
    assert node.receive(keys[0][1]).frames == []
    assert heard(node, after) == [b"v2"]
    assert heard(node, before) == [b"v1"]  # it was on its way when the key changed
    assert party.hub.broadcast((b"v3",))[0] == []


def test_a_version_that_overtakes_its_key_or_the_whole_session_waits_for_it() -> None:
    party = Party()
    party.joined(B, "b")
    node = party.node(A)
    answer = party.hub.receive("a", node.seal((b"hello",))).answer
    assert why(lambda: node.receive(party.hub.broadcast((b"v1",))[1])) == "unknown_group"
    assert heard(node, answer) == [b"v1"]


# The window


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 3 * WIDTH), max_size=60))
def test_a_window_takes_each_number_once_and_none_that_it_cannot_remember(numbers: list[int]) -> None:
    window, taken = Window(), set[int]()
    for number in numbers:
        newest = max(taken, default=0)
        expected = "too_old" if newest - number >= WIDTH else "replayed" if number in taken else ""
        if expected:
            assert why(lambda number=number: window.require_new(number)) == expected  # type: ignore[misc]
        else:
            window.require_new(number)
            window.take(number)
            taken.add(number)
