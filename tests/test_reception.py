"""The reception: who is let in, who is refused and why, and what a node that comes back is told."""

from dataclasses import replace

import pytest

from desk import HELLO, SYNC, Desk, kinds, update
from fedmq import codec
from fedmq.aggregator import Phase
from fedmq.messages import (
    Bye,
    Hello,
    Model,
    Ping,
    Pong,
    Ready,
    Refuse,
    Task,
    Welcome,
)
from fedmq.past import Known, Past
from fedmq.versions import proof
from pair import params

# Handshake


def test_a_welcome_carries_the_task_and_then_comes_the_model_and_the_first_task() -> None:
    desk = Desk()
    assert kinds(desk.say("edge", HELLO)) == [Welcome]
    assert kinds(desk.say("edge", Ready(1, 10, 0))) == [Model, Task]


@pytest.mark.parametrize(
    ("change", "reason", "both"),
    [
        ({"feature_space": "b" * 64}, "feature_space", ("b" * 16, "a" * 16)),
        ({"dim": 8}, "adapter_shape", ("8", "4")),
        ({"federation": "other"}, "wrong_federation", ("other", "test")),
        ({"methods": ("linear",)}, "unknown_method", ("linear", "fedclip")),
        ({"codecs": ("fp16",)}, "unknown_codec", ("fp16", "fp32")),
    ],
)
def test_a_node_that_does_not_fit_is_refused_with_both_values(
    change: dict[str, object], reason: str, both: tuple[str, str]
) -> None:
    desk = Desk()
    ((_, refusal),) = desk.say("edge", replace(HELLO, **change))  # type: ignore[arg-type]
    assert isinstance(refusal, Refuse)
    assert refusal.reason == reason
    assert all(value in refusal.text for value in both)
    assert desk.aggregator.roster.members == {}


def test_another_protocol_is_refused_with_both_versions() -> None:
    desk = Desk()
    head = bytearray(codec.encode(HELLO)[0])
    head[3] = 9
    ((_, refusal),) = desk.frame("edge", (bytes(head),))
    assert isinstance(refusal, Refuse)
    assert (refusal.reason, "protocol 9" in refusal.text, "this end 1" in refusal.text) == (
        "protocol_mismatch",
        True,
        True,
    )


def test_whoever_has_not_said_hello_is_told_to() -> None:
    assert Desk().say("edge", Ping(5, 0)) == [("edge", Refuse(5, "no_session", "say hello first"))]


def test_a_second_hello_of_the_same_process_is_welcomed_again_with_the_same_words() -> None:
    desk = Desk()
    assert desk.say("edge", HELLO) == desk.say("edge", HELLO)


def test_an_old_process_is_told_that_another_took_its_place() -> None:
    desk = Desk()
    desk.say("edge", HELLO, Ready(1, 10, 0))
    assert kinds(desk.say("edge", replace(HELLO, session=2), Ping(2, -1, "encoding"))) == [Welcome, Pong]
    ((_, refusal),) = desk.say("edge", HELLO)
    assert isinstance(refusal, Refuse)
    assert (refusal.session, refusal.reason) == (1, "replaced")


def test_a_process_that_said_hello_and_nothing_else_does_not_oust_the_one_that_lives() -> None:
    """Its hello was the last that it said before it died, and the hello of the next process has overtaken it."""
    desk = Desk()
    desk.say("edge", replace(HELLO, session=2), Ready(2, 10, 0))
    assert kinds(desk.say("edge", HELLO)) == [Welcome]
    assert kinds(desk.say("edge", replace(HELLO, session=2))) == []
    desk.wait(5.0)
    assert kinds(desk.say("edge", replace(HELLO, session=2))) == [Welcome]
    assert kinds(desk.say("edge", Ready(2, 10, 0))) == [Model, Task]
    ((_, refusal),) = desk.say("edge", HELLO)
    assert (refusal.session, refusal.reason) == (1, "replaced")  # type: ignore[union-attr]


def test_a_hello_that_its_dead_sender_had_doubled_does_not_oust_its_successor_before_that_has_spoken() -> None:
    desk = Desk()
    desk.say("edge", HELLO, Ready(1, 10, 0))
    assert kinds(desk.say("edge", replace(HELLO, session=2))) == [Welcome]
    assert kinds(desk.say("edge", HELLO)) == []
    assert kinds(desk.say("edge", Ready(2, 10, 0))) == [Model, Task]


def test_sentences_that_a_long_hello_makes_can_still_be_read() -> None:
    desk = Desk()
    wordy = replace(HELLO, methods=tuple(f"{number:0150d}" for number in range(60)))
    ((_, refusal),) = desk.say("edge", wordy)
    assert isinstance(refusal, Refuse)
    assert (refusal.reason, len(refusal.text)) == ("unknown_method", 2000)


def test_whoever_greets_wrongly_again_and_again_is_muted_and_who_was_replaced_is_not() -> None:
    desk = Desk(replace(SYNC, strikes=3))
    wrong = replace(HELLO, dim=7)
    assert [kinds(desk.say("edge", wrong)) for _ in range(4)] == [[Refuse]] * 3 + [[]]
    desk.say("other", replace(HELLO, session=1), replace(HELLO, session=2), Ready(2, 10, 0))
    assert [kinds(desk.say("other", replace(HELLO, session=1))) for _ in range(4)] == [[Refuse]] * 4


def test_a_federation_that_knows_as_many_nodes_as_it_may_takes_back_its_own_and_no_other() -> None:
    desk = Desk(replace(SYNC, most_nodes=2))
    desk.join("a", "b")
    ((_, refusal),) = desk.say("c", replace(HELLO, session=9, name="c"))
    assert (refusal.reason, "2 nodes" in refusal.text) == ("full", True)  # type: ignore[union-attr]
    assert kinds(desk.say("a", replace(HELLO, session=100, name="a"))) == [Welcome]


def held(value: float, version: int, session: int = 1) -> Hello:
    return replace(HELLO, session=session, version=version, proof=proof(params(value)))


def test_a_node_that_holds_the_newest_version_is_not_sent_it_again() -> None:
    desk = Desk()
    ((_, welcome), *_) = desk.say("edge", held(0.0, version=0))
    assert isinstance(welcome, Welcome)
    assert (welcome.disowned, kinds(desk.say("edge", Ready(1, 10, 0)))) == (-1, [Task])


def test_a_node_that_holds_another_version_of_that_number_drops_it() -> None:
    """A ledger that is not durable may lose a version and then make another; nodes must not go on from both."""
    desk = Desk()
    ((_, welcome), *_) = desk.say("edge", held(5.0, version=0))
    assert isinstance(welcome, Welcome)
    assert (welcome.disowned, kinds(desk.say("edge", Ready(1, 10, 0)))) == (0, [Model, Task])


def test_a_node_that_holds_a_version_that_is_not_there_yet_drops_it() -> None:
    desk = Desk()
    ((_, welcome), *_) = desk.say("edge", held(0.0, version=3))
    assert isinstance(welcome, Welcome)
    assert welcome.disowned == 3


def test_of_a_version_that_is_being_written_no_proof_is_believed() -> None:
    desk = Desk()
    desk.join("a")
    desk.hold = True
    desk.say("a", update(100))
    assert desk.aggregator.phase is Phase.COMMITTING
    ((_, welcome), *_) = desk.say("edge", held(1.0, version=1, session=9))
    assert isinstance(welcome, Welcome)
    assert (welcome.version, welcome.disowned) == (0, 1)


def test_a_node_is_known_by_its_bytes_and_strikes_after_a_restart() -> None:
    known = Known("a", "a", active=False, bytes_up=7, bytes_down=9, strikes=2)
    member = Desk(past=Past(Past.none(params()).point, nodes=(known,))).aggregator.roster.members["a"]
    assert (member.bytes_up, member.bytes_down, member.strikes, member.state) == (7, 9, 2, "gone")


def test_a_node_that_left_or_was_lost_says_why_and_one_that_is_back_does_not() -> None:
    desk = Desk()
    desk.join("a", "b", "c")
    desk.say("a", Bye(100, "no_images"))
    desk.lose("b")
    desk.say("c", Bye(102, "finished"))
    members = desk.aggregator.roster.members
    assert [(m.state, m.reason) for m in members.values()] == [
        ("gone", "no_images"),
        ("gone", "the link is gone"),
        ("finished", "finished"),
    ]
    desk.join("a")
    assert members["a"].reason == ""
