"""Budgets: FedNova, against its formula and on two nodes that want different things."""

from dataclasses import replace

import numpy as np
import pytest

from fedmq.collect import Collector
from fedmq.delta import Vector
from fedmq.journal import Traffic
from fedmq.messages import Code, Update
from fedmq.past import Past
from fedmq.plan import Codecs, Settings
from fedmq.rounds import Cause
from fedmq.weight import Weighting
from pair import SCHEMA, params

IGNORED = Settings("test", codec=Codecs("fp32", "fp32"))
NORMALISED = replace(IGNORED, weight=Weighting(steps="normalised"))


def sent(delta: Vector, steps: int, examples: int = 10, base: int = 0) -> Update:
    return Update(1, 1, base, "fp32", examples, steps, payload=delta.astype("<f4").tobytes())


def committed(settings: Settings, updates: list[Update]) -> Vector:
    collector = Collector(settings, Past.none(params()).point)
    for number, update in enumerate(updates):
        assert collector.judge(f"node-{number}", update, 0, 0.0).code is Code.ACCEPTED
    return collector.commit(Cause.GOAL, Traffic(), 0.0).params.flat


def drawn(count: int) -> list[Vector]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(SCHEMA.size).astype(np.float32) for _ in range(count)]


def test_deltas_are_averaged_per_step_and_moved_by_the_median_budget() -> None:
    """Wang et al.: x += tau_eff x sum p_i delta_i / a_i, with p_i the share of examples and any tau_eff."""
    steps, examples, deltas = [5, 80, 10], [10, 30, 60], drawn(3)
    found = committed(NORMALISED, [sent(*each) for each in zip(deltas, steps, examples, strict=True)])
    per_step = sum(n / 100 * delta / a for n, delta, a in zip(examples, deltas, steps, strict=True))
    np.testing.assert_allclose(found, 10 * per_step, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 7, 10_000])
def test_with_equal_budgets_it_is_the_mean(steps: int) -> None:
    updates = [sent(delta, steps) for delta in drawn(4)]
    np.testing.assert_allclose(committed(NORMALISED, updates), committed(IGNORED, updates), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", ["mean", "median", "trimmed", "krum", "clipping"])
def test_one_node_that_lies_about_its_steps_moves_the_others_no_further_than_they_went(rule: str) -> None:
    honest, lie = [sent(np.ones(SCHEMA.size, np.float32), 10)] * 4, np.ones(SCHEMA.size, np.float32)
    settings = replace(NORMALISED, rule=rule)
    assert committed(settings, [*honest, sent(lie, 10**9)]).max() <= 1.0 + 1e-6
    if rule != "mean":
        assert committed(settings, [*honest, sent(lie, 1)]).max() <= 4.0


def test_a_delta_that_is_long_for_its_steps_is_scaled_and_one_that_took_more_of_them_is_not() -> None:
    collector, one = Collector(NORMALISED, Past.none(params()).point), np.ones(SCHEMA.size, np.float32)
    for number in range(10):
        collector.judge(f"node-{number}", sent(one, 10), 0, 0.0)
    long, hot = (collector.judge(name, sent(50 * one, steps), 0, 0.0) for name, steps in (("long", 500), ("hot", 10)))
    assert long.scale == 1.0
    assert hot.scale == pytest.approx(3 / 50)


def test_an_update_that_says_no_steps_is_refused_only_where_they_count() -> None:
    (delta,) = drawn(1)
    for settings, code in ((IGNORED, Code.ACCEPTED), (NORMALISED, Code.NO_EXAMPLES)):
        entry = Collector(settings, Past.none(params()).point).judge("a", sent(delta, 0), 0, 0.0)
        assert entry.code is code


def test_the_node_with_more_steps_does_not_win() -> None:
    """Two quadratics with optima at 1 and -1; one node takes twenty steps per round and the other one."""

    def ended(settings: Settings) -> float:
        collector = Collector(settings, Past.none(params()).point)
        for version in range(200):
            now = collector.versions.exact.flat
            for node, optimum, steps in (("eager", 1.0, 20), ("slow", -1.0, 1)):
                # so many steps of gradient descent with rate 0.01, in closed form
                delta = (1 - 0.99**steps) * (optimum - now)
                collector.judge(node, sent(delta, steps, base=version), 0, 0.0)
            collector.commit(Cause.GOAL, Traffic(), 0.0)
        return float(collector.versions.exact.flat[0])

    assert ended(IGNORED) > 0.85
    assert abs(ended(NORMALISED)) < 0.06
