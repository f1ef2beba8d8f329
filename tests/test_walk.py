"""The walk of one delta: the twelve steps of the README, in memory, one after the other."""

from typing import TypeVar

import numpy as np

from fedmq import codec, compress
from fedmq.aggregator import Aggregator
from fedmq.delta import Delta, add, subtract
from fedmq.effects import Effect, Keep, Prepare, Send, Train
from fedmq.journal import UpdateEntry, VersionEntry
from fedmq.messages import Code, Message, Model, Task, Update, Verdict
from fedmq.past import Past
from fedmq.plan import Codecs, Settings
from fedmq.session import Receipt, Session, Side
from fedmq.transports import AGGREGATOR
from fedmq_nodes.node import Node, Trained
from pair import Fleet, Worker, introduction, job, params, train


def sent(effects: list[Effect]) -> list[tuple[tuple[str, ...], Message]]:
    return [(effect.peers, codec.decode(effect.frame)) for effect in effects if isinstance(effect, Send)]


Kind = TypeVar("Kind")


def one(kind: type[Kind], effects: list[Effect]) -> Kind:
    (found,) = (effect for effect in effects if isinstance(effect, kind))
    return found


def test_the_twelve_steps_from_a_trained_adapter_to_the_next_version() -> None:
    settings = Settings("test", codec=Codecs(up="int8", down="fp32"))
    aggregator = Aggregator(settings, job(), Past.none(params()), np.random.default_rng(0), now=0.0)
    node = Node(introduction("edge-1"), session=7, rng=np.random.default_rng(0), now=0.0)

    def carry(effects: list[Effect], now: float) -> list[Effect]:
        """Carry what one end sends to the other, and back, until both fall silent; return what else they want."""
        wanted: list[Effect] = []
        queue = [("edge-1", effect) for effect in effects]
        while queue:
            sender, effect = queue.pop(0)
            if isinstance(effect, Send) and sender == "edge-1":
                queue += [(AGGREGATOR, answer) for answer in aggregator.receive("edge-1", effect.frame, now)]
            elif isinstance(effect, Send):
                queue += [("edge-1", answer) for answer in node.receive(AGGREGATOR, effect.frame, now)]
            elif isinstance(effect, Keep):
                queue += [(AGGREGATOR, answer) for answer in aggregator.kept(effect.number, now)]
            else:
                wanted.append(effect)
        return wanted

    assert one(Prepare, carry(node.tick(0.0), 0.0)).task == {"method": "fedclip"}
    asked = one(Train, carry(node.prepared(examples=10, tests=0, now=1.0), 1.0))
    assert asked.version == 0

    # 1 train; 2 subtract
    before, after = asked.params, params(0.25)
    delta = subtract(after, before)
    assert (delta.flat == np.float32(0.25)).all()

    # 3 squeeze; 4 frame: the node does both, and hands one frame to the link (5 carry)
    ((peers, update),) = sent(train(node, Trained(0, after, examples=10, steps=1, loss=0.5, train_s=0.1), now=2.0))
    assert peers == (AGGREGATOR,)
    assert isinstance(update, Update)
    assert (update.seq, update.base_version, update.codec) == (1, 0, "int8")
    frame = codec.encode(update)

    # 6 read: the payload is a view of what came, not a copy
    joined = b"".join(frame)
    read = codec.decode((joined,))
    assert read == update
    assert isinstance(read.payload, memoryview)
    assert read.payload.obj is joined

    # 7 session: fresh once
    session = Session(Side.AGGREGATOR, 7, now=0.0)
    session.state = aggregator.roster.members["edge-1"].session.state
    assert [session.receive(read, 2.0), session.receive(read, 2.0)] == [Receipt.FRESH, Receipt.DUPLICATE]

    # 8 admit, 9 keep: nothing is said before it is durable
    effects = aggregator.receive("edge-1", frame, now=2.0)
    keep = one(Keep, effects)
    assert sent(effects) == []
    accepted, committed = (e for e in keep.entries if isinstance(e, UpdateEntry | VersionEntry))
    assert isinstance(accepted, UpdateEntry)
    assert (accepted.code, accepted.staleness, accepted.weight, accepted.damping) == (Code.ACCEPTED, 0, 10.0, 1.0)

    # 10 fold; 11 commit
    unpacked = Delta(compress.codec("int8").unpack(update.payload, delta.schema))
    assert isinstance(committed, VersionEntry)
    assert committed.version == aggregator.version == 1
    np.testing.assert_allclose(committed.params.flat, add(before, unpacked).flat, rtol=1e-6)

    # 12 tell, adopt: the verdict, then the version, then the next task; all of them only now
    said = sent(aggregator.kept(keep.number, now=2.5))
    assert [type(message) for _, message in said] == [Verdict, Model, Task]
    for _, message in said:
        node.receive(AGGREGATOR, codec.encode(message), now=2.5)
    assert node.version == 1
    assert node.params is not None
    assert (node.params.flat == committed.params.flat).all()


def test_a_fleet_under_a_virtual_clock_commits_the_weighted_mean_of_its_deltas() -> None:
    fleet = Fleet(
        Settings("test", codec=Codecs("fp32", "fp32"), start_nodes=2),
        {"a": Worker(step=1.0, examples=30), "b": Worker(step=5.0, examples=10)},
    )
    fleet.run(stop=lambda: len(fleet.versions()) == 3)
    mean = (30 * 1.0 + 10 * 5.0) / 40
    assert [entry.params.flat[0] for entry in fleet.versions()] == [mean, 2 * mean, 3 * mean]
    assert [entry.closed_at for entry in fleet.versions()] == [1.0, 2.0, 3.0]
