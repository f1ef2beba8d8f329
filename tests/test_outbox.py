"""An outbox: what survives a node's process, what returns of a refused update, and what is let go of, aloud."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmq.compress import CODECS
from fedmq.delta import Delta, norm
from fedmq.effects import Prepare
from fedmq.memory import Memory
from fedmq.messages import Bye, Code, Hello, Ready, Task, Update, Verdict
from fedmq.session import Session, Side
from fedmq_nodes.outbox import RETURNING, Outbox, carried, returned
from pair import SCHEMA, params
from strategies import tries, values
from test_node import SESSION, WELCOME, Bench, accepted, kinds, whole

RUN = replace(WELCOME, run="one")
EMPTY = Update(SESSION, 1, 0, "fp32", examples=10)


def delta(value: float) -> Delta:
    return Delta(params(value))


def refused(seq: int, code: Code, staleness: int = 0) -> Verdict:
    return Verdict(SESSION, seq, code, staleness=staleness)


def killed_while_sending(run: str = "one") -> Memory:
    """What a node leaves that was killed before the verdict on its first update."""
    bench = Bench()
    bench.waits(0.0)
    bench.hears(replace(WELCOME, run=run))
    bench.ready()
    bench.hears(whole(0, 0.0), Task(0))
    (update,) = bench.trains(0)
    assert bench.disk[-1].update == update
    return bench.disk[-1]


def restarted(memory: Memory, session: int = 8) -> Bench:
    bench = Bench(memory, session=session)
    assert kinds(bench.waits(0.0)) == [Hello]
    return bench


def events(bench: Bench, level: str) -> list[str]:
    return [log.event for log in bench.logs if log.level == level]


# Across the end of a process


def test_an_update_is_not_sent_before_it_is_remembered() -> None:
    bench = Bench(writes=False)
    bench.waits(0.0)
    bench.hears(WELCOME)
    bench.ready()
    bench.hears(whole(0, 0.0), Task(0))
    assert bench.trains(0) == []
    assert bench.hears(replace(WELCOME, version=0)) == [Ready(SESSION, 10, 0)]
    bench.writes = True
    (update,) = bench.wants(bench.node.remembered(bench.disk[-1], bench.now))
    assert update == bench.node.outbox


def test_a_restarted_node_sends_the_update_that_was_never_judged_before_it_reads_its_data() -> None:
    memory = killed_while_sending()
    bench = restarted(memory)
    found = bench.hears(replace(RUN, session=8))
    assert kinds(found) == [Update, Prepare]
    assert memory.update is not None
    assert found[0] == replace(memory.update, session=8)


def test_a_restarted_node_takes_the_verdict_that_its_predecessor_did_not_hear() -> None:
    bench = restarted(killed_while_sending())
    assert kinds(bench.hears(replace(RUN, session=8, seq=1, trained=0, verdict=replace(accepted(1), session=8)))) == [
        Prepare
    ]
    assert (bench.node.outbox, bench.disk[-1]) == (None, Memory("one", 1))


def test_what_overtakes_the_welcome_is_dropped_and_heard_with_it() -> None:
    bench = restarted(killed_while_sending())
    verdict = replace(accepted(1), session=8)
    assert bench.hears(verdict, Task(0), whole(0, 0.0), Bye(8, "finished", 5)) == []
    assert bench.node.outbox is not None
    assert kinds(bench.hears(replace(RUN, session=8, seq=1, trained=0, verdict=verdict))) == [Prepare]
    assert bench.node.outbox is None


def test_a_restarted_node_does_not_train_again_from_the_version_that_it_has_trained_from() -> None:
    bench = restarted(killed_while_sending())
    bench.hears(replace(RUN, session=8))
    bench.ready()
    bench.hears(replace(accepted(1), session=8))
    assert bench.hears(whole(0, 0.0), Task(0)) == []


def test_what_was_learned_in_another_run_stays_out_of_this_one_and_that_is_said() -> None:
    bench = restarted(killed_while_sending(run="another"))
    assert kinds(bench.hears(replace(RUN, session=8, seq=3))) == [Prepare]
    assert (bench.node.outbox, bench.disk[-1], events(bench, "warning")) == (None, Memory("one", 3), ["memory.dropped"])


def test_an_update_that_a_process_without_this_memory_has_overtaken_is_dropped_and_that_is_said() -> None:
    bench = restarted(killed_while_sending())
    assert kinds(bench.hears(replace(RUN, session=8, seq=4, verdict=replace(accepted(4), session=8)))) == [Prepare]
    assert (bench.node.outbox, bench.disk[-1], events(bench, "warning")) == (None, Memory("one", 4), ["update.dropped"])


def test_a_residual_that_a_forgotten_update_may_have_carried_is_dropped_and_that_is_said() -> None:
    bench = restarted(Memory("one", 3, residual=delta(1.0)))
    bench.hears(replace(RUN, session=8, seq=4, verdict=replace(accepted(4), session=8)))
    assert (bench.disk[-1], events(bench, "warning")) == (Memory("one", 4), ["residual.dropped"])


def test_a_node_leaves_a_federation_that_has_begun_anew() -> None:
    bench = Bench().at_work()
    bench.hears(RUN)
    (done,) = bench.hears(replace(RUN, run="two"))
    assert (getattr(done, "reason", ""), getattr(done, "refused", False)) == ("another_run", True)


def test_a_federation_that_has_finished_leaves_nothing_to_remember() -> None:
    bench = Bench().at_work()
    bench.trains(0)
    bench.hears(Bye(SESSION, "finished", 5))
    assert bench.disk[-1] == Memory()


# What returns


@pytest.mark.parametrize("code", sorted(RETURNING))
def test_an_update_that_came_too_late_is_carried_by_the_next_damped_for_its_age(code: Code) -> None:
    bench = Bench().at_work()
    bench.trains(0, params(1.0))
    assert kinds(bench.hears(refused(1, code, staleness=3), whole(4, 0.0), Task(4)))
    (update,) = bench.trains(4, params(2.0))
    assert isinstance(update, Update)
    assert np.frombuffer(update.payload, "<f4").tolist() == [2.0 + 1.0 / 2.0] * SCHEMA.size


@pytest.mark.parametrize("code", sorted(set(Code) - RETURNING - {Code.BUSY}))
def test_nothing_returns_of_an_update_that_was_accepted_or_is_unusable(code: Code) -> None:
    bench = Bench().at_work()
    bench.trains(0, params(1.0))
    bench.hears(refused(1, code))
    assert (bench.disk[-1], bench.node.outbox) == (Memory("", 1), None)


def test_what_returned_survives_the_process_and_is_carried_once() -> None:
    bench = Bench().at_work()
    bench.hears(RUN)
    bench.trains(0, params(1.0))
    bench.hears(refused(1, Code.TOO_STALE))
    again = restarted(bench.disk[-1])
    again.hears(replace(RUN, session=8, seq=1, verdict=replace(refused(1, Code.TOO_STALE), session=8)))
    again.ready()
    again.hears(whole(1, 0.0), Task(1))
    (first,) = again.trains(1, params(2.0))
    again.hears(Verdict(8, 2, Code.ACCEPTED), whole(2, 0.0), Task(2))
    (second,) = again.trains(2, params(2.0))
    assert [np.frombuffer(one.payload, "<f4")[0] for one in (first, second) if isinstance(one, Update)] == [3.0, 2.0]


def test_a_delta_that_is_not_finite_carries_nothing_and_the_next_one_does() -> None:
    outbox = Outbox(Memory(residual=delta(1.0)), Session(Side.NODE, SESSION, 0.0))
    outbox.fill(EMPTY, delta(math.nan), 0)
    outbox.judge(refused(1, Code.NOT_FINITE), SCHEMA)
    outbox.fill(EMPTY, delta(2.0), 0)
    assert outbox.update is not None
    assert np.frombuffer(outbox.update.payload, "<f4").tolist() == [3.0] * SCHEMA.size


def test_what_cannot_be_read_any_more_does_not_return() -> None:
    outbox = Outbox(Memory(update=replace(EMPTY, payload=b"short")), Session(Side.NODE, SESSION, 0.0))
    outbox.judge(refused(1, Code.TOO_STALE), SCHEMA)
    assert (outbox.update, outbox.residual) == (None, None)


deltas = values(SCHEMA, 1e6).map(Delta)


@tries(200)
@given(
    st.lists(st.tuples(deltas, st.integers(0, 50), st.sampled_from(sorted(Code))), min_size=1, max_size=8),
    st.sampled_from(sorted(name for name, found in CODECS.items() if not found.feedback)),
)
def test_however_often_updates_are_refused_none_is_longer_than_twice_the_longest_that_was_trained(
    story: list[tuple[Delta, int, Code]], name: str
) -> None:
    outbox = Outbox(Memory(), Session(Side.NODE, SESSION, 0.0))
    longest = max(norm(trained) for trained, _, _ in story)
    # A value is rounded by at most a 127th or a 7th of its row's largest, and halves keep 11 or 8 bits. Signs alone are
    # at most sqrt(2) times as long as what they stand for (Khintchine's inequality), which may be twice the longest.
    wide, signs = 8 * math.sqrt(SCHEMA.size), 2 * (1.01 * math.sqrt(2) - 1)
    exact = {"fp32": 1e-5, "fp16": 1e-3, "bf16": 8e-3}
    slack = {**exact, "int8": wide / 127, "int4": wide / 7, "eden2": signs, "eden1": signs}[name] * longest + 1e-4
    for seq, (trained, staleness, code) in enumerate(story, 1):
        outbox.fill(replace(EMPTY, seq=seq, codec=name), trained, seq)
        assert outbox.update is not None
        assert norm(Delta(CODECS[name].unpack(outbox.update.payload, SCHEMA))) <= 2 * longest + slack
        outbox.judge(refused(seq, code, staleness), SCHEMA)
        assert outbox.residual is None or norm(outbox.residual) <= 2 * longest + slack


@tries(200)
@given(deltas, st.integers(0, 1000))
def test_what_returns_is_the_delta_itself_and_the_older_the_less(found: Delta, staleness: int) -> None:
    back, later = returned(found, staleness), returned(found, staleness + 1)
    if norm(found) == 0:
        assert (back, later) == (None, None)
        return
    assert back is not None
    assert later is not None
    assert norm(later) <= norm(back) <= norm(found)
    np.testing.assert_allclose(back.flat * np.sqrt(np.float32(1 + staleness)), found.flat, rtol=1e-5, atol=1e-30)


@tries(200)
@given(deltas, deltas)
def test_a_short_residual_is_carried_whole_and_a_long_one_no_longer_than_what_carries_it(
    own: Delta, late: Delta
) -> None:
    if norm(late) == 0:
        return
    found = carried(own, late)
    share = min(1.0, norm(own) / norm(late))
    expected = own.flat.astype(np.float64) + share * late.flat.astype(np.float64)
    np.testing.assert_allclose(found.flat, expected, rtol=1e-4, atol=1e-6 * (norm(own) + norm(late)) + 1e-30)


# Mixed


def test_a_reinstalled_node_goes_on_after_what_the_ledger_has_and_sends_nothing_old() -> None:
    bench = restarted(Memory())
    bench.hears(replace(RUN, session=8, seq=7, verdict=replace(accepted(7), session=8)))
    bench.ready()
    bench.hears(whole(9, 0.0), Task(9))
    (update,) = bench.trains(9)
    assert isinstance(update, Update)
    assert (update.seq, bench.disk[-1].used) == (8, 8)


def test_a_memory_that_has_not_changed_is_not_written_again() -> None:
    bench = Bench().at_work()
    before = len(bench.disk)
    bench.waits(1.0)
    bench.hears(Task(0), Task(0))
    assert len(bench.disk) == before


def test_statistics_that_a_dead_process_counted_are_not_sent_by_the_next() -> None:
    """The next one has data of its own to count; the seq is used up all the same."""
    memory = Memory("one", 3, Update(SESSION, 3, 0, "stats-fp32", 10, payload=b"counted"))
    session = Session(Side.NODE, 8, 0.0)
    outbox = Outbox(memory, session)
    assert (outbox.update, outbox.remembered, session.seq) == (None, False, 3)
