"""A node as its aggregator and its shell meet it."""

from dataclasses import replace

import numpy as np
import pytest

from fedmq import codec
from fedmq.delta import Params
from fedmq.effects import Cancel, Done, Effect, Evaluate, Log, Prepare, Remember, Send, Train
from fedmq.memory import Memory
from fedmq.messages import (
    Bye,
    Code,
    Hello,
    Message,
    Model,
    Ping,
    Pong,
    Ready,
    Refuse,
    Report,
    Task,
    Update,
    Verdict,
    Welcome,
)
from fedmq.transports import AGGREGATOR
from fedmq_nodes.contact import ANSWER_S, LAST_RETRY_S, SILENT_HEARTBEATS, UNSENT_RETRY_S
from fedmq_nodes.node import Evaluated, Node, Trained
from pair import SCHEMA, introduction, params

SESSION = 7
WELCOME = Welcome(
    session=SESSION,
    version=0,
    seq=0,
    verdict=None,
    heartbeat_s=2.0,
    up="fp32",
    task={"method": "fedclip"},
    schema=SCHEMA.entries,
)


def whole(version: int, value: float) -> Model:
    return Model(version, -1, "fp32", payload=params(value).flat.tobytes())


def accepted(seq: int) -> Verdict:
    return Verdict(SESSION, seq, Code.ACCEPTED)


class Bench:
    """A node that is spoken to directly, and what it wants."""

    def __init__(self, memory: Memory | None = None, session: int = SESSION, writes: bool = True) -> None:
        self.now = 0.0
        self.writes = writes
        self.disk: list[Memory] = []
        self.logs: list[Log] = []
        self.node = Node(introduction("edge"), session, np.random.default_rng(0), self.now, memory)

    def hears(self, *messages: Message) -> list[Message | Effect]:
        return [wish for m in messages for wish in self.wants(self.node.receive(AGGREGATOR, codec.encode(m), self.now))]

    def waits(self, seconds: float) -> list[Message | Effect]:
        self.now += seconds
        return self.wants(self.node.tick(self.now))

    def ready(self, examples: int = 10, tests: int = 0) -> list[Message | Effect]:
        return self.wants(self.node.prepared(examples, tests, self.now))

    def trains(self, version: int, after: Params | None = None) -> list[Message | Effect]:
        result = Trained(version, after or params(1.0), 10, 3, 0.5)
        return self.wants(self.node.trained(result, self.now))

    def evaluates(self, version: int | None) -> list[Message | Effect]:
        return self.wants(self.node.evaluated(Evaluated(version, 10, 6, 0.1), self.now))

    def at_work(self) -> "Bench":
        """Greeted, prepared, and training from version 0."""
        self.waits(0.0)
        self.hears(WELCOME)
        self.ready()
        self.hears(whole(0, 0.0), Task(0))
        return self

    def wants(self, effects: list[Effect]) -> list[Message | Effect]:
        """Messages and effects but logs; what is to be remembered is, unless this bench never `writes`."""
        found: list[Message | Effect] = []
        for effect in effects:
            match effect:
                case Send():
                    found.append(codec.decode(effect.frame))
                case Remember(memory):
                    self.disk.append(memory)
                    found += self.wants(self.node.remembered(memory, self.now)) if self.writes else []
                case Log():
                    self.logs.append(effect)
                case _:
                    found.append(effect)
        return found


def kinds(found: list[Message | Effect]) -> list[type]:
    return [type(one) for one in found]


def test_a_node_greets_prepares_and_trains_when_it_is_asked_to() -> None:
    bench = Bench()
    assert kinds(bench.waits(0.0)) == [Hello]
    assert kinds(bench.hears(WELCOME)) == [Prepare]
    assert bench.ready() == [Ready(SESSION, 10, 0)]
    assert bench.hears(whole(0, 0.0)) == []
    (train,) = bench.hears(Task(0))
    assert isinstance(train, Train)
    assert (train.version, train.params.flat.tolist()) == (0, [0.0] * SCHEMA.size)


def test_it_greets_again_after_times_that_double_up_to_a_limit() -> None:
    bench = Bench()
    bench.waits(0.0)
    gaps: list[float] = []
    while len(gaps) < 10:
        deadline = bench.node.next_deadline()
        assert deadline is not None
        gaps.append(deadline - bench.now)
        assert kinds(bench.waits(deadline - bench.now)) == [Hello]
    assert all(0.75 * 0.5 * 2**i <= gap <= 1.25 * 0.5 * 2**i for i, gap in enumerate(gaps[:5]))
    assert all(0.75 * LAST_RETRY_S <= gap <= 1.25 * LAST_RETRY_S for gap in gaps[5:])


def test_a_task_whose_model_is_not_here_yet_waits_for_it() -> None:
    bench = Bench().at_work()
    bench.trains(0)
    bench.hears(accepted(1))
    assert bench.hears(Task(1)) == []
    assert kinds(bench.hears(whole(1, 5.0))) == [Train]


def test_a_task_is_not_begun_twice_however_often_it_arrives() -> None:
    bench = Bench().at_work()
    assert bench.hears(Task(0), Task(0)) == []
    bench.trains(0)
    assert bench.hears(Task(0), accepted(1), Task(0)) == []


def test_the_update_is_kept_until_its_verdict_and_the_next_task_waits_for_that() -> None:
    bench = Bench().at_work()
    (update,) = bench.trains(0)
    assert isinstance(update, Update)
    assert (update.seq, update.base_version, update.examples) == (1, 0, 10)
    assert bench.hears(whole(1, 2.0), Task(1)) == []
    assert bench.node.outbox == update
    assert kinds(bench.hears(accepted(1))) == [Train]
    assert bench.node.outbox is None


def test_what_was_trained_while_the_link_was_down_is_delivered_with_the_next_welcome() -> None:
    bench = Bench().at_work()
    bench.hears(Refuse(SESSION, "no_session"))
    assert bench.trains(0) == []
    assert kinds(bench.waits(0.0)) == [Hello]
    found = bench.hears(WELCOME)
    assert kinds(found) == [Update, Ready]


def test_an_update_whose_verdict_was_lost_is_not_sent_again_if_the_welcome_brings_it() -> None:
    bench = Bench().at_work()
    bench.trains(0)
    bench.waits(ANSWER_S)
    assert kinds(bench.hears(replace(WELCOME, seq=1, verdict=accepted(1)))) == [Ready]
    assert bench.node.outbox is None


def test_an_update_that_is_still_being_written_is_neither_sent_again_nor_forgotten() -> None:
    bench = Bench().at_work()
    (update,) = bench.trains(0)
    bench.waits(ANSWER_S)
    assert kinds(bench.hears(replace(WELCOME, seq=1))) == [Ready]
    assert bench.node.outbox == update


def test_an_update_is_asked_about_once_two_pings_were_answered_and_it_was_not() -> None:
    bench = Bench().at_work()
    bench.trains(0)
    for answered in (Pong(SESSION, 0), Pong(SESSION, 0)):
        assert kinds(bench.waits(2.0)) == [Ping]
        assert bench.hears(answered) == []
    assert kinds(bench.waits(0.0)) == [Hello]
    assert kinds(bench.hears(WELCOME)) == [Update, Ready]


def test_an_update_that_the_ledger_is_known_to_have_is_not_asked_about_at_each_heartbeat() -> None:
    bench = Bench().at_work()
    bench.trains(0)
    bench.waits(ANSWER_S)
    bench.hears(replace(WELCOME, seq=1))
    for _ in range(14):
        assert kinds(bench.waits(2.0)) == [Ping]
        bench.hears(Pong(SESSION, 0))
    assert kinds(bench.waits(2.0)) == [Hello]


def test_a_reinstalled_node_goes_on_after_the_last_seq_that_the_ledger_has() -> None:
    bench = Bench()
    bench.waits(0.0)
    bench.hears(replace(WELCOME, seq=41))
    bench.ready()
    bench.hears(whole(0, 0.0), Task(0))
    (update,) = bench.trains(0)
    assert isinstance(update, Update)
    assert update.seq == 42


def test_a_duplicate_or_foreign_verdict_changes_nothing() -> None:
    bench = Bench().at_work()
    (update,) = bench.trains(0)
    bench.hears(replace(accepted(1), session=8), replace(accepted(0)))
    assert bench.node.outbox == update


def test_an_older_model_that_arrives_late_is_ignored() -> None:
    bench = Bench().at_work()
    bench.hears(whole(3, 3.0), whole(2, 2.0))
    assert bench.node.version == 3


def test_a_gap_in_the_chain_of_versions_leads_back_to_hello_with_the_version_held() -> None:
    bench = Bench().at_work()
    bench.hears(Model(5, 4, "fp16", b"x" * 16, b"\x00" * 2 * SCHEMA.size))
    (hello,) = bench.waits(0.0)
    assert isinstance(hello, Hello)
    assert hello.version == 0


def test_a_version_that_does_not_add_up_is_dropped_and_fetched_whole() -> None:
    bench = Bench().at_work()
    bench.hears(Model(1, 0, "fp16", b"wrong digest 123", b"\x00" * 2 * SCHEMA.size))
    (hello,) = bench.waits(0.0)
    assert isinstance(hello, Hello)
    assert (hello.version, bench.node.params) == (-1, None)


def test_what_the_ledger_has_lost_the_node_drops_too() -> None:
    bench = Bench().at_work()
    bench.trains(0)
    bench.hears(accepted(1), whole(9, 9.0))
    bench.hears(replace(WELCOME, version=4, seq=1, disowned=9))
    assert (bench.node.version, bench.node.params) == (-1, None)
    assert kinds(bench.hears(whole(4, 4.0), Task(4))) == [Train]


def test_greetings_that_the_link_cannot_take_are_tried_again_soon_and_then_every_two_seconds() -> None:
    bench = Bench()
    gaps: list[float] = []
    for _ in range(25):
        bench.waits(0.0 if not gaps else gaps[-1])
        bench.node.lost(AGGREGATOR, bench.now)
        deadline = bench.node.next_deadline()
        assert deadline is not None
        gaps.append(deadline - bench.now)
    wanted = [min(0.05 * 1.25**tried, UNSENT_RETRY_S) for tried in range(25)]
    assert all(0.75 * want <= gap <= 1.25 * want for want, gap in zip(wanted, gaps, strict=True))


def test_a_version_of_another_process_tells_a_node_that_greets_in_vain_that_somebody_is_there_now() -> None:
    bench = Bench()
    bench.waits(0.0)
    for _ in range(5):
        bench.waits(20.0)
    assert bench.waits(0.1) == []
    bench.hears(replace(whole(3, 3.0), origin=7))
    assert kinds(bench.waits(0.0)) == [Hello]
    bench.hears(replace(whole(4, 4.0), origin=7))
    assert bench.waits(0.1) == []


def test_whoever_waits_for_an_aggregator_says_so() -> None:
    bench = Bench()
    bench.waits(0.0)
    log, hello = bench.node.tick(1.0)
    assert isinstance(log, Log)
    assert (log.event, log.fields) == ("aggregator.awaited", {"greetings": 2})
    assert isinstance(hello, Send)


def test_silence_leads_back_to_hello_and_work_goes_on_meanwhile() -> None:
    bench = Bench().at_work()
    assert kinds(bench.waits(2.0)) == [Ping]
    assert kinds(bench.waits(SILENT_HEARTBEATS * 2.0)) == [Hello]
    assert bench.node.activity == "training"


@pytest.mark.parametrize("reason", ["feature_space", "adapter_shape", "replaced"])
def test_a_refusal_ends_it_with_the_reason(reason: str) -> None:
    bench = Bench()
    bench.waits(0.0)
    assert bench.hears(Refuse(SESSION, reason, "both values")) == [Done(reason, "both values", refused=True)]
    assert bench.node.next_deadline() is None
    assert bench.hears(WELCOME) == []


def test_an_aggregator_of_another_protocol_ends_it() -> None:
    bench = Bench()
    bench.waits(0.0)
    head = bytearray(codec.encode(Refuse(0, "protocol_mismatch"))[0])
    head[3] = 9
    (done,) = bench.wants(bench.node.receive(AGGREGATOR, (bytes(head),), bench.now))
    assert isinstance(done, Done)
    assert (done.reason, done.refused) == ("protocol_mismatch", True)


def test_versions_that_are_due_are_evaluated_and_reported_and_others_are_not() -> None:
    bench = Bench()
    bench.waits(0.0)
    bench.hears(replace(WELCOME, evaluate_every=2))
    assert kinds(bench.ready(tests=10)) == [Evaluate, Ready]
    assert bench.evaluates(None) == [Report(SESSION, None, 10, 6, 0.1)]
    assert [kinds(bench.hears(whole(version, 0.0))) for version in (1, 2, 3, 4)] == [[], [Evaluate], [], [Evaluate]]
    assert bench.evaluates(2) == [Report(SESSION, 2, 10, 6, 0.1)]


def test_at_the_end_it_stops_training_evaluates_the_last_version_reports_and_leaves() -> None:
    bench = Bench()
    bench.waits(0.0)
    bench.hears(replace(WELCOME, evaluate_every=0))
    bench.ready(tests=10)
    bench.evaluates(None)
    bench.hears(whole(0, 0.0), Task(0))
    assert kinds(bench.hears(Bye(SESSION, "finished", 5))) == [Cancel]
    assert kinds(bench.hears(whole(5, 5.0))) == [Evaluate]
    assert bench.evaluates(5) == [
        Report(SESSION, 5, 10, 6, 0.1),
        Bye(SESSION, "finished"),
        Done("finished", "the federation has finished with version 5"),
    ]


def test_a_training_that_was_cancelled_sends_nothing() -> None:
    bench = Bench().at_work()
    bench.hears(Bye(SESSION, "finished", 5))
    assert bench.trains(0) == []


def test_leaving_says_goodbye_if_there_is_anyone_to_hear_it() -> None:
    assert kinds(Bench().wants(Bench().node.leave("leaving"))) == [Done]
    bench = Bench().at_work()
    assert kinds(bench.wants(bench.node.leave("leaving"))) == [Bye, Done]


def test_random_bytes_from_the_aggregators_side_are_logged_and_nothing_else() -> None:
    bench = Bench().at_work()
    (log,) = bench.node.receive(AGGREGATOR, (b"\x00" * 40,), bench.now)
    assert isinstance(log, Log)
    assert (log.event, log.fields["reason"]) == ("frame.refused", "not_fedmq")


def test_what_comes_of_work_after_the_end_is_nobodys_business() -> None:
    bench = Bench().at_work()
    bench.node.leave("leaving")
    results = (
        bench.node.prepared(10, 5, bench.now),
        bench.node.trained(Trained(0, params(1.0), 10, 1, 0.5), bench.now),
        bench.node.evaluated(Evaluated(0, 5, 1, 0.5), bench.now),
    )
    assert results == ([], [], [])
