"""Rounds: when collecting stops, by the state table, in hostile orders of events, and as reference algorithms say."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fedmq.collect import Collector
from fedmq.delta import Vector
from fedmq.journal import Traffic
from fedmq.messages import Code, Update
from fedmq.outer import Outer
from fedmq.past import Past
from fedmq.plan import Codecs, Settings
from fedmq.rounds import PRESETS, Cause, Policy, Round
from fedmq.weight import Weighting
from pair import SCHEMA, params
from strategies import tries

NODES = ["a", "b", "c", "d", "e", "f"]


def opened(policy: Policy, nodes: Sequence[str] = "abcd", at: float = 0.0) -> Round:
    made = Round(1, policy)
    for node in nodes:
        made.invite(node, at)
    return made


def after(policy: Policy, delivered: str = "", lost: str = "", nodes: str = "abcd", at: float = 1.0) -> Round:
    made = opened(policy, nodes)
    for node in delivered:
        made.deliver(node, at)
    for node in lost:
        made.lose(node, at)
    return made


# The state table


@pytest.mark.parametrize(
    ("policy", "delivered", "lost", "now", "expected"),
    [
        # A round of everyone whom it invited.
        (Policy(), "", "", 9.0, None),
        (Policy(), "abc", "", 9.0, None),
        (Policy(), "abcd", "", 1.0, Cause.GOAL),
        (Policy(), "abc", "d", 1.0, Cause.GONE),
        (Policy(), "a", "bcd", 1.0, Cause.GONE),
        (Policy(), "", "abcd", 9.0, None),
        (Policy(quorum=3), "ab", "cd", 9.0, None),
        (Policy(quorum=3), "abc", "d", 1.0, Cause.GONE),
        # A fixed goal.
        (Policy(goal=2), "a", "", 9.0, None),
        (Policy(goal=2), "ab", "", 1.0, Cause.GOAL),
        (Policy(goal=2), "ab", "cd", 1.0, Cause.GOAL),
        (Policy(goal=2), "a", "bcd", 1.0, Cause.GONE),
        (Policy(goal=9), "abc", "", 9.0, None),
        (Policy(goal=9), "abcd", "", 1.0, Cause.GOAL),
        (Policy(goal=2, quorum=3), "ab", "", 9.0, None),
        (Policy(goal=2, quorum=3), "abc", "", 1.0, Cause.GOAL),
        # A deadline, and a quorum that may or may not be there by then.
        (Policy(deadline_s=5.0), "a", "", 4.9, None),
        (Policy(deadline_s=5.0), "a", "", 5.0, Cause.DEADLINE),
        (Policy(deadline_s=5.0), "", "", 5.0, None),
        (Policy(deadline_s=5.0, quorum=2), "a", "", 5.0, None),
        (Policy(deadline_s=5.0, quorum_share=0.5), "a", "", 5.0, None),
        (Policy(deadline_s=5.0, quorum_share=0.5), "ab", "", 5.0, Cause.DEADLINE),
        (Policy(deadline_s=5.0), "abcd", "", 9.0, Cause.GOAL),
        # Grace is a share of the time that the quorum took, which here is one second.
        (Policy(quorum=2, grace=0.25), "ab", "", 1.2, None),
        (Policy(quorum=2, grace=0.25), "ab", "", 1.25, Cause.GRACE),
        (Policy(quorum=2, grace=0.25), "a", "", 9.0, None),
        (Policy(quorum=2, grace=0.0), "ab", "", 1.0, Cause.GRACE),
        (Policy(quorum=2, grace=0.5, deadline_s=1.25), "ab", "", 1.25, Cause.DEADLINE),
        (Policy(quorum=2, grace=0.25, deadline_s=1.5), "ab", "", 1.5, Cause.GRACE),
    ],
)
def test_a_round_ends_for_the_cause_that_the_table_says(
    policy: Policy, delivered: str, lost: str, now: float, expected: Cause | None
) -> None:
    assert after(policy, delivered, lost).cause(now) is expected


def test_a_round_that_nobody_was_invited_to_has_no_deadline_and_no_end() -> None:
    made = Round(1, Policy(deadline_s=5.0, grace=0.5))
    assert (made.opened_at, made.next_deadline(), made.cause(1e9), made.overdue(1e9)) == (None, None, None, False)


def test_the_deadline_counts_from_the_first_invitation() -> None:
    made = Round(1, Policy(deadline_s=5.0))
    made.invite("a", 100.0)
    made.invite("b", 103.0)
    assert (made.opened_at, made.next_deadline()) == (100.0, 105.0)


def test_a_carried_update_opens_a_round_too() -> None:
    made = Round(2, Policy(deadline_s=5.0, max_staleness=3))
    made.deliver("a", 100.0)
    assert (made.opened_at, made.deadline_at, made.updates, made.waiting_for) == (100.0, 105.0, 1, {})


def test_a_deadline_without_a_quorum_starts_anew_and_nothing_is_lost() -> None:
    made = after(Policy(deadline_s=5.0, quorum=2), delivered="a")
    assert (made.cause(5.0), made.overdue(5.0)) == (None, True)
    made.extend(5.0)
    assert (made.updates, made.next_deadline(), made.overdue(5.0)) == (1, 10.0, False)
    made.deliver("b", 7.0)
    assert [made.cause(now) for now in (7.0, 9.9, 10.0)] == [None, None, Cause.DEADLINE]


def test_the_quorum_is_the_larger_of_the_number_and_the_share() -> None:
    assert [after(Policy(quorum=n, quorum_share=share)).quorum for n, share in ((1, 0.0), (3, 0.5), (1, 0.75))] == [
        1,
        3,
        3,
    ]


@tries(200)
@given(st.integers(0, 100), st.integers(1, 200))
def test_a_share_of_the_nodes_is_rounded_up_and_not_by_a_floats_last_bit(percent: int, count: int) -> None:
    made = opened(Policy(quorum_share=percent / 100), [str(i) for i in range(count)])
    assert made.quorum == max(1, math.ceil(Fraction(percent, 100) * count))


@tries(200)
@given(st.integers(1, 200), st.integers(100, 200))
def test_over_selection_is_rounded_up_and_not_by_a_floats_last_bit(invite: int, percent: int) -> None:
    expected = math.ceil(Fraction(percent, 100) * invite)
    assert Policy(invite=invite, over_selection=percent / 100).places == expected


def test_a_round_without_a_cohort_invites_all() -> None:
    assert Policy(over_selection=1.3).places is None


def test_a_place_is_taken_by_who_was_invited_and_given_back_by_who_is_gone() -> None:
    made = opened(Policy(invite=3), "ab")
    left = [made.places_left(3)]
    for step in (made.deliver, made.lose, made.invite):
        step("a" if step == made.deliver else "b", 1.0)
        left.append(made.places_left(3))
    assert (left, made.places_left(0)) == ([1, 1, 2, 1], 0)


def test_a_node_that_is_lost_counts_for_no_quorum_and_one_that_comes_back_does() -> None:
    policy = Policy(quorum_share=0.5)
    assert after(policy, lost="cd").quorum == 1
    made = after(policy, lost="cd")
    made.invite("c", 2.0)
    assert (made.quorum, made.waiting_for, made.gone) == (2, {"a": None, "b": None, "c": None}, {"d"})


def test_a_lost_node_that_delivers_after_all_is_counted_and_no_longer_gone() -> None:
    made = after(Policy(), delivered="abc", lost="d")
    made.deliver("d", 2.0)
    assert (made.updates, made.gone, made.goal) == (4, set(), 4)
    assert made.cause(2.0) is Cause.GOAL


def test_losing_a_node_twice_or_one_that_was_never_awaited_changes_nothing() -> None:
    made = after(Policy(quorum_share=1.0), delivered="a", lost="b")
    before = repr(made)
    for node in ("b", "a", "stranger"):
        made.lose(node, 3.0)
    assert repr(made) == before


def test_a_node_that_trains_from_an_older_version_may_fill_a_goal_but_is_not_awaited() -> None:
    made = Round(2, Policy(goal=3, max_staleness=5))
    made.expect("old")
    made.invite("a", 0.0)
    assert (made.goal, list(made.waiting_for)) == (2, ["a"])
    made.deliver("a", 1.0)
    assert made.cause(1.0) is None
    made.deliver("old", 2.0)
    assert made.cause(2.0) is Cause.GOAL


def test_a_round_of_all_does_not_wait_for_one_that_trains_from_an_older_version() -> None:
    made = Round(2, Policy(max_staleness=5))
    made.expect("old")
    made.invite("a", 0.0)
    made.deliver("a", 1.0)
    assert made.cause(1.0) is Cause.GOAL


@pytest.mark.parametrize("invited_first", [True, False])
def test_a_node_is_either_awaited_or_carried_and_never_counted_twice(invited_first: bool) -> None:
    made = Round(2, Policy(goal=9, max_staleness=5))
    calls: list[Callable[[], None]] = [lambda: made.invite("a", 0.0), lambda: made.expect("a")]
    for call in calls if invited_first else reversed(calls):
        call()
    assert (made.goal, len(made.waiting_for) + len(made.carried)) == (1, 1)


def test_a_round_is_full_when_its_goal_is_met_and_it_may_close() -> None:
    assert [after(Policy(goal=2), delivered=d).is_full for d in ("", "a", "ab", "abc")] == [False, False, True, True]
    assert [after(Policy(goal=2, quorum=3), delivered=d).is_full for d in ("ab", "abc")] == [False, True]
    assert not after(Policy(), delivered="abcd").is_full


def test_grace_counts_from_the_first_quorum() -> None:
    made = after(Policy(quorum=2, grace=1.0), delivered="ab", at=3.0)
    made.deliver("c", 5.0)
    assert (made.grace_at, [made.cause(now) for now in (5.9, 6.0)]) == (6.0, [None, Cause.GRACE])


def test_grace_is_a_share_of_the_time_since_the_round_opened_and_not_of_the_clock() -> None:
    made = opened(Policy(quorum=2, grace=0.5), at=100.0)
    for node in "ab":
        made.deliver(node, 104.0)
    assert made.grace_at == 106.0


def test_losing_nodes_may_make_a_quorum() -> None:
    made = opened(Policy(quorum_share=0.5, grace=0.5))
    made.deliver("a", 2.0)
    before = (made.quorum, made.quorum_at, made.grace_at)
    made.lose("b", 4.0)
    made.lose("c", 6.0)
    assert [before, (made.quorum, made.quorum_at, made.grace_at)] == [(2, None, None), (1, 6.0, 9.0)]


def test_a_quorum_that_is_lost_again_by_an_invitation_gives_no_grace() -> None:
    made = after(Policy(quorum_share=0.5, grace=0.5), delivered="ab")
    for node in "ef":
        made.invite(node, 1.1)
    assert (made.quorum, made.grace_at, made.cause(100.0)) == (3, None, None)


def test_a_round_can_be_held_open_for_a_year() -> None:
    made = opened(Policy())
    assert (made.cause(365 * 86_400.0), made.next_deadline()) == (None, None)


# Whatever happens, in any order


class HostileRound(RuleBasedStateMachine):
    """Drives rounds as an aggregator does, with events in any order, and keeps its own books in the plainest way."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    @initialize(
        goal=st.integers(0, 4),
        quorum=st.integers(1, 3),
        share=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
        deadline_s=st.sampled_from([None, 0.5, 3.0]),
        grace=st.sampled_from([None, 0.0, 0.25, 2.0]),
    )
    def begin(self, goal: int, quorum: int, share: float, deadline_s: float | None, grace: float | None) -> None:
        self.policy = Policy(goal, quorum, share, deadline_s, grace, max_staleness=5)
        self.open()

    def open(self) -> None:
        self.round = Round(1, self.policy)
        self.delivered: list[str] = []
        self.may_come: set[str] = set()
        self.awaited: set[str] = set()

    def settle(self) -> None:
        cause = self.round.cause(self.now)
        if cause is not None:
            assert len(self.delivered) >= self.fewest()
            assert (cause is Cause.GONE) <= (not self.awaited)
            assert (cause is Cause.DEADLINE) <= (self.policy.deadline_s is not None)
            assert (cause is Cause.GRACE) <= (self.policy.grace is not None)
            self.open()
        elif self.round.overdue(self.now):
            assert len(self.delivered) < self.fewest()
            self.round.extend(self.now)

    def fewest(self) -> int:
        known = len({*self.delivered, *self.may_come})
        return max(1, self.policy.quorum, math.ceil(Fraction(str(self.policy.quorum_share)) * known))

    @rule(node=st.sampled_from(NODES))
    def invite(self, node: str) -> None:
        self.round.invite(node, self.now)
        self.may_come.add(node)
        self.awaited.add(node)
        self.settle()

    @rule(node=st.sampled_from(NODES))
    def expect(self, node: str) -> None:
        self.round.expect(node)
        self.may_come.add(node)
        self.settle()

    @rule(node=st.sampled_from(NODES))
    def deliver(self, node: str) -> None:
        self.round.deliver(node, self.now)
        self.delivered.append(node)
        self.may_come.discard(node)
        self.awaited.discard(node)
        self.settle()

    @rule(node=st.sampled_from(NODES))
    def lose(self, node: str) -> None:
        self.round.lose(node, self.now)
        self.may_come.discard(node)
        self.awaited.discard(node)
        self.settle()

    @rule(pause=st.floats(0.01, 5.0))
    def wait(self, pause: float) -> None:
        self.now += pause
        self.settle()

    @precondition(lambda self: self.round.next_deadline() is not None)
    @rule()
    def wait_for_the_deadline(self) -> None:
        at = self.round.next_deadline()
        assert at is not None
        self.now = at
        self.settle()

    @invariant()
    def there_is_nothing_to_do_now_that_was_not_done(self) -> None:
        """Or the aggregator's only timer would fire again and again."""
        at = self.round.next_deadline()
        assert at is None or at > self.now

    @invariant()
    def the_goal_is_never_more_than_can_still_come(self) -> None:
        assert self.round.goal <= len(self.delivered) + len(self.may_come)
        assert self.policy.goal == 0 or self.round.goal <= self.policy.goal

    @invariant()
    def the_books_agree(self) -> None:
        found = self.round
        assert (found.updates, set(found.waiting_for), found.quorum) == (
            len(self.delivered),
            self.awaited,
            self.fewest(),
        )
        assert found.carried == self.may_come - self.awaited
        assert not found.gone & self.may_come


TestHostileRound = HostileRound.TestCase
TestHostileRound.settings = settings(tries(200), stateful_step_count=40)


# What others would say


def collect(policy: Policy, arrivals: dict[str, float]) -> tuple[float, int]:
    """Invite everyone at 0, deliver as they arrive, look at the clock when told to; return when and with how many."""
    made = opened(policy, list(arrivals))
    waiting = sorted(arrivals.items(), key=lambda item: item[1])
    now = 0.0
    while (cause := made.cause(now)) is None:
        if made.overdue(now):
            made.extend(now)
        at = made.next_deadline()
        if waiting and (at is None or waiting[0][1] <= at):
            node, now = waiting.pop(0)
            made.deliver(node, now)
        else:
            assert at is not None
            assert at > now
            now = at
    assert cause in Cause
    return now, made.updates


ARRIVALS = st.lists(st.integers(1, 40), min_size=1, max_size=12, unique=True).map(
    lambda times: {str(i): float(t) for i, t in enumerate(times)}
)


@tries(150)
@given(ARRIVALS)
def test_sync_ends_with_the_slowest_node(arrivals: dict[str, float]) -> None:
    assert collect(PRESETS["sync"], arrivals) == (max(arrivals.values()), len(arrivals))


@tries(150)
@given(ARRIVALS, st.integers(1, 12), st.integers(0, 30))
def test_deadline_ends_with_the_slowest_node_or_at_the_first_deadline_that_finds_a_quorum(
    arrivals: dict[str, float], quorum: int, seconds: int
) -> None:
    deadline_s, quorum, times = seconds + 0.5, min(quorum, len(arrivals)), sorted(arrivals.values())
    found = next(n * deadline_s for n in range(1, 1000) if n * deadline_s >= times[quorum - 1])
    expected = min(found, times[-1])
    assert collect(Policy(quorum=quorum, deadline_s=deadline_s), arrivals) == (
        expected,
        sum(time <= expected for time in times),
    )


@tries(150)
@given(ARRIVALS, st.sampled_from([0.0, 0.25, 0.5, 2.0]))
def test_quorum_ends_a_share_later_than_half_of_the_nodes(arrivals: dict[str, float], grace: float) -> None:
    times = sorted(arrivals.values())
    half = times[math.ceil(len(times) / 2) - 1]
    expected = min(half * (1 + grace), times[-1])
    assert collect(Policy(quorum_share=0.5, grace=grace), arrivals) == (
        expected,
        sum(time <= expected for time in times),
    )


@tries(150)
@given(ARRIVALS, st.integers(1, 15))
def test_fedbuff_ends_with_the_kth_arrival_or_the_last(arrivals: dict[str, float], k: int) -> None:
    times = sorted(arrivals.values())
    count = min(k, len(times))
    assert collect(Policy(goal=k, max_staleness=20), arrivals) == (times[count - 1], count)


@tries(50)
@given(ARRIVALS)
def test_fedasync_ends_with_the_first_arrival(arrivals: dict[str, float]) -> None:
    assert collect(PRESETS["fedasync"], arrivals) == (min(arrivals.values()), 1)


def test_the_presets_are_what_their_papers_call_for() -> None:
    assert {name: (p.goal, p.max_staleness, p.deadline_s, p.grace) for name, p in PRESETS.items()} == {
        "sync": (0, 0, None, None),
        "deadline": (0, 0, 60.0, None),
        "quorum": (0, 20, None, 0.25),
        "fedbuff": (10, 20, None, None),
        "fedasync": (1, 20, None, None),
    }


def drawn(count: int, seed: int) -> list[tuple[int, int, Vector]]:
    """Return (versions behind, examples, delta) of each update."""
    rng = np.random.default_rng(seed)
    return [
        (int(rng.integers(0, 6)), int(rng.integers(1, 500)), (rng.standard_normal(SCHEMA.size) / 8).astype(np.float32))
        for _ in range(count)
    ]


def run(settings: Settings, updates: list[tuple[int, int, Vector]]) -> tuple[list[Vector], list[Code]]:
    """Judge updates in order, commit when the round ends; return the params of each version, and the verdicts."""
    collector, path, codes = Collector(settings, Past.none(params()).point), [], []
    for i in range(10):
        collector.round.expect(f"node-{i}")
    for seq, (behind, examples, delta) in enumerate(updates):
        base = max(0, collector.versions.number - behind)
        update = Update(1, seq, base, "fp32", examples, payload=delta.tobytes())
        codes.append(collector.judge(f"node-{seq % 10}", update, 0, now=float(seq)).code)
        if (cause := collector.round.cause(float(seq))) is not None:
            path.append(collector.commit(cause, Traffic(), float(seq)).params.flat)
            for i in range(10):
                collector.round.expect(f"node-{i}")
    return path, codes


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("lr", [1.0, 0.7])
def test_fedbuff_is_algorithm_1_of_its_paper(k: int, lr: float) -> None:
    """Sum s(t) delta over K updates, then move by lr / K of that; base versions are those trained from."""
    updates, versions = drawn(60, seed=k), [np.zeros(SCHEMA.size)]
    buffered: list[tuple[float, Vector]] = []
    for behind, _, delta in updates:
        base = max(0, len(versions) - 1 - behind)
        buffered.append((1 / math.sqrt(1 + len(versions) - 1 - base), delta))
        if len(buffered) == k:
            versions.append(versions[-1] + lr / k * sum(s * found.astype(np.float64) for s, found in buffered))
            buffered.clear()
    settings = Settings(
        "test",
        codec=Codecs("fp32", "fp32"),
        rounds=Policy(goal=k, max_staleness=20),
        weight=Weighting(by="updates"),
        outer=Outer(lr=lr),
    )
    path, codes = run(settings, updates)
    assert codes == [Code.ACCEPTED] * 60
    np.testing.assert_allclose(path, versions[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("staleness", "a", "b"), [("constant", 0.5, 4.0), ("polynomial", 0.5, 4.0), ("hinge", 10.0, 2.0)]
)
def test_fedasync_moves_by_alpha_s_of_each_delta_whatever_its_examples(staleness: str, a: float, b: float) -> None:
    """Xie et al. 2019, on deltas: w += alpha s(t) delta."""
    formulas: dict[str, Callable[[int], float]] = {
        "constant": lambda t: 1.0,
        "polynomial": lambda t: math.pow(t + 1, -a),
        "hinge": lambda t: 1.0 if t <= b else 1 / (a * (t - b) + 1),
    }
    damping = formulas[staleness]
    updates, versions = drawn(40, seed=7), [np.zeros(SCHEMA.size)]
    for behind, _, delta in updates:
        versions.append(versions[-1] + 0.6 * damping(min(behind, len(versions) - 1)) * delta.astype(np.float64))
    settings = Settings(
        "test",
        codec=Codecs("fp32", "fp32"),
        rounds=PRESETS["fedasync"],
        weight=Weighting(staleness=staleness, a=a, b=b),  # type: ignore[arg-type]
        outer=Outer(lr=0.6),
    )
    np.testing.assert_allclose(run(settings, updates)[0], versions[1:], rtol=1e-4, atol=1e-5)


def test_fedbuff_with_goal_one_is_fedasync() -> None:
    updates = drawn(30, seed=3)
    one, other = (
        run(Settings("test", codec=Codecs("fp32", "fp32"), rounds=policy), updates)
        for policy in (Policy(goal=1, max_staleness=20), PRESETS["fedasync"])
    )
    assert [found.tobytes() for found in one[0]] == [found.tobytes() for found in other[0]]


def test_sync_is_fedavg_weighted_by_examples() -> None:
    """McMahan et al. 2017: the new params are the mean of the nodes' params, by examples."""
    rng = np.random.default_rng(5)
    collector = Collector(Settings("test", codec=Codecs("fp32", "fp32")), Past.none(params()).point)
    reference = np.zeros(SCHEMA.size)
    for _ in range(5):
        models, examples = [], []
        version = collector.versions.number
        for node in NODES:
            collector.round.invite(node, 0.0)
        for seq, node in enumerate(NODES):
            delta = rng.standard_normal(SCHEMA.size).astype(np.float32) / 8
            examples.append(int(rng.integers(1, 500)))
            models.append(reference + delta)
            collector.judge(node, Update(1, seq, version, "fp32", examples[-1], payload=delta.tobytes()), 0, 0.0)
        assert collector.round.cause(0.0) is Cause.GOAL
        reference = np.average(models, axis=0, weights=examples)
        found = collector.commit(Cause.GOAL, Traffic(), 0.0).params.flat
        np.testing.assert_allclose(found, reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("policy", "behind", "expected"),
    [
        (PRESETS["sync"], [0, 1], [Code.ACCEPTED, Code.TOO_STALE]),
        (PRESETS["quorum"], [0, 20, 21], [Code.ACCEPTED, Code.ACCEPTED, Code.TOO_STALE]),
        (PRESETS["fedbuff"], [20, 21, -1], [Code.ACCEPTED, Code.TOO_STALE, Code.UNKNOWN_VERSION]),
    ],
)
def test_an_update_is_admitted_up_to_the_staleness_that_the_policy_allows(
    policy: Policy, behind: list[int], expected: list[Code]
) -> None:
    start = Past.none(params()).point
    at_30 = type(start)(30, start.exact, start.broadcast)
    collector = Collector(Settings("test", codec=Codecs("fp32", "fp32"), rounds=policy), at_30)
    payload = np.ones(SCHEMA.size, np.float32).tobytes()
    entries = [
        collector.judge("a", Update(1, seq, 30 - found, "fp32", 1, payload=payload), 0, 0.0)
        for seq, found in enumerate(behind)
    ]
    assert [entry.code for entry in entries] == expected
    assert [entry.staleness for entry in entries] == [max(0, found) for found in behind]
