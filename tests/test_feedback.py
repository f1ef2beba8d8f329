"""Error feedback: what a codec loses, or an aggregator refuses, is in what comes later, once and whole."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmq.compress import CODECS, codec
from fedmq.core import Event
from fedmq.delta import Arrays, Delta, Params, Schema, norm
from fedmq.effects import Effect, Train
from fedmq.memory import Memory
from fedmq.messages import Code, Task, Update, Verdict
from fedmq.plan import Codecs, Settings, Stop
from fedmq.session import Receipt, Session, Side
from fedmq_nodes.node import Node, Trained
from fedmq_nodes.outbox import RETURNING, Outbox
from pair import SCHEMA as PAIR
from pair import Fleet, Worker
from strategies import tries
from test_node import SESSION, WELCOME, Bench, whole

NAMES = [name for name, found in CODECS.items() if found.feedback]
SCHEMA = Schema((("w", (7, 9)), ("b", (5,)), ("v", (12, 10))))
HERE = replace(WELCOME, run="one", schema=SCHEMA.entries)
EMPTY = Update(1, 1, 0, "", examples=10)


def delta(seed: int, scale: float = 1.0) -> Delta:
    flat = scale * np.random.default_rng(seed).standard_normal(SCHEMA.size)
    return Delta(Arrays(SCHEMA, flat.astype(np.float32)))


def filled(value: float) -> Delta:
    return Delta(Arrays(SCHEMA, np.full(SCHEMA.size, value, np.float32)))


def outbox(residual: Delta | None = None) -> Outbox:
    return Outbox(Memory(residual=residual), Session(Side.NODE, 1, 0.0))


def decoded(found: Update | None) -> Delta:
    assert found is not None
    return Delta(codec(found.codec).unpack(found.payload, SCHEMA))


def refused(code: Code, staleness: int = 0) -> Verdict:
    return Verdict(1, 1, code, staleness=staleness)


def flat(found: Delta | None) -> list[float]:
    assert found is not None
    return [float(x) for x in found.flat]


# One update


def test_there_are_codecs_with_feedback_and_codecs_without() -> None:
    assert {"rank4-int8", "top1-2bit"} <= set(NAMES)
    assert not {"fp32", "int8"} & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_sent_is_the_delta_and_the_residual_and_what_is_left_is_what_that_lost(name: str) -> None:
    box, before, trained = outbox(delta(1)), delta(1), delta(2)
    box.fill(replace(EMPTY, codec=name), trained, seed=3)
    whole = Delta(Arrays(SCHEMA, trained.flat + before.flat))
    assert box.update is not None
    assert bytes(box.update.payload) == bytes(codec(name).pack(whole, 3))
    assert flat(box.residual) == [float(x) for x in whole.flat - decoded(box.update).flat]
    left = box.residual
    box.judge(refused(Code.ACCEPTED), SCHEMA)
    assert box.residual is left


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("code", sorted(RETURNING))
def test_what_was_refused_for_being_late_returns_whole_however_late(name: str, code: Code) -> None:
    box, trained = outbox(), delta(0)
    for _ in range(5):
        box.fill(replace(EMPTY, codec=name), trained, seed=0)
        box.judge(refused(code, staleness=1000), SCHEMA)
    assert flat(box.residual) == pytest.approx([5 * x for x in flat(trained)], abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_refused_for_its_length_goes_and_what_it_left_with_it(name: str) -> None:
    box = outbox()
    box.fill(replace(EMPTY, codec=name), delta(0), seed=0)
    assert box.residual is not None
    box.judge(refused(Code.TOO_LARGE), SCHEMA)
    assert box.memory == Memory(seq=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("code", sorted(set(Code) - RETURNING - {Code.BUSY, Code.TOO_LARGE}))
def test_nothing_else_touches_what_an_update_has_left(name: str, code: Code) -> None:
    box = outbox()
    box.fill(replace(EMPTY, codec=name), delta(0), seed=0)
    left = box.residual
    box.judge(refused(code), SCHEMA)
    assert (box.update, box.residual) == (None, left)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("code", [Code.NOT_FINITE, Code.BAD_PAYLOAD, Code.TOO_STALE])
def test_a_delta_that_is_not_finite_leaves_the_residual_as_it_was(name: str, bad: float, code: Code) -> None:
    box = outbox(delta(1))
    box.fill(replace(EMPTY, codec=name), filled(bad), seed=0)
    box.judge(refused(code), SCHEMA)
    assert flat(box.residual) == flat(delta(1))


@pytest.mark.parametrize("name", NAMES)
def test_a_node_whose_deltas_explode_is_heard_again_once_they_do_not(name: str) -> None:
    box = outbox()
    for code, trained in ((Code.TOO_STALE, filled(3e38)), (Code.TOO_LARGE, filled(3e38)), (Code.ACCEPTED, delta(0))):
        box.fill(replace(EMPTY, codec=name), trained, seed=0)
        box.judge(refused(code), SCHEMA)
    assert box.residual is not None
    assert norm(box.residual) <= norm(delta(0)) * (1 + 1e-6)


# Another codec


@pytest.mark.parametrize("name", NAMES)
def test_after_a_change_to_a_codec_without_feedback_the_residual_is_carried_once_in_its_bounds(name: str) -> None:
    box = outbox()
    box.fill(replace(EMPTY, codec=name), delta(0, scale=10.0), seed=0)
    box.judge(refused(Code.WRONG_CODEC), SCHEMA)
    assert flat(box.residual) == pytest.approx(flat(delta(0, scale=10.0)), abs=1e-4)
    box.fill(replace(EMPTY, codec="fp32"), delta(1), seed=0)
    share = norm(delta(1)) / norm(delta(0, scale=10.0))
    expected = delta(1).flat + np.float32(share) * delta(0, scale=10.0).flat
    np.testing.assert_allclose(decoded(box.update).flat, expected, atol=1e-4)
    assert box.residual is None


@pytest.mark.parametrize("name", NAMES)
def test_after_a_change_to_a_codec_with_feedback_what_had_returned_is_carried_whole(name: str) -> None:
    box = outbox()
    box.fill(replace(EMPTY, codec="fp32"), delta(0, scale=10.0), seed=0)
    box.judge(refused(Code.WRONG_CODEC, staleness=3), SCHEMA)
    box.fill(replace(EMPTY, codec=name), delta(1), seed=0)
    assert box.residual is not None
    found = decoded(box.update).flat + box.residual.flat
    np.testing.assert_allclose(found, delta(1).flat + delta(0, scale=10.0).flat / 2, atol=1e-4)


# The law


class World:
    """A node's processes, their disk, and an aggregator that judges what reaches it; sums are float64.

    trained    of what was remembered: the rest was sent to nobody, and died with its process
    accepted   as the aggregator decoded it
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.disk = Memory()
        self.ledger: dict[int, Verdict] = {}
        self.trained = self.accepted = np.zeros(SCHEMA.size)
        self.sessions = 0
        self.start()

    def start(self) -> None:
        """A process begins with what is on the disk, and is welcomed."""
        self.sessions += 1
        self.session = Session(Side.NODE, self.sessions, 0.0)
        self.box = Outbox(self.disk, self.session)
        newest = max(self.ledger, default=0)
        welcome = replace(HERE, session=self.sessions, seq=newest)
        self.session.receive(welcome, 0.0)
        assert self.box.meet(welcome) == []
        if self.box.update is not None and self.box.update.seq == newest:
            self.hear(newest)

    def train(self, found: Delta, writes: bool) -> None:
        if self.box.update is not None:
            return
        update = replace(EMPTY, session=self.sessions, seq=self.session.seq + 1, codec=self.name)
        self.box.fill(update, found, seed=update.seq)
        if writes:
            self.trained = self.trained + found.flat
        self.write(writes)

    def judge(self, code: Code, hears: bool, writes: bool) -> None:
        found = self.box.update
        if found is None:
            return
        self.ledger[found.seq] = Verdict(0, found.seq, code, staleness=found.seq % 7)
        if code is Code.ACCEPTED:
            self.accepted = self.accepted + decoded(found).flat
        if hears:
            self.hear(found.seq)
            self.write(writes)
        else:
            self.start()

    def hear(self, seq: int) -> None:
        verdict = replace(self.ledger[seq], session=self.sessions)
        assert self.session.receive(verdict, 0.0) is Receipt.FRESH
        self.box.judge(verdict, SCHEMA)

    def write(self, writes: bool) -> None:
        """Bring the memory to the disk, or die before that."""
        if not writes:
            self.start()
            return
        self.disk = self.box.memory
        self.box.keep(self.disk)

    def holds(self) -> bool:
        held = np.zeros(SCHEMA.size)
        if self.box.residual is not None:
            held += self.box.residual.flat
        if self.box.update is not None:
            held += decoded(self.box.update).flat
        return bool(
            np.allclose(self.accepted + held, self.trained, rtol=0, atol=1e-4 * (1 + np.abs(self.trained).max()))
        )


trainings = st.builds(
    lambda seed, scale, writes: lambda world: world.train(delta(seed, scale), writes),
    st.integers(0, 99),
    st.sampled_from([1e-3, 1.0, 30.0]),
    st.booleans(),
)
judgements = st.builds(
    lambda code, hears, writes: lambda world: world.judge(code, hears, writes),
    st.sampled_from([Code.ACCEPTED, *sorted(RETURNING)]),
    st.booleans(),
    st.booleans(),
)
deaths = st.just(lambda world: world.start())


@pytest.mark.parametrize("name", NAMES)
@tries(60)
@given(story=st.lists(st.one_of(trainings, judgements, deaths), max_size=30))
def test_accepted_and_on_its_way_and_residual_are_what_was_trained_whatever_dies_or_is_refused(
    name: str, story: list[Callable[[World], None]]
) -> None:
    world = World(name)
    for happens in story:
        happens(world)
        assert world.holds()


def test_what_another_process_may_have_said_is_not_said_again() -> None:
    """Its disk was swapped for an older copy, say: nobody can tell whose update carried the residual."""
    box = outbox()
    box.fill(replace(EMPTY, codec="top1-2bit"), delta(0), seed=0)
    ahead = Outbox(replace(box.memory, run="one"), Session(Side.NODE, 2, 0.0))
    assert [event for event, _ in ahead.meet(replace(HERE, seq=2))] == ["update.dropped", "residual.dropped"]
    assert (ahead.update, ahead.residual) == (None, None)


def test_what_only_this_process_can_have_said_is_kept() -> None:
    box = outbox()
    box.fill(replace(EMPTY, codec="top1-2bit"), delta(0), seed=0)
    same = Outbox(replace(box.memory, run="one"), Session(Side.NODE, 2, 0.0))
    assert same.meet(replace(HERE, seq=1)) == []
    assert same.residual is box.residual


def test_an_update_that_is_put_off_is_sent_again_as_it_was_and_nothing_returns_of_it() -> None:
    bench = Bench()
    bench.waits(0.0)
    bench.hears(replace(WELCOME, up="top1-2bit"))
    bench.ready()
    bench.hears(whole(0, 0.0), Task(0))
    (first,) = bench.trains(0, Params(Arrays(PAIR, np.arange(PAIR.size, dtype=np.float32))))
    memory = bench.disk[-1]
    assert bench.hears(Verdict(SESSION, 1, Code.BUSY, retry_after_s=1.0)) == []
    (again,) = [message for message in bench.waits(1.5) if isinstance(message, Update)]
    assert (again, bench.disk[-1].residual) == (first, memory.residual)
    assert memory.residual is not None


# In a federation


class Disagreeing(Fleet):
    """Two nodes that pull with all their might against each other in one value, and gently the same way in another."""

    def _work(self, name: str, node: Node, effect: Effect) -> Iterable[tuple[float, Event]]:
        if not isinstance(effect, Train):
            return super()._work(name, node, effect)
        after = effect.params.flat.copy()
        after[0] += 10.0 if name == "a" else -10.0
        after[1] += 1.0
        result = Trained(effect.version, Params(Arrays(effect.params.schema, after)), 10, 1, 0.5)
        return [(1.0, lambda now: node.trained(result, now))]


@pytest.mark.parametrize("name", ["fp32", "top1-2bit", "top1-fp16"])
def test_what_nodes_disagree_on_loudly_does_not_silence_what_they_agree_on(name: str) -> None:
    """One value of twelve is sent at a time: without a memory it would be the first for ever, and come to nothing."""
    settings = Settings("test", codec=Codecs(name), start_nodes=2, stop=Stop(60))
    fleet = Disagreeing(settings, {"a": Worker(), "b": Worker()})
    fleet.run()
    found = fleet.versions()[-1].params.flat
    assert 60.0 - 12.0 < found[1] <= 60.0
    assert abs(found[0]) <= 10.0
