"""Sessions: every message in every state, at both ends; what is stale, and what was seen before."""

from dataclasses import replace
from typing import Any

import pytest

import golden
from fedmq.errors import Unexpected
from fedmq.messages import Code, Message, Update, Verdict
from fedmq.session import TABLE, Receipt, Session, Side, State

# The protocol as a person reads it: the state that a message leads to, "-" where it cannot come.
PROTOCOL = {
    Side.AGGREGATOR: """
                    greeting    open        closed
        hello       open        open        open
        ready       -           open        -
        update      -           open        -
        report      -           open        -
        ping        -           open        -
        bye         -           closed      closed
        welcome     -           -           -
        refuse      -           -           -
        model       -           -           -
        task        -           -           -
        verdict     -           -           -
        pong        -           -           -
    """,
    Side.NODE: """
                    greeting    open        closed
        hello       -           -           -
        ready       -           -           -
        update      -           -           -
        report      -           -           -
        ping        -           -           -
        bye         greeting    open        -
        welcome     open        open        -
        refuse      closed      closed      -
        model       greeting    open        -
        task        greeting    open        -
        verdict     greeting    open        -
        pong        greeting    open        -
    """,
}
NUMBER = 7
BROADCAST = ("model", "task")  # the same frame for many nodes, so it names no session


def of_session(message: Any, number: int) -> Message:
    changed: Message = replace(message, session=number)
    return changed


MESSAGES: dict[str, Message] = {
    name: message if name in BROADCAST else of_session(message, NUMBER)
    for name, message in golden.MESSAGES.items()
    if "-" not in name
}


def told(side: Side) -> dict[tuple[State, str], State | None]:
    header, *rows = (line.split() for line in PROTOCOL[side].strip().splitlines())
    states = [State(word) for word in header]
    return {
        (state, row[0]): None if word == "-" else State(word)
        for row in rows
        for state, word in zip(states, row[1:], strict=True)
    }


TRIPLES = [(side, state, name, leads_to) for side in Side for (state, name), leads_to in told(side).items()]


def session(side: Side, state: State, seq: int = 0) -> Session:
    made = Session(side, NUMBER, now=10.0, seq=seq)
    made.state = state
    return made


def update(seq: int, number: int = NUMBER) -> Update:
    return Update(session=number, seq=seq, base_version=0, codec="fp32", examples=1)


def test_the_table_has_every_side_and_state_and_nothing_that_is_not_told_here() -> None:
    found = {
        (side, state, kind.__name__.lower()): leads_to
        for (side, state), steps in TABLE.items()
        for kind, leads_to in steps.items()
    }
    assert set(TABLE) == {(side, state) for side in Side for state in State}
    assert found == {(side, state, name): leads_to for side, state, name, leads_to in TRIPLES if leads_to is not None}
    assert len(TRIPLES) == len(Side) * len(State) * len(MESSAGES)


@pytest.mark.parametrize(("side", "state", "name", "leads_to"), TRIPLES)
def test_a_message_leads_where_the_table_says_or_is_unexpected(
    side: Side, state: State, name: str, leads_to: State | None
) -> None:
    made = session(side, state)
    if leads_to is None:
        with pytest.raises(Unexpected, match=rf"{type(MESSAGES[name]).__name__} in state {state}, which takes "):
            made.receive(MESSAGES[name], now=11.0)
        assert (made.state, made.seq, made.heard_at) == (state, 0, 10.0)
    else:
        assert made.receive(MESSAGES[name], now=11.0) is Receipt.FRESH
        assert (made.state, made.heard_at) == (leads_to, 11.0)


@pytest.mark.parametrize(
    ("side", "state", "name", "leads_to"), [triple for triple in TRIPLES if triple[3] and triple[2] not in BROADCAST]
)
def test_a_message_of_another_process_is_stale_and_changes_nothing(
    side: Side, state: State, name: str, leads_to: State
) -> None:
    made = session(side, state)
    assert made.receive(of_session(MESSAGES[name], NUMBER + 1), now=11.0) is Receipt.STALE
    assert (made.state, made.seq, made.heard_at) == (state, 0, 10.0)


def test_what_a_state_takes_is_named_when_something_else_comes() -> None:
    with pytest.raises(Unexpected, match="Welcome in state closed, which takes Bye, Hello"):
        session(Side.AGGREGATOR, State.CLOSED).receive(MESSAGES["welcome"], now=11.0)
    with pytest.raises(Unexpected, match="Welcome in state closed, which takes nothing"):
        session(Side.NODE, State.CLOSED).receive(MESSAGES["welcome"], now=11.0)


def test_an_update_is_fresh_once_and_a_duplicate_ever_after() -> None:
    made = session(Side.AGGREGATOR, State.OPEN, seq=4)
    receipts = [made.receive(update(seq), now=11.0) for seq in (3, 4, 5, 5, 4, 9, 6, 9, 10)]
    assert receipts == [
        Receipt.DUPLICATE,
        Receipt.DUPLICATE,
        Receipt.FRESH,
        Receipt.DUPLICATE,
        Receipt.DUPLICATE,
        Receipt.FRESH,  # a gap is the node's own business
        Receipt.DUPLICATE,
        Receipt.DUPLICATE,
        Receipt.FRESH,
    ]
    assert made.seq == 10


def test_a_duplicate_is_a_sign_of_life_and_a_stale_message_is_not() -> None:
    made = session(Side.AGGREGATOR, State.OPEN, seq=4)
    assert (made.receive(update(4), now=12.0), made.heard_at) == (Receipt.DUPLICATE, 12.0)
    assert (made.receive(update(5, number=8), now=13.0), made.heard_at, made.seq) == (Receipt.STALE, 12.0, 4)
    assert made.silent_for(15.5) == 3.5


def test_a_verdict_is_learned_once_in_any_state_that_takes_one() -> None:
    for state in (State.GREETING, State.OPEN):
        made = session(Side.NODE, state, seq=2)
        verdict: Verdict = replace(golden.VERDICT, session=NUMBER, seq=3)
        assert [made.receive(verdict, 11.0), made.receive(verdict, 12.0)] == [Receipt.FRESH, Receipt.DUPLICATE]
        assert made.seq == 3


def test_a_busy_verdict_is_none_however_often_it_comes_and_the_one_after_it_counts() -> None:
    made = session(Side.NODE, State.OPEN, seq=2)
    busy = Verdict(NUMBER, 3, Code.BUSY, retry_after_s=1.0)
    assert [made.receive(busy, 11.0), made.receive(busy, 12.0), made.seq] == [Receipt.FRESH, Receipt.FRESH, 2]
    assert (made.receive(replace(busy, code=Code.ACCEPTED), 13.0), made.seq) == (Receipt.FRESH, 3)


def test_the_first_seq_is_one() -> None:
    made = session(Side.AGGREGATOR, State.OPEN)
    assert [made.receive(update(0), 11.0), made.receive(update(1), 11.0)] == [Receipt.DUPLICATE, Receipt.FRESH]
