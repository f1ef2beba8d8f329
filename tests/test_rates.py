"""Rates: who sends too much is refused by name, and nobody else notices."""

from dataclasses import replace
from io import StringIO

from rich.console import Console

from desk import SYNC, Desk, kinds, update
from fedmq.codec import Limits
from fedmq.messages import Ping, Pong
from fedmq.plan import Stop
from fedmq.rates import REMEMBERED, Rates
from fedmq.rounds import PRESETS
from fedmq.show import render
from fedmq.status import status
from pair import Fleet, Worker

SLOW = Limits(frame_bytes=4096, frames_per_s=2.0, bytes_per_s=1000.0)


def taken(rates: Rates, times: int, size: int, now: float, peer: str = "a") -> int:
    return sum(rates.over(peer, size, now) is None for _ in range(times))


def test_ten_seconds_worth_may_come_at_once_and_then_as_much_as_time_passes() -> None:
    rates = Rates(SLOW)
    assert taken(rates, 50, 1, now=0.0) == 20
    assert [taken(rates, 50, 1, now) for now in (0.4, 0.5, 3.0, 1000.0)] == [0, 1, 5, 20]


def test_bytes_are_limited_as_frames_are_and_the_largest_frame_always_fits() -> None:
    rates = Rates(SLOW)
    assert taken(rates, 50, 4000, now=0.0) == 2
    assert [taken(rates, 9, 4000, now) for now in (1.9, 2.0, 9.0)] == [0, 1, 1]
    tight = Rates(replace(SLOW, bytes_per_s=1.0))
    assert taken(tight, 9, 4096, now=0.0) == 1


def test_a_frame_that_is_refused_takes_nothing() -> None:
    rates = Rates(SLOW)
    assert taken(rates, 2, 4000, now=0.0) == 2
    assert taken(rates, 100, 4000, now=0.0) == 0
    assert taken(rates, 1, 1000, now=0.0) == 1


def test_the_sentence_has_what_was_sent_the_limit_and_the_setting() -> None:
    rates = Rates(SLOW)
    taken(rates, 20, 1, now=0.0)
    assert rates.over("a", 1, 0.0) == "more than 20 frames at once, limit is 2 a second; raise limits.frames_per_s"
    rates = Rates(SLOW)
    taken(rates, 2, 4096, now=0.0)
    assert (
        rates.over("a", 4096, 0.0) == "more than 10000 bytes at once, limit is 1000 a second; raise limits.bytes_per_s"
    )


def test_a_rate_of_zero_is_no_limit() -> None:
    assert taken(Rates(replace(SLOW, frames_per_s=0.0, bytes_per_s=0.0)), 5000, 4096, now=0.0) == 5000


def test_peers_are_limited_each_for_itself_and_invented_names_do_not_grow_what_is_remembered() -> None:
    rates = Rates(SLOW)
    assert taken(rates, 50, 1, 0.0, "a") == taken(rates, 50, 1, 0.0, "b") == 20
    for i in range(2 * REMEMBERED):
        rates.over(f"name-{i}", 1, 0.0)
    assert len(rates._left) == REMEMBERED


def test_a_node_that_floods_is_struck_then_muted_and_nobody_else_notices() -> None:
    desk = Desk(replace(SYNC, limits=replace(Limits(), frames_per_s=2.0), strikes=3, start_nodes=2))
    desk.join("flood", "calm")
    answers = [kinds(desk.say("flood", Ping(100, -1, "training"))) for _ in range(30)]
    assert answers == [[Pong]] * 18 + [[]] * 12
    assert [(log.fields["reason"], log.fields["strikes"]) for log in desk.events("peer.struck")] == [
        ("too_fast", 1),
        ("too_fast", 2),
        ("too_fast", 3),
    ]
    assert kinds(desk.say("calm", Ping(101, -1, "training"))) == [Pong]
    (mute,) = status(desk.aggregator, 10.0)["muted"]
    assert (mute["id"], mute["name"], mute["for_s"]) == ("flood", "flood", 50.0)
    assert mute["reason"].startswith("too_fast: more than 20 frames at once, limit is 2 a second")


def test_the_status_shows_strangers_that_are_muted_too_and_forgets_them_in_time() -> None:
    desk = Desk(replace(SYNC, strikes=2))
    for _ in range(2):
        desk.frame("stranger", (b"garbage that is no frame",))
    console = Console(width=200, record=True, file=StringIO())
    console.print(render(status(desk.aggregator, 1.0)))
    assert "stranger is not listened to for 59 s more: not_fedmq: a frame begins with" in console.export_text()
    assert status(desk.aggregator, 60.0)["muted"] == []


def test_the_default_limits_are_met_by_no_node_that_trains_in_five_milliseconds() -> None:
    fast = {name: Worker(train_s=0.005) for name in "abc"}
    fleet = Fleet(replace(SYNC, rounds=PRESETS["fedasync"], stop=Stop(versions=3_000)), fast)
    fleet.run()
    assert fleet.versions()[-1].version == 3_000
    assert fleet.simulation.now < 15.0
    assert [log for _, _, log in fleet.simulation.logs if log.event == "peer.struck"] == []


def test_an_update_over_the_limit_has_no_verdict_and_is_taken_when_it_comes_again() -> None:
    desk = Desk(replace(SYNC, limits=replace(Limits(), frames_per_s=0.2)))
    desk.join("edge")
    assert desk.say("edge", update(100)) == []
    desk.now = 5.0
    assert desk.say("edge", update(100)) != []
