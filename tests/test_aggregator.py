"""The aggregator as its nodes meet it, mostly in small fleets under a virtual clock."""

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest
from numpy.random import Generator

from desk import HELLO, PAIR, SYNC, Desk, kinds, update
from fedmq.aggregator import Phase
from fedmq.codec import Frame, Limits
from fedmq.effects import Done
from fedmq.errors import ConfigInvalid
from fedmq.guards import Guard
from fedmq.messages import (
    Bye,
    Code,
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
from fedmq.outer import Outer
from fedmq.plan import Codecs, Pulse, Settings, Stop
from fedmq.rounds import PRESETS, Policy
from fedmq.status import status
from fedmq.weight import Weighting
from pair import Fleet, Worker

# Updates


def test_a_duplicate_update_is_acknowledged_twice_and_folded_once() -> None:
    desk = Desk(PAIR)
    desk.join("a", "b")
    first = desk.say("a", update(100))
    again = desk.say("a", update(100))
    assert [said for said in first if isinstance(said[1], Verdict)] == again
    desk.say("b", update(101, value=3.0))
    assert desk.aggregator.collector.versions.exact.flat[0] == 2.0


def test_nothing_is_acknowledged_before_it_is_kept_and_a_repetition_meanwhile_is_not_answered() -> None:
    desk = Desk(PAIR)
    desk.join("a", "b")
    desk.hold = True
    assert desk.say("a", update(100)) == []
    assert desk.say("a", update(100)) == []
    assert kinds(desk.keep()) == [Verdict]


def test_while_one_batch_is_written_all_that_comes_shares_the_next() -> None:
    desk = Desk(replace(SYNC, start_nodes=4))
    desk.join("a", "b", "c", "d")
    desk.hold = True
    for number, peer in enumerate("abc"):
        desk.say(peer, update(100 + number))
    assert [len(batch.entries) for batch in desk.held] == [1]
    desk.keep()
    assert [len(batch.entries) for batch in desk.held] == [2]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (update(100, base=7), Code.UNKNOWN_VERSION),
        (replace(update(100), codec="int8"), Code.WRONG_CODEC),
        (replace(update(100), payload=b"short"), Code.BAD_PAYLOAD),
        (update(100, value=math.nan), Code.NOT_FINITE),
        (update(100, value=math.inf), Code.NOT_FINITE),
        (update(100, examples=0), Code.NO_EXAMPLES),
        (update(100, value=1e9), Code.TOO_LARGE),
    ],
)
def test_a_bad_update_has_its_named_verdict_and_nobody_else_notices(bad: Update, code: Code) -> None:
    desk = Desk(replace(PAIR, guard=Guard(norm_cap=1e6)))
    desk.join("a", "b")
    ((peer, verdict),) = desk.say("a", bad)
    assert isinstance(verdict, Verdict)
    assert (peer, verdict.code) == ("a", code)
    desk.say("b", update(101, value=2.0))
    assert desk.aggregator.version == 1
    assert (desk.aggregator.collector.versions.exact.flat == 2.0).all()


def test_a_stale_update_is_refused_in_sync_with_both_versions_and_the_limit() -> None:
    desk = Desk(PAIR)
    desk.join("a", "b")
    desk.lose("b")
    desk.say("a", update(100))
    desk.say("b", replace(HELLO, session=101, name="b"))
    ((_, verdict),) = desk.say("b", update(101))
    assert isinstance(verdict, Verdict)
    assert (verdict.code, verdict.text) == (Code.TOO_STALE, "trained from version 0, now 1, limit 0 behind")


def test_a_longer_delta_than_the_rest_is_scaled_to_the_limit_and_still_counts() -> None:
    desk = Desk(replace(SYNC, guard=Guard(norm_factor=3.0)))
    desk.join("a")
    for seq in range(1, 11):
        desk.say("a", update(100, seq, seq - 1))
    before = desk.aggregator.collector.versions.exact.flat[0]
    desk.say("a", update(100, 11, 10, value=100.0))
    assert desk.aggregator.collector.versions.exact.flat[0] - before == pytest.approx(3.0)


def test_random_bytes_cost_their_sender_a_strike_and_at_last_its_voice() -> None:
    desk = Desk(replace(SYNC, strikes=3, mute_s=60.0))
    desk.join("good")
    for _ in range(3):
        assert desk.frame("bad", (b"\x00" * 40,)) == []
    assert [log.fields["reason"] for log in desk.events("peer.struck")] == ["not_fedmq"] * 3
    assert desk.say("bad", HELLO) == []
    assert kinds(desk.say("good", update(100))) == [Verdict, Model, Task]
    desk.wait(61.0)
    assert kinds(desk.say("bad", HELLO)) == [Welcome]


def test_a_message_of_a_dead_process_is_ignored() -> None:
    desk = Desk()
    desk.say("edge", HELLO, Ready(1, 10, 0), replace(HELLO, session=2))
    assert desk.say("edge", update(1)) == []
    assert desk.aggregator.collector.round.updates == 0


def test_a_new_process_goes_on_after_the_last_seq_also_while_that_is_still_being_written() -> None:
    desk = Desk(PAIR)
    desk.join("a", "b")
    desk.hold = True
    desk.say("a", update(100, seq=5))
    ((_, welcome),) = desk.say("a", replace(HELLO, session=200, name="a"))
    assert isinstance(welcome, Welcome)
    assert (welcome.seq, welcome.verdict) == (5, None)


# What was lost is said again


def test_an_idle_node_that_missed_its_model_and_task_is_sent_both_again() -> None:
    desk = Desk()
    desk.join("edge")
    assert kinds(desk.say("edge", Ping(100, -1, "idle"))) == [Pong, Model, Task]
    assert kinds(desk.say("edge", Ping(100, 0, "training"))) == [Pong]


def test_a_silent_node_is_parted_with_and_not_waited_for() -> None:
    desk = Desk(replace(PAIR, pulse=Pulse(heartbeat_s=1.0, lost_after_s=3.0)))
    desk.join("a", "b")
    desk.say("a", update(100))
    desk.now += 2.0
    desk.say("a", Ping(100, 0))
    said = desk.wait(1.5)
    assert [log.fields["node"] for log in desk.events("node.lost")] == ["b"]
    assert (kinds(said), desk.aggregator.version) == ([Model, Task], 1)


# Policies, in fleets under a virtual clock


def test_sync_waits_for_the_slowest() -> None:
    fleet = Fleet(replace(SYNC, start_nodes=2), {"fast": Worker(train_s=1.0), "slow": Worker(train_s=5.0)})
    fleet.run(stop=lambda: len(fleet.versions()) == 3)
    assert [entry.closed_at for entry in fleet.versions()] == [5.0, 10.0, 15.0]
    assert [entry.staleness for entry in fleet.updates()] == [0] * 6


def test_a_quorum_with_grace_closes_a_quarter_later_and_the_straggler_counts_damped_in_a_later_round() -> None:
    settings = replace(SYNC, rounds=PRESETS["quorum"], start_nodes=4, weight=Weighting(by="updates"))
    workers = {name: Worker(train_s=4.0) for name in ("a", "b", "c")} | {"slow": Worker(train_s=12.0)}
    fleet = Fleet(settings, workers)
    fleet.run(stop=lambda: len(fleet.versions()) == 3)
    assert [entry.closed_at for entry in fleet.versions()] == [5.0, 9.0, 13.0]
    slow = [entry for entry in fleet.updates() if entry.node == "slow"]
    assert [(e.at, e.staleness, round(e.damping, 9)) for e in slow] == [(12.0, 2, round(3**-0.5, 9))]


def test_a_deadline_closes_with_who_is_there_and_the_late_are_refused() -> None:
    settings = replace(SYNC, rounds=Policy(deadline_s=3.0), start_nodes=2)
    fleet = Fleet(settings, {"fast": Worker(train_s=1.0), "slow": Worker(train_s=7.5)})
    fleet.run(until_s=8.0)
    assert [entry.closed_at for entry in fleet.versions()] == [3.0, 4.0, 5.0, 6.0, 7.0, 8.0][: len(fleet.versions())]
    assert [entry.code for entry in fleet.updates() if entry.node == "slow"] == [Code.TOO_STALE]


def test_a_deadline_without_a_quorum_keeps_what_was_accepted_and_the_round_goes_on() -> None:
    settings = replace(SYNC, rounds=Policy(deadline_s=3.0, quorum=2), start_nodes=2)
    fleet = Fleet(settings, {"fast": Worker(train_s=1.0), "slow": Worker(train_s=5.0)})
    fleet.run(stop=lambda: len(fleet.versions()) == 1)
    assert [(entry.closed_at, entry.updates, entry.cause) for entry in fleet.versions()] == [(5.0, 2, "goal")]
    assert [at for at, _, log in fleet.simulation.logs if log.event == "round.extended"] == [3.0]


def test_fedbuff_commits_at_its_goal_and_nobody_waits() -> None:
    settings = replace(SYNC, rounds=Policy(goal=2, max_staleness=20), start_nodes=3)
    fleet = Fleet(settings, {"a": Worker(train_s=1.0), "b": Worker(train_s=1.5), "c": Worker(train_s=10.0)})
    fleet.run(stop=lambda: len(fleet.versions()) == 6)
    assert [entry.updates for entry in fleet.versions()] == [2] * 6
    assert fleet.versions()[-1].closed_at < 10.0


def test_fedbuff_with_goal_one_and_no_staleness_equals_fedavg_of_one() -> None:
    alone = {"a": Worker(step=0.5)}
    buffered = Fleet(replace(SYNC, rounds=Policy(goal=1, max_staleness=20)), alone)
    averaged = Fleet(SYNC, alone)
    for fleet in (buffered, averaged):
        fleet.run(stop=lambda: len(fleet.versions()) == 5)  # noqa: B023
    assert [e.params.flat.tolist() for e in buffered.versions()] == [
        e.params.flat.tolist() for e in averaged.versions()
    ]


def test_fedasync_moves_by_the_damped_delta_of_each_arrival() -> None:
    settings = replace(
        SYNC,
        rounds=PRESETS["fedasync"],
        outer=Outer(lr=0.6),
        weight=Weighting(staleness="polynomial", a=0.5),
        start_nodes=2,
    )
    fleet = Fleet(settings, {"a": Worker(train_s=1.0), "b": Worker(train_s=1.5)})
    fleet.run(stop=lambda: len(fleet.versions()) == 4)
    x = 0.0
    for entry, version in zip(fleet.updates(), fleet.versions(), strict=False):
        x += 0.6 * (1 + entry.staleness) ** -0.5 * 1.0
        assert version.params.flat[0] == pytest.approx(x, rel=1e-6)


def test_when_all_updates_are_equally_stale_the_damping_is_not_divided_away() -> None:
    desk = Desk(replace(SYNC, rounds=Policy(goal=1, max_staleness=5)))
    desk.join("a", "b")
    desk.say("a", update(100))
    desk.say("b", update(101))
    assert desk.aggregator.collector.versions.exact.flat[0] == pytest.approx(1.0 + 2**-0.5)


def test_over_selection_invites_more_than_the_goal_and_closes_at_it() -> None:
    settings = replace(SYNC, rounds=Policy(goal=2, invite=2, over_selection=1.5), start_nodes=6)
    fleet = Fleet(settings, {name: Worker(train_s=1.0 + i / 10) for i, name in enumerate("abcdef")})
    fleet.run(stop=lambda: len(fleet.versions()) == 1)
    (version,) = fleet.versions()
    assert (version.invited, version.updates) == (3, 2)


def test_a_node_that_joins_late_takes_part_from_the_next_round() -> None:
    fleet = Fleet(SYNC, {"a": Worker(train_s=2.0)})
    fleet.run(until_s=1.0)
    fleet.workers["late"] = Worker(train_s=2.0)
    fleet.start_node("late")
    fleet.run(stop=lambda: len(fleet.versions()) == 2)
    assert [entry.updates for entry in fleet.versions()] == [1, 2]


def test_a_node_killed_midway_is_not_waited_for_and_takes_part_again_when_it_is_back() -> None:
    settings = replace(SYNC, start_nodes=2, pulse=Pulse(1.0, 3.0))
    fleet = Fleet(settings, {"a": Worker(train_s=2.0), "b": Worker(train_s=2.0)})
    fleet.run(until_s=3.0)
    fleet.simulation.remove("b")
    fleet.run(stop=lambda: len(fleet.versions()) == 4)
    fleet.start_node("b")
    fleet.run(stop=lambda: len(fleet.versions()) == 7)
    assert [entry.updates for entry in fleet.versions()] == [2, 1, 1, 1, 1, 2, 2][: len(fleet.versions())]
    assert [entry.update.seq for entry in fleet.updates() if entry.node == "b"] == [1, 2, 3]


def test_the_status_names_who_is_waited_for_and_until_when() -> None:
    settings = replace(SYNC, rounds=Policy(deadline_s=60.0), start_nodes=2)
    fleet = Fleet(settings, {"fast": Worker(train_s=1.0), "slow": Worker(train_s=30.0)})
    fleet.run(until_s=11.0)
    found = status(fleet.aggregator, 11.0)["round"]
    assert {key: found[key] for key in ("have", "goal", "deadline_in_s", "waiting_for", "reason")} == {
        "have": 1,
        "goal": 2,
        "deadline_in_s": 49.0,
        "waiting_for": ["slow"],
        "reason": "collecting: 1 of 2 updates",
    }


# The end


def test_after_the_last_version_nodes_evaluate_it_say_goodbye_and_all_are_done() -> None:
    settings = replace(SYNC, start_nodes=2, evaluate_every=0, stop=Stop(versions=3))
    fleet = Fleet(settings, {"a": Worker(tests=8), "slow": Worker(tests=8, train_s=2.0)})
    fleet.run()
    assert {name: done.reason for name, done in fleet.done.items()} == dict.fromkeys(
        ("aggregator", "a", "slow"), "finished"
    )
    assert [member.reported for member in fleet.aggregator.roster.members.values()] == [3, 3]


def test_an_update_after_the_last_version_is_refused_as_finished_and_not_kept_for_nothing() -> None:
    desk = Desk(replace(SYNC, stop=Stop(versions=1), rounds=Policy(goal=1)))
    desk.join("a", "b")
    desk.say("a", update(100))
    ((_, verdict),) = desk.say("b", update(101))
    assert isinstance(verdict, Verdict)
    assert verdict.code is Code.FINISHED
    assert desk.aggregator.phase is Phase.FINISHING


def test_a_node_that_never_says_goodbye_holds_up_the_end_no_longer_than_agreed() -> None:
    desk = Desk(replace(SYNC, stop=Stop(versions=1, finish_s=5.0)))
    desk.join("a")
    assert kinds(desk.say("a", update(100))) == [Verdict, Model, Bye]
    desk.now = 2.0
    desk.say("a", Ping(100, 0))
    desk.wait(3.0)
    assert desk.aggregator.phase is Phase.DONE
    assert desk.aggregator.next_deadline() is None


def test_reports_in_any_order_leave_the_newest() -> None:
    desk = Desk()
    desk.join("a")
    member = desk.aggregator.roster.members["a"]
    for report in (Report(100, 4, 10, 7), Report(100, None, 10, 5), Report(100, 3, 10, 1), Report(100, 4, 0, 0)):
        member.note(report)
    assert (member.zero_shot, member.accuracy, member.reported, member.personal) == (0.5, 0.7, 4, None)
    member.note(Report(100, 5, 10, 7, personal=9))
    assert (member.accuracy, member.reported, member.personal) == (0.7, 5, 0.9)


@pytest.mark.parametrize(
    "lie",
    [Report(100, 0, 10, 11), Report(100, 1, 10, 7), Report(100, 2**62, 10, 7), Report(100, 0, 10, 7, personal=11)],
)
def test_a_report_that_cannot_be_is_a_strike_and_not_kept(lie: Report) -> None:
    desk = Desk()
    desk.join("a")
    desk.say("a", lie)
    member = desk.aggregator.roster.members["a"]
    assert (member.accuracy, member.strikes, len(desk.events("peer.struck"))) == (None, 1, 1)


def test_a_node_that_still_encodes_when_all_is_over_is_told_so() -> None:
    desk = Desk(replace(SYNC, stop=Stop(versions=1, finish_s=3.0), pulse=Pulse(2.0, 60.0)))
    desk.say("late", replace(HELLO, session=7, name="late"))
    desk.join("a")
    desk.say("a", update(100), Bye(100, "finished"))
    said = desk.wait(4.0)
    assert [(peer, type(message), getattr(message, "reason", "")) for peer, message in said] == [
        ("late", Refuse, "finished")
    ]
    assert desk.aggregator.phase is Phase.DONE


def test_a_round_that_can_never_have_its_quorum_says_so() -> None:
    desk = Desk(replace(SYNC, rounds=Policy(quorum=3)))
    desk.join("a")
    assert status(desk.aggregator, 0.0)["round"]["reason"] == "too few nodes for a quorum of 3: 0 updates, 1 to come"


@pytest.mark.parametrize(
    ("settings", "both"),
    [
        (replace(SYNC, limits=Limits(frame_bytes=1_000)), ("an update of 15 values", "limit is 1000")),
        (replace(SYNC, codec=Codecs("int8", "int8"), limits=Limits(frame_bytes=500)), ("as int8", "limit is 500")),
    ],
)
def test_a_federation_whose_own_updates_would_be_refused_does_not_begin(
    settings: Settings, both: tuple[str, str]
) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        Desk(settings)
    assert [part in str(refused.value) for part in both] == [True, True]


# Faults on the link


def lossy(sender: str, receiver: str, frame: Frame, rng: Generator) -> Iterable[float]:
    """Lose a tenth, repeat a tenth, delay everything by up to a second, in any order."""
    copies = 0 if rng.random() < 0.1 else 2 if rng.random() < 0.1 else 1
    return [float(rng.random()) for _ in range(copies)]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("preset", ["sync", "quorum", "fedbuff"])
def test_over_a_link_that_loses_repeats_and_reorders_every_update_counts_once_and_all_finish(
    preset: str, seed: int
) -> None:
    settings = Settings(
        "test",
        rounds=PRESETS[preset],
        codec=Codecs("int8", "fp16"),
        start_nodes=3,
        pulse=Pulse(1.0, 5.0),
        stop=Stop(versions=6, finish_s=60.0),
    )
    workers = {name: Worker(step=0.1 * (i + 1), train_s=1.0 + i, tests=5) for i, name in enumerate("abcd")}
    fleet = Fleet(settings, workers, carry=lossy, seed=seed, keep_s=0.05)
    fleet.run(until_s=2000.0)
    versions, accepted = fleet.versions(), [e for e in fleet.updates() if e.code is Code.ACCEPTED]
    assert [entry.version for entry in versions] == list(range(1, 7))
    assert sum(entry.updates for entry in versions) == len(accepted)
    assert [entry.number for entry in accepted] == list(range(len(accepted)))
    assert len({(entry.node, entry.update.seq) for entry in fleet.updates()}) == len(fleet.updates())
    assert fleet.done["aggregator"] == Done("finished")
    held = {name: node.params for name, node in fleet.nodes.items() if node.version == 6}
    for found in held.values():
        assert found is not None
        assert (found.flat == fleet.aggregator.collector.versions.broadcast.flat).all()


def test_the_same_seed_gives_the_same_run_to_the_bit() -> None:
    def digest(seed: int) -> list[bytes]:
        settings = Settings("test", rounds=PRESETS["quorum"], codec=Codecs("int8", "int8"), stop=Stop(versions=5))
        workers = {name: Worker(step=0.1 * (i + 1), train_s=1.0 + i) for i, name in enumerate("abc")}
        fleet = Fleet(settings, workers, carry=lossy, seed=seed)
        fleet.run(until_s=500.0)
        return [entry.params.flat.tobytes() for entry in fleet.versions()]

    assert digest(3) == digest(3)
    assert digest(3) != digest(4)
