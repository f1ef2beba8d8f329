"""Promises of the design that hold between the parts and not in any one of them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator

import ledgers
from fedmq import codec
from fedmq.aggregator import Aggregator, Phase
from fedmq.effects import Done, Effect, Keep, Prepare, Send
from fedmq.errors import LocalError
from fedmq.journal import VersionEntry
from fedmq.messages import Bye, Hello, Message, Model, Ping, Pong, Ready, Report, Task, Update, Welcome
from fedmq.outer import Outer
from fedmq.past import Known, Past, Point
from fedmq.plan import Codecs, Settings, Stop
from fedmq.rounds import PRESETS, Policy
from fedmq.transports import AGGREGATOR
from fedmq_nodes.node import Evaluated, Node, Trained
from pair import SCHEMA, SPACE, Fleet, Worker, introduction, job, params, train

SETTINGS = Settings("test", codec=Codecs("fp32", "fp32"))


def hello(session: int, version: int = -1) -> Hello:
    return Hello(session, "test", f"node-{session}", SPACE, 4, ("fedclip",), ("fp32",), version)


def update(session: int, value: float = 1.0) -> Update:
    payload = np.full(SCHEMA.size, value, np.float32).tobytes()
    return Update(session, 1, 0, "fp32", examples=10, payload=payload)


def said(effects: list[Effect]) -> list[Message]:
    return [codec.decode(effect.frame) for effect in effects if isinstance(effect, Send)]


def begun(past: Past | None = None, settings: Settings = SETTINGS) -> Aggregator:
    return Aggregator(settings, job(), past or Past.none(params()), np.random.default_rng(0), now=0.0)


def tell(aggregator: Aggregator, peer: str, *messages: Message) -> list[Effect]:
    """Send messages; every batch is kept at once."""
    effects: list[Effect] = []
    for message in messages:
        effects += aggregator.receive(peer, codec.encode(message), now=0.0)
    queue = list(effects)
    while queue:
        effect = queue.pop(0)
        if isinstance(effect, Keep):
            more = aggregator.kept(effect.number, now=0.0)
            queue += more
            effects += more
    return effects


def met(tests: int = 0) -> tuple[Aggregator, Node]:
    """Return an aggregator and the node that trains for it."""
    aggregator, node = begun(), Node(introduction("edge"), 1, np.random.default_rng(0), now=0.0)
    for message in said(tell(aggregator, "edge", *said(node.tick(0.0)))):
        node.receive(AGGREGATOR, codec.encode(message), now=0.0)
    for message in said(tell(aggregator, "edge", *said(node.prepared(10, tests, now=0.0)))):
        node.receive(AGGREGATOR, codec.encode(message), now=0.0)
    assert node.activity == "training"
    return aggregator, node


def committing() -> Aggregator:
    """Return an aggregator whose version 1 is on its way to the ledger, and with a second node that has greeted."""
    aggregator = begun()
    tell(aggregator, "late", hello(2))
    tell(aggregator, "edge", hello(1), Ready(1, 10, 0))
    effects = aggregator.receive("edge", codec.encode(update(1)), now=0.0)
    assert any(isinstance(entry, VersionEntry) for e in effects if isinstance(e, Keep) for entry in e.entries)
    assert aggregator.phase is Phase.COMMITTING
    return aggregator


# A version is durable before it is announced


def test_a_node_that_gets_ready_during_a_commit_is_not_brought_to_a_version_that_may_never_be() -> None:
    effects = committing().receive("late", codec.encode(Ready(2, 10, 0)), now=0.0)
    assert [message.version for message in said(effects) if isinstance(message, Model)] in ([], [0])


def test_a_node_that_greets_during_a_commit_is_not_told_of_a_version_that_may_never_be() -> None:
    effects = committing().receive("new", codec.encode(hello(3)), now=0.0)
    assert [message.version for message in said(effects) if isinstance(message, Welcome)] == [0]


# A federation never waits for nobody


def test_a_round_whose_only_update_was_refused_asks_again() -> None:
    aggregator = begun()
    tell(aggregator, "edge", hello(1), Ready(1, 10, 0))
    effects = tell(aggregator, "edge", update(1, math.nan))
    assert [message.version for message in said(effects) if isinstance(message, Task)] == [0]


def test_a_ready_that_was_lost_is_said_again() -> None:
    aggregator = begun()
    tell(aggregator, "edge", hello(1))
    node = Node(introduction("edge"), 1, np.random.default_rng(0), now=0.0)
    node.tick(0.0)
    for effect in said(tell(aggregator, "edge", hello(1))):
        node.receive(AGGREGATOR, codec.encode(effect), now=0.0)
    node.prepared(10, 0, now=0.0)  # what it says here is lost
    now = 0.0
    while now < 60.0 and not aggregator.roster.ready():
        now = node.next_deadline() or 60.0
        for message in said(node.tick(now)):
            for answer in said(aggregator.receive("edge", codec.encode(message), now)):
                for reply in said(node.receive(AGGREGATOR, codec.encode(answer), now)):
                    aggregator.receive("edge", codec.encode(reply), now)
    assert aggregator.roster.ready() == 1


def restarted_without(fleet: Fleet, updates: int) -> Fleet:
    """Let so many updates be judged; then kill the aggregator and begin another from a ledger that has none of them."""
    fleet.run(stop=lambda: sum(log.event == "update.judged" for _, _, log in fleet.simulation.logs) == updates)
    known = tuple(Known(name, name, active=True) for name in fleet.workers)
    fleet.start_aggregator(Past(Point(0, params(), params()), nodes=known))
    fleet.kept.clear()
    fleet.run(until_s=fleet.simulation.now + 200.0, stop=lambda: bool(fleet.versions()))
    return fleet


def test_a_node_whose_accepted_update_is_lost_with_a_ledger_that_is_not_durable_trains_again() -> None:
    workers = {"fast": Worker(), "slow": Worker(train_s=5.0)}
    fleet = restarted_without(Fleet(replace(SETTINGS, start_nodes=2), workers), updates=1)
    assert [(entry.version, entry.updates) for entry in fleet.versions()] == [(1, 2)]


def test_a_node_that_has_trained_from_a_version_that_is_lost_trains_from_the_newest_that_is_not() -> None:
    fleet = restarted_without(Fleet(SETTINGS, {"edge": Worker()}, keep_s=0.1), updates=1)
    assert [entry.version for entry in fleet.versions()] == [1]


def test_a_node_that_only_evaluates_is_not_asked_to_train_after_a_restart() -> None:
    known = Known("judge", "judge", active=True)
    aggregator = begun(Past(Point(0, params(), params()), nodes=(known,)))
    effects = tell(aggregator, "judge", hello(1), Ready(1, examples=0, tests=5))
    assert [message for message in said(effects) if isinstance(message, Task)] == []
    assert aggregator.collector.round.waiting_for == {}


def test_a_node_asks_again_for_a_verdict_that_was_being_written_when_it_resumed() -> None:
    aggregator, node = met()
    (update,) = said(train(node, Trained(0, params(1.0), 10, 1, 0.5), now=1.0))
    assert said(aggregator.receive("edge", codec.encode(update), now=1.0)) == []
    node.lost(AGGREGATOR, now=2.0)
    for answer in said(aggregator.receive("edge", codec.encode(said(node.tick(2.0))[0]), now=2.0)):
        node.receive(AGGREGATOR, codec.encode(answer), now=2.0)
    # Now the verdict goes out, and is lost. Pings are answered ever after.
    now, greetings = 2.0, 0
    while now < 200.0:
        now = node.next_deadline() or 200.0
        for message in said(node.tick(now)):
            greetings += isinstance(message, Hello)
            node.receive(AGGREGATOR, codec.encode(Pong(1, 0)), now)
    assert greetings > 0


# Every update gets a verdict, whatever is in it


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_node_whose_training_diverged_still_sends_what_can_be_read(loss: float) -> None:
    _, node = met(tests=5)
    sent = said(train(node, Trained(0, params(math.nan), 10, 1, loss), now=1.0))
    sent += said(node.evaluated(Evaluated(0, 5, 1, loss), now=1.0))
    assert [type(message) for message in sent] == [Update, Report]


def test_a_task_that_no_node_could_read_is_refused_when_the_federation_starts() -> None:
    large = replace(job(), task={"labels": ["a rather long label"] * 5_000})
    with pytest.raises(LocalError, match="limit"):
        Aggregator(SETTINGS, large, Past.none(params()), np.random.default_rng(0), now=0.0)


def test_a_node_that_is_told_to_use_a_codec_that_it_does_not_know_leaves_with_the_reason() -> None:
    node = Node(introduction("edge"), 1, np.random.default_rng(0), now=0.0)
    welcome = Welcome(1, 0, 0, None, 2.0, "zip", {}, SCHEMA.entries)
    (done,) = node.receive(AGGREGATOR, codec.encode(welcome), now=0.0)
    assert isinstance(done, Done)
    assert (done.reason, done.refused, "'zip'" in done.text, node.next_deadline()) == (
        "unknown_codec",
        True,
        True,
        None,
    )


def test_a_node_whose_federation_has_become_another_one_leaves_or_prepares_anew() -> None:
    _, node = met()
    node.lost(AGGREGATOR, now=2.0)
    other = Welcome(1, 0, 0, None, 2.0, "fp32", {"method": "fedclip"}, (("w", (2,)),))
    effects = node.receive(AGGREGATOR, codec.encode(other), now=2.0)
    assert any(isinstance(effect, Prepare | Done) for effect in effects)


def test_a_node_that_lags_behind_and_pings_is_sent_what_it_lacks() -> None:
    aggregator = begun()
    tell(aggregator, "edge", hello(1), Ready(1, 10, 0))
    effects = tell(aggregator, "edge", Ping(1, version=-1, activity="idle"))
    assert {type(message) for message in said(effects)} >= {Model, Task}


# Whatever peers send, in whatever order, a restart in between included

POLICIES = [*PRESETS.values(), Policy(invite=2), Policy(goal=2, quorum=3, deadline_s=3.0), Policy(invite=2, goal=2)]


def anything(rng: Generator) -> bytes:
    """A frame that is one of ours as far as it goes, from a peer that does not know how to behave."""
    session, size = int(rng.integers(1, 4)), 4 * SCHEMA.size
    version = int(rng.choice([0, 0, 1, 2, 3, 5, 2**62]))
    value = rng.choice([0.0, 1.0, 1e-40, 1e10, 1e30, 3e38, math.nan, math.inf])
    messages: list[Message] = [
        replace(hello(session, min(version, 7) - 1), codecs=("fp32", "int8")),
        Ready(session, int(rng.choice([0, 5, 2**62])), int(rng.integers(0, 3))),
        Update(
            session=session,
            seq=int(rng.integers(0, 60)),
            base_version=version,
            codec=str(rng.choice(["fp32", "fp32", "int8", "zip"])),
            examples=int(rng.choice([0, 1, 10, 2**62])),
            payload=np.full(SCHEMA.size, value, np.float32).tobytes()[: int(rng.choice([size, size, size, 3]))],
        ),
        Ping(session, min(version, 3) - 1, str(rng.choice(["idle", "training", "gone", ""]))),
        Report(session, version or None, int(rng.choice([0, 5])), int(rng.choice([0, 9]))),
        Bye(session),
        Pong(session, 1),
    ]
    chosen = messages[int(rng.choice(len(messages), p=[0.2, 0.15, 0.4, 0.1, 0.05, 0.05, 0.05]))]
    frame = bytearray(b"".join(codec.encode(chosen)))
    if rng.random() < 0.03:
        frame[int(rng.integers(len(frame)))] ^= 0xFF
    return bytes(frame)


@pytest.mark.parametrize("seed", range(3 * len(POLICIES)))
def test_nothing_that_peers_do_raises_or_unsettles_the_aggregator(seed: int, tmp_path: Path) -> None:
    rng, now = np.random.default_rng(seed), 0.0
    settings = Settings(
        "test",
        codec=Codecs("fp32", ["fp32", "int8"][seed % 2]),
        rounds=POLICIES[seed % len(POLICIES)],
        outer=Outer("momentum" if seed % 2 else "sgd"),
        stop=Stop(versions=4 * (seed % 3)),
        strikes=50,
    )
    ledger = ledgers.opened(tmp_path / "ledger")
    aggregator, held = begun(ledger.past(), settings), list[Keep]()
    effects = aggregator.tick(now)
    for _ in range(200):
        held += [effect for effect in effects if isinstance(effect, Keep)]
        said(effects)  # or it could not be read by anyone
        chance, peer = rng.random(), f"peer-{rng.integers(4)}"
        if chance < 0.75:
            effects = aggregator.receive(peer, (anything(rng),), now)
        elif chance < 0.80:
            effects = aggregator.lost(peer, now)
        elif chance < 0.88 or not held:
            now += float(rng.exponential(2.0))
            effects = aggregator.tick(now)
        elif chance < 0.99:
            batch = held.pop(0)
            ledger.keep(batch.entries, now)
            effects = aggregator.kept(batch.number, now)
        else:
            ledger.close()
            ledger = ledgers.opened(tmp_path / "ledger")
            aggregator, held = begun(ledger.past(), settings), []
            effects = aggregator.tick(now)
        round_ = aggregator.collector.round
        assert np.isfinite(aggregator.collector.versions.exact.flat).all()
        assert set(round_.waiting_for) <= set(aggregator.roster.members)
        assert round_.goal <= round_.updates + len(round_.waiting_for) + len(round_.carried)
    ledgers.close_all()
