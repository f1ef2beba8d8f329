"""Rules: the mean, against numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmq.delta import Arrays, Delta, Schema
from fedmq.errors import ShapeMismatch
from fedmq.rules import RULES, Rule, Start
from fedmq.rules.mean import BLOCK, Mean
from strategies import tries

SCHEMA = Schema((("w", (3, 4)), ("b", (5,))))


def deltas(count: int, seed: int = 0) -> list[Delta]:
    rng = np.random.default_rng(seed)
    return [Delta(Arrays(SCHEMA, rng.standard_normal(SCHEMA.size).astype(np.float32))) for _ in range(count)]


def folded(rule: Rule, found: list[Delta], weights: list[float], dampings: list[float]) -> tuple[Delta, float]:
    for delta, weight, damping in zip(found, weights, dampings, strict=True):
        rule.add(delta, weight, damping)
    return rule.step()


@tries(60)
@given(
    st.lists(st.tuples(st.floats(1, 10_000), st.floats(0, 1)), min_size=1, max_size=20),
    st.integers(0, 2**32),
)
def test_the_mean_is_numpys_weighted_average_of_the_damped_deltas(pairs: list[tuple[float, float]], seed: int) -> None:
    weights, dampings = [w for w, _ in pairs], [f for _, f in pairs]
    found = deltas(len(pairs), seed)
    step, damping = folded(Mean(SCHEMA), found, weights, dampings)
    damped = [f * delta.flat.astype(np.float64) for f, delta in zip(dampings, found, strict=True)]
    np.testing.assert_allclose(step.flat, np.average(damped, axis=0, weights=weights), rtol=1e-4, atol=1e-5)
    assert damping == pytest.approx(np.average(dampings, weights=weights))


def test_the_mean_of_one_update_is_that_update() -> None:
    """FedBuff with a goal of one and no staleness is FedAvg of one."""
    (delta,) = deltas(1)
    step, damping = folded(Mean(SCHEMA), [delta], [64.0], [1.0])
    assert (step.flat.tobytes(), damping) == (delta.flat.tobytes(), 1.0)


def test_a_step_leaves_nothing_behind() -> None:
    rule, found = Mean(SCHEMA), deltas(4)
    first = folded(rule, found[:3], [1, 2, 3], [1, 1, 1])
    kept = first[0].flat.copy()
    again = folded(rule, found[:3], [1, 2, 3], [1, 1, 1])
    assert again[0].flat.tobytes() == kept.tobytes() == first[0].flat.tobytes()


def test_the_same_order_gives_the_same_bits_and_another_order_may_not() -> None:
    found, weights, dampings = deltas(50), [float(i + 1) for i in range(50)], [0.3] * 50
    one, two = (folded(Mean(SCHEMA), found, weights, dampings)[0].flat for _ in range(2))
    other = folded(Mean(SCHEMA), found[::-1], weights[::-1], dampings)[0].flat
    assert one.tobytes() == two.tobytes() != other.tobytes()
    np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)


def test_a_delta_is_not_written_to() -> None:
    (delta,) = deltas(1)
    before = delta.flat.tobytes()
    delta.flat.flags.writeable = False
    folded(Mean(SCHEMA), [delta], [3.0], [0.5])
    assert delta.flat.tobytes() == before


def test_a_delta_of_another_shape_is_refused_and_not_folded() -> None:
    rule, (delta,) = Mean(SCHEMA), deltas(1)
    with pytest.raises(ShapeMismatch):
        rule.add(Delta(Arrays(Schema((("w", (17,)),)), delta.flat)), 1.0, 1.0)
    assert folded(rule, [delta], [1.0], [1.0])[0].flat.tobytes() == delta.flat.tobytes()


def test_every_rule_can_be_made_from_a_schema() -> None:
    for rule in RULES.values():
        assert folded(rule(Start(SCHEMA)), deltas(3), [1, 1, 1], [1, 1, 1])[0].schema == SCHEMA


def test_a_scale_shortens_a_delta_and_is_no_damping() -> None:
    (delta,) = deltas(1)
    rule = Mean(SCHEMA)
    rule.add(delta, weight=64.0, damping=1.0, scale=0.5)
    step, damping = rule.step()
    assert (step.flat.tobytes(), damping) == ((delta.flat / 2).tobytes(), 1.0)


def test_folding_block_by_block_gives_the_bits_of_folding_at_once() -> None:
    schema = Schema((("w", (2 * BLOCK + 3,)),))
    values = np.random.default_rng(0).standard_normal(schema.size).astype(np.float32)
    step, _ = folded(Mean(schema), [Delta(Arrays(schema, values))] * 2, [3.0, 5.0], [1.0, 0.5])
    by_hand = np.float32(3.0) * values + np.float32(2.5) * values
    assert step.flat.tobytes() == (by_hand / np.float32(8.0)).tobytes()
