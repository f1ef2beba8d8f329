"""Guards: what is refused, what is scaled down, and what the next one is measured against."""

import math
from statistics import median

import numpy as np
import pytest

from fedmq.collect import Collector
from fedmq.delta import Arrays, Delta, Schema
from fedmq.errors import Rejection
from fedmq.guards import ENOUGH, LONGEST, REMEMBERED, Guard, Norms
from fedmq.journal import Traffic
from fedmq.messages import Code, Update
from fedmq.past import Past
from fedmq.plan import Codecs, Settings
from fedmq.rounds import Cause
from fedmq.weight import Weighting
from pair import SCHEMA, params

SCALAR = Schema((("w", (1,)),))


def delta(length: float) -> Delta:
    return Delta(Arrays(SCALAR, np.array([length], np.float32)))


def seen(*lengths: float, guard: Guard | None = None) -> Norms:
    return Norms(guard or Guard(), lengths)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_delta_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(Rejection, match="NaN or infinity") as refused:
        seen().check(delta(bad))
    assert refused.value.reason == Code.NOT_FINITE


def test_a_delta_over_the_cap_is_refused_with_both_numbers() -> None:
    norms = seen(guard=Guard(norm_cap=2.0))
    assert norms.check(delta(2.0)) == (2.0, 1.0)
    with pytest.raises(Rejection, match=r"norm is 2\.5, the cap 2$") as refused:
        norms.check(delta(2.5))
    assert refused.value.reason == Code.TOO_LARGE


def test_nothing_is_scaled_down_before_enough_were_seen() -> None:
    few, enough = seen(*[1.0] * (ENOUGH - 1)), seen(*[1.0] * ENOUGH)
    assert (few.limit, few.check(delta(1024.0))) == (math.inf, (1024.0, 1.0))
    assert (enough.limit, enough.check(delta(1024.0))) == (3.0, (1024.0, 3 / 1024))


def test_a_delta_is_scaled_down_to_the_limit_and_never_up() -> None:
    norms = seen(*[2.0] * ENOUGH, guard=Guard(norm_factor=1.5))
    assert [norms.check(delta(length)) for length in (0.0, 1.0, 3.0, 12.0)] == [
        (0.0, 1.0),
        (1.0, 1.0),
        (3.0, 1.0),
        (12.0, 0.25),
    ]


def test_the_limit_follows_the_median_of_the_last_fifty() -> None:
    lengths = np.random.default_rng(0).lognormal(size=200).tolist()
    norms = seen()
    for i, length in enumerate(lengths):
        norms.accept(length)
        if i + 1 >= ENOUGH:
            assert norms.limit == 3.0 * median(lengths[max(0, i + 1 - REMEMBERED) : i + 1])


def test_a_factor_of_zero_scales_nothing_down() -> None:
    assert seen(*[1.0] * REMEMBERED, guard=Guard(norm_factor=0.0)).check(delta(1024.0)) == (1024.0, 1.0)


def test_checking_remembers_nothing() -> None:
    norms = seen(*[1.0] * ENOUGH)
    for _ in range(REMEMBERED):
        norms.check(delta(100.0))
    assert norms.limit == 3.0


def test_one_loud_node_cannot_raise_the_limit_for_itself() -> None:
    """It is remembered as it was folded, and is but one of many."""
    norms = seen(*[1.0] * REMEMBERED)
    for _ in range(200):
        for length in (1.0, 1.0, 1e6):
            found, scale = norms.check(delta(length))
            norms.accept(found * scale)
    assert norms.limit == 3.0


def test_a_fleet_that_stood_still_may_move_again() -> None:
    norms = seen(*[0.0] * REMEMBERED)
    assert norms.check(delta(1.0)) == (1.0, 1.0)
    mixed = seen(*[0.0] * 30, *[2.0] * 20)
    assert mixed.limit == 6.0


def test_a_collector_folds_a_loud_update_at_the_limit_and_says_so() -> None:
    """And when it is folded again after a restart, it is remembered at that length."""
    settings = Settings("test", codec=Codecs("fp32", "fp32"))
    collector, again = (Collector(settings, Past.none(params()).point) for _ in range(2))
    for seq in range(ENOUGH + 2):
        value = 1.0 if seq < ENOUGH else 8.0
        sent = Update(1, seq, 0, "fp32", 1, payload=np.full(SCHEMA.size, value, np.float32).tobytes())
        entry = collector.judge("a", sent, 0, now=0.0)
        again.refold(entry, now=0.0)
    assert (entry.scale, entry.norm) == pytest.approx((3 / 8, 3 * math.sqrt(SCHEMA.size)))
    ended = [found.commit(Cause.GOAL, Traffic(), now=0.0).params.flat for found in (collector, again)]
    assert ended[0].tobytes() == ended[1].tobytes()


@pytest.mark.parametrize("cap", [10_000, 2**63 - 1])
def test_no_update_that_is_accepted_can_make_the_params_infinite(cap: int) -> None:
    """A finite delta times its examples may overflow; in a sum, one such value would stay for good."""
    collector = Collector(
        Settings("test", codec=Codecs("fp32", "fp32"), weight=Weighting(cap=cap)), Past.none(params()).point
    )
    codes = []
    for seq, value in enumerate((3e38, 1e37, 1e20, LONGEST / SCHEMA.size, 1.0)):
        flat = np.full(SCHEMA.size, value, np.float32)
        update = Update(1, seq, 0, "fp32", examples=2**63 - 1, payload=flat.tobytes())
        codes.append(collector.judge("loud", update, 0, now=0.0).code)
    entry = collector.commit(Cause.GOAL, Traffic(), now=0.0)
    assert codes == [Code.TOO_LARGE] * 3 + [Code.ACCEPTED] * 2
    assert np.isfinite(entry.params.flat).all()
