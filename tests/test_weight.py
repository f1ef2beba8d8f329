"""How much an update counts: the formulas, and the mistakes that others have made with them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmq.delta import Arrays, Delta, Schema
from fedmq.rules.mean import Mean
from fedmq.weight import Weighting
from strategies import tries

SCHEMA = Schema((("w", (4,)),))
ONES = Delta(Arrays(SCHEMA, np.ones(4, np.float32)))
ANY = st.builds(
    Weighting,
    staleness=st.sampled_from(["constant", "polynomial", "hinge"]),
    a=st.floats(0, 20),
    b=st.floats(0, 20),
)


def test_the_default_is_the_damping_of_fedbuff() -> None:
    assert [Weighting().damping(t) for t in (0, 1, 3, 8, 24)] == pytest.approx([1, 2**-0.5, 1 / 2, 1 / 3, 1 / 5])


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        (Weighting(staleness="constant"), [1, 1, 1, 1, 1]),
        (Weighting(staleness="polynomial", a=1.0), [1, 1 / 2, 1 / 5, 1 / 6, 1 / 11]),
        (Weighting(staleness="polynomial", a=0.0), [1, 1, 1, 1, 1]),
        (Weighting(staleness="hinge", a=10.0, b=4.0), [1, 1, 1, 1 / 11, 1 / 61]),
        (Weighting(staleness="hinge", a=1.0, b=0.0), [1, 1 / 2, 1 / 5, 1 / 6, 1 / 11]),
    ],
)
def test_damping_is_as_in_fedasync_at_0_1_4_5_and_10_versions_behind(
    weighting: Weighting, expected: list[float]
) -> None:
    assert [weighting.damping(t) for t in (0, 1, 4, 5, 10)] == pytest.approx(expected)


@tries(200)
@given(ANY, st.integers(0, 1000))
def test_a_fresh_update_counts_in_full_and_a_staler_one_never_more(weighting: Weighting, staleness: int) -> None:
    """NVFlare counts the version up first, so that its fresh updates weigh a half."""
    assert weighting.damping(0) == 1.0
    assert 0.0 < weighting.damping(staleness + 1) <= weighting.damping(staleness) <= 1.0


def test_damping_does_not_decay_over_a_run() -> None:
    """Plato multiplies its mixing rate in place: after some stale updates, nothing counts any more."""
    weighting = Weighting()
    assert [weighting.damping(t) for t in [9] * 1000 + [0]] == [weighting.damping(9)] * 1000 + [1.0]


@pytest.mark.parametrize("staleness", [1, 3, 15])
def test_damping_does_not_cancel_when_all_updates_are_equally_stale(staleness: int) -> None:
    """FedScale divides by the sum of the dampings, and so takes the full step of a stale buffer."""
    weighting, mean = Weighting(), Mean(SCHEMA)
    for examples in (10, 300, 7):
        mean.add(ONES, weighting.weight(examples), weighting.damping(staleness))
    step, damping = mean.step()
    assert step.flat.tolist() == pytest.approx([(1 + staleness) ** -0.5] * 4)
    assert damping == pytest.approx((1 + staleness) ** -0.5)


def test_a_fresh_update_outweighs_a_stale_one_by_its_damping() -> None:
    """Plato's FedBuff has no staleness in it."""
    weighting, mean = Weighting(by="updates"), Mean(SCHEMA)
    mean.add(ONES, weighting.weight(5), weighting.damping(0))
    mean.add(Delta(Arrays(SCHEMA, -ONES.flat)), weighting.weight(5), weighting.damping(3))
    assert mean.step()[0].flat.tolist() == [(1 - 0.5) / 2] * 4


def test_examples_count_up_to_a_cap_which_a_node_cannot_lie_itself_over() -> None:
    weighting = Weighting(cap=100)
    assert [weighting.weight(examples) for examples in (1, 99, 100, 101, 2**63 - 1)] == [1, 99, 100, 100, 100]


def test_by_updates_every_node_counts_the_same() -> None:
    assert [Weighting(by="updates", cap=5).weight(examples) for examples in (1, 5, 10**9)] == [1, 1, 1]
