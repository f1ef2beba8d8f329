"""Weather: draws with names, spells of absence, links as laws, and the plan that is made of them."""

import json
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

import scenery
from fedmq.errors import ConfigInvalid
from fedmq_bench.scenario import data, timeline
from fedmq_bench.scenario.draws import Draws, Spread
from fedmq_bench.scenario.fleet import Phase, Plan, plan
from fedmq_bench.scenario.form import Crash, Presence, Scenario, Way
from fedmq_bench.scenario.link import BROKEN_AFTER_S, Lane, rate_bytes_per_s
from fedmq_bench.scenario.timeline import Outages

NEVER = Outages([])


def drawn(found: Scenario) -> Plan:
    dealt = data.deal(found, data.pool(found.data.source, lambda _line: None))
    return plan(found, {name: (one.domain, len(one.data.train)) for name, one in dealt.items()})


# Draws


def test_a_draw_depends_on_its_name_and_not_on_what_was_drawn_before() -> None:
    one, other = Draws(3), Draws(3)
    other.rng("b", "compute", 5).random(100)
    assert one.rng("a", "compute", 2).random() == other.rng("a", "compute", 2).random()
    values = {
        draws.rng(who, what, index).random()
        for draws in (Draws(3), Draws(4))
        for who in "ab"
        for what in ("compute", "up")
        for index in range(3)
    }
    assert len(values) == 24


@pytest.mark.parametrize(
    ("spread", "median"),
    [
        (Spread("constant", 2.0), 2.0),
        (Spread("lognormal", 2.0, 0.6), 2.0),
        (Spread("pareto", 2.0, 1.3), 2.0 * 2 ** (1 / 1.3)),
        (Spread("exponential", 2.0), 2.0 * np.log(2)),
        (Spread("halfnormal", 2.0), 2.0 * 0.67449),
    ],
)
def test_each_spread_has_the_median_of_its_distribution(spread: Spread, median: float) -> None:
    rng = np.random.default_rng(0)
    assert np.median([spread.draw(rng) for _ in range(20_000)]) == pytest.approx(median, rel=0.03)


def test_an_empirical_spread_draws_from_its_file_and_nothing_is_above_the_most(tmp_path: Path) -> None:
    (tmp_path / "times").write_text("1 2 4")
    spread = Spread("empirical", 10.0, most=30.0, file=tmp_path / "times")
    rng = np.random.default_rng(0)
    assert {spread.draw(rng) for _ in range(100)} == {10.0, 20.0, 30.0}
    (tmp_path / "times").write_text("1 -2")
    with pytest.raises(ConfigInvalid, match="it takes one or more, all above 0"):
        spread.draw(rng)


# Timelines


def test_spells_that_meet_are_one() -> None:
    assert list(timeline.merged([(1, 3), (8, 9)], [(2, 5), (5, 6)], [])) == [(1, 6), (8, 9)]


def test_a_markov_presence_is_there_as_often_as_its_means_say() -> None:
    presence, off = Presence("markov", on_s=30.0, off_s=10.0), 0.0
    spells = list(islice(timeline.absences(presence, Draws(0), "a", "present"), 4000))
    off = sum(end - start for start, end in spells)
    assert off / spells[-1][1] == pytest.approx(0.25, rel=0.05)
    assert all(start < end for start, end in spells)
    assert all(end < start for (_, end), (start, _) in pairwise(spells))


def test_nodes_begin_absent_as_often_as_they_are_absent() -> None:
    presence = Presence("markov", on_s=30.0, off_s=10.0)
    begins = [next(timeline.absences(presence, Draws(0), f"n{i}", "present"))[0] == 0.0 for i in range(2000)]
    assert np.mean(begins) == pytest.approx(0.25, abs=0.03)


def test_a_diurnal_presence_is_there_for_its_share_of_each_period() -> None:
    presence = Presence("diurnal", period_s=100.0, share=0.25, phase_s=10.0)
    spells = list(islice(timeline.absences(presence, Draws(0), "a", "present"), 3))
    assert spells == [(0.0, 10.0), (35.0, 110.0), (135.0, 210.0)]


def test_a_trace_begins_anew_when_it_is_over(tmp_path: Path) -> None:
    path = tmp_path / "traces.json"
    path.write_text(json.dumps([{"finish_time": 100, "active": [10, 50], "inactive": [30, 80]}]))
    presence = Presence("trace", file=path)
    spells = timeline.merged(islice(timeline.absences(presence, Draws(0), "a", "present", place=3), 6))
    assert list(spells) == [(0, 10), (30, 50), (80, 110), (130, 150), (180, 200)]
    path.write_text(json.dumps([{"finish_time": 100, "active": [10, 5], "inactive": [30, 80]}]))
    with pytest.raises(ConfigInvalid, match=r"to take turns, from 0 to finish_time; docs/scenarios\.md"):
        next(timeline.absences(presence, Draws(0), "a", "present"))


def test_crashes_are_as_far_apart_as_said() -> None:
    spells = list(islice(timeline.crashes(Crash(20.0, 5.0), Draws(0), "a"), 2000))
    assert spells[-1][1] / len(spells) == pytest.approx(25.0, rel=0.06)
    assert {round(end - start, 6) for start, end in spells} == {5.0}
    assert list(timeline.crashes(Crash(), Draws(0), "a")) == []


# Links


def lane(**way: float) -> Lane:
    return Lane(Way(**way), NEVER)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_frames_pass_one_after_the_other_and_take_half_a_round_trip() -> None:
    link = lane(mbps=8.0, rtt_ms=100.0)
    first, second = link.carry(500_000, 10.0, rng()), link.carry(1_000_000, 10.1, rng())
    assert (first.left_at, *first.arrive_at) == pytest.approx((10.5, 10.55))
    assert (second.left_at, *second.arrive_at) == pytest.approx((11.5, 11.55))


def test_an_idle_link_saves_nothing_up() -> None:
    link = lane(mbps=8.0)
    link.carry(1_000_000, 0.0, rng())
    assert link.carry(1_000_000, 100.0, rng()).left_at == 101.0


def test_loss_is_delay_and_a_rate_and_never_a_gap() -> None:
    link, draws = lane(rtt_ms=100.0, loss=0.02), rng()
    crossings = [link.carry(1, float(at), draws) for at in range(0, 4000, 2)]
    late = [crossing.arrive_at[0] - at for crossing, at in zip(crossings, range(0, 4000, 2), strict=True)]
    assert np.mean(np.array(late) > 0.2) == pytest.approx(0.02, abs=0.008)
    assert rate_bytes_per_s(Way(rtt_ms=100.0, loss=0.015)) == pytest.approx(1448 / 0.1 * 10.0)


def test_frames_arrive_in_order_unless_the_link_reorders_them() -> None:
    ordered, draws = lane(jitter_ms=500.0), rng()
    arrivals = [ordered.carry(10, at / 100, draws).arrive_at[0] for at in range(500)]
    assert arrivals == sorted(arrivals)
    shuffled = lane(reorder=0.2, reorder_ms=50.0)
    arrivals = [shuffled.carry(10, at / 100, draws).arrive_at[0] for at in range(500)]
    assert arrivals != sorted(arrivals)


def test_as_many_frames_arrive_twice_as_said() -> None:
    link, draws = lane(duplicate=0.1), rng()
    copies = Counter(len(link.carry(10, float(at), draws).arrive_at) for at in range(3000))
    assert copies[2] / 3000 == pytest.approx(0.1, abs=0.02)


def test_what_a_short_outage_interrupts_goes_on_after_it_and_what_a_long_one_does_is_gone() -> None:
    short = Lane(Way(mbps=8.0), Outages([(10.5, 12.5)]))
    assert short.carry(1_000_000, 10.0, rng()).left_at == 13.0
    assert Lane(Way(mbps=8.0), Outages([(10.5, 12.5)])).carry(1_000_000, 11.0, rng()).left_at == 13.5
    long = Lane(Way(mbps=8.0), Outages([(10.5, 10.6 + BROKEN_AFTER_S)]))
    assert long.carry(1_000_000, 10.0, rng()).arrive_at == ()
    assert long.carry(1_000_000, 10.55, rng()).arrive_at == ()
    assert long.carry(1_000_000, 90.0, rng()).arrive_at == (91.0,)


def test_a_connection_that_breaks_has_carried_a_part_and_delivers_nothing() -> None:
    crossing = lane(mbps=8.0).carry(1_000_000, 5.0, rng(), broken_after=0.25)
    assert (crossing.left_at, crossing.arrive_at) == (5.25, ())


# The plan


def test_speed_goes_with_a_domain_or_with_examples(tmp_path: Path) -> None:
    uneven = {"domains": ["photo", "photo", "sketch"]}
    by_domain = drawn(scenery.scenario(tmp_path, uneven, correlation={"slow_domain": "sketch", "slower": 4.0}))
    assert {member.domain: member.usual_s for member in by_domain.members.values()} == {"photo": 1.0, "sketch": 4.0}
    assert by_domain.stragglers == ("node-2",)
    few = {"name": "few", "examples": 10}
    by_examples = drawn(scenery.scenario(tmp_path, {"examples": 20}, few, correlation={"examples": 1.0}))
    usual = {member.examples: member.usual_s for member in by_examples.members.values()}
    assert usual[20] == pytest.approx(2 * usual[10])


def test_as_many_nodes_attack_as_said_and_drop_out_as_often(tmp_path: Path) -> None:
    group = {"count": 10, "byzantine": {"share": 0.3}, "drop": {"mid_upload": 0.3}}
    found = drawn(scenery.scenario(tmp_path, group))
    assert sum(member.attack is not None for member in found.members.values()) == 3
    drops = [found.members["node-4"].drops(Phase.MID_UPLOAD, index) for index in range(2000)]
    assert np.mean(drops) == pytest.approx(0.3, abs=0.04)


def test_nodes_join_leave_and_are_cut_off_when_the_file_says(tmp_path: Path) -> None:
    late = {"name": "late", "joins_s": 10.0, "joins_within_s": 5.0, "leaves_s": 50.0}
    found = drawn(scenery.scenario(tmp_path, {}, late, partitions=[{"at_s": 3.0, "for_s": 4.0, "groups": ["node"]}]))
    node, other = found.members["node-0"], found.members["late-0"]
    (first, last) = list(islice(other.away(), 2))
    assert list(node.away()) == []
    assert (first[0], 10.0 < first[1] < 15.0, last) == (0.0, True, (50.0, timeline.FOREVER_S))
    assert (node.cut_off().next(0.0), other.cut_off().next(0.0)[0]) == ((3.0, 7.0), timeline.FOREVER_S)
