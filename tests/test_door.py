"""The door: whoever is revoked is told so, parted with and heard no more, whatever link it is on."""

from dataclasses import replace

from desk import HELLO, PAIR, SYNC, Desk, update
from fedmq import codec
from fedmq.door import Door
from fedmq.effects import Effect, Send
from fedmq.messages import Message, Refuse, Welcome


class Gate:
    """A desk behind a door."""

    def __init__(self, *admitted: str) -> None:
        self.desk = Desk(PAIR)
        self.admitted = frozenset(admitted)
        self.door = Door(self.desk.aggregator, lambda _now: self.admitted)

    def say(self, peer: str, message: Message) -> list[tuple[str, Message]]:
        return said(self.door.receive(peer, codec.encode(message), 0.0))


def said(effects: list[Effect]) -> list[tuple[str, Message]]:
    return [(peer, codec.decode(e.frame)) for e in effects if isinstance(e, Send) for peer in e.peers]


def refused(message: Message, session: int) -> bool:
    return isinstance(message, Refuse) and (message.session, message.reason) == (session, "revoked")


def test_whoever_is_admitted_is_heard_and_nobody_else() -> None:
    gate = Gate("a")
    assert [type(message) for _, message in gate.say("a", HELLO)] == [Welcome]
    ((peer, message),) = gate.say("b", replace(HELLO, session=9))
    assert peer == "b"
    assert refused(message, 9)
    assert list(gate.desk.aggregator.roster.members) == ["a"]


def test_a_node_that_is_revoked_is_told_so_at_the_next_event_of_anyone_and_not_waited_for() -> None:
    gate = Gate("a", "b")
    gate.desk.join("a", "b")
    assert set(gate.desk.aggregator.collector.round.waiting_for) == {"a", "b"}
    gate.admitted = frozenset({"b"})
    ((peer, message),) = said(gate.door.tick(0.0))
    assert peer == "a"
    assert refused(message, 100)
    member = gate.desk.aggregator.roster.members["a"]
    assert (member.connected, member.state, member.reason) == (False, "gone", "revoked")
    assert set(gate.desk.aggregator.collector.round.waiting_for) == {"b"}


def test_an_update_that_a_revoked_node_still_sends_is_refused_by_name_and_not_folded() -> None:
    gate = Gate("a", "b")
    gate.desk.join("a", "b")
    gate.admitted = frozenset({"b"})
    answers = gate.say("a", update(100))
    assert {peer for peer, _ in answers} == {"a"}
    assert all(refused(message, 100) for _, message in answers)
    assert gate.desk.aggregator.collector.round.updates == 0
    assert gate.desk.aggregator.roster.members["a"].reason.startswith("revoked: ")


def test_a_revoked_node_that_does_not_stop_is_not_answered_for_ever() -> None:
    gate = Gate()
    answers = [gate.say("a", replace(HELLO, session=9)) for _ in range(2 * SYNC.strikes)]
    assert [len(answer) for answer in answers] == [1] * SYNC.strikes + [0] * SYNC.strikes


def test_a_node_that_is_enrolled_again_may_join_again_and_goes_on_after_its_last_seq() -> None:
    gate = Gate("a", "b")
    gate.desk.join("a", "b")
    gate.say("a", update(100, seq=1))
    gate.admitted = frozenset({"b"})
    gate.door.tick(0.0)
    gate.admitted = frozenset({"a", "b"})
    ((_, welcome),) = gate.say("a", replace(HELLO, session=200))
    assert isinstance(welcome, Welcome)
    assert (welcome.session, welcome.seq) == (200, 1)
