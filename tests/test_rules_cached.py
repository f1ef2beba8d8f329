"""Cached rules, against the published formulas, and what a cache must not do."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmq.delta import Arrays, Delta, Schema
from fedmq.rules import RULES, Rule, Start
from fedmq.rules.combining import Combining

SCHEMA = Schema((("w", (3, 4)), ("b", (5,))))
CACHES = ("cached", "calibrated")


def made(name: str, oldest: int = 0) -> Rule:
    return RULES[name](Start(SCHEMA, Combining(oldest=oldest)))


def drawn(count: int, seed: int = 0) -> list[Delta]:
    rng = np.random.default_rng(seed)
    return [Delta(Arrays(SCHEMA, rng.standard_normal(SCHEMA.size).astype(np.float32))) for _ in range(count)]


def add(rule: Rule, delta: Delta, node: str, number: int = 0, weight: float = 1.0, damping: float = 1.0) -> None:
    rule.add(delta, weight, damping, node=node, number=number)


def test_cached_moves_by_the_mean_of_all_newest_deltas_after_every_arrival() -> None:
    """ACE: u = mean of the cache; here by 1 / nodes per arrival, so that all of them once are a whole step."""
    rule, cache = made("cached"), dict[str, NDArray[np.float64]]()
    rng = np.random.default_rng(1)
    for delta in drawn(40):
        node = "abcde"[min(4, int(rng.exponential()))]  # a is often there, and e seldom
        cache[node] = delta.flat.astype(np.float64)
        add(rule, delta, node)
        step, part = rule.step()
        np.testing.assert_allclose(step.flat, np.mean(list(cache.values()), axis=0) / len(cache), rtol=1e-4, atol=1e-6)
        assert part == pytest.approx(1 / len(cache))
    assert set(cache) == set("abcde")


@pytest.mark.parametrize("name", CACHES)
def test_a_round_of_everyone_is_the_weighted_mean(name: str) -> None:
    rule, mean, (first, second) = made(name), made("mean"), (drawn(6, 2), drawn(6, 3))
    for found in (first, second):
        for place, delta in enumerate(found):
            for one in (rule, mean):
                add(one, delta, f"node-{place}", place, weight=1.0 + place, damping=0.9**place)
        (step, damping), (expected, same) = rule.step(), mean.step()
        np.testing.assert_allclose(step.flat, expected.flat, rtol=1e-4, atol=1e-6)
        assert damping == pytest.approx(same)


def test_calibrated_is_the_mean_cache_and_what_the_round_differs_from_it_by() -> None:
    """CA2FL: v = h + mean(delta_i - h_i), then h_i <- delta_i, from when all nodes were heard once."""
    rule, nodes = made("calibrated"), 6
    cache = {node: delta.flat.astype(np.float64) for node, delta in enumerate(drawn(nodes, 4))}
    for node, delta in enumerate(drawn(nodes, 4)):
        add(rule, delta, f"node-{node}", node)
    rule.step()
    rng = np.random.default_rng(5)
    for number in range(20):
        chosen = rng.choice(nodes, 2, replace=False)
        found = drawn(2, 100 + number)
        v = np.mean(list(cache.values()), axis=0)
        v = v + np.mean([delta.flat - cache[node] for node, delta in zip(chosen, found, strict=True)], axis=0)
        for node, delta in zip(chosen, found, strict=True):
            cache[node] = delta.flat.astype(np.float64)
            add(rule, delta, f"node-{node}", number)
        np.testing.assert_allclose(rule.step()[0].flat, v, rtol=1e-4, atol=1e-5)


def test_calibrated_moves_by_just_the_delta_of_a_node_that_was_never_heard() -> None:
    rule, (known, new) = made("calibrated"), drawn(2)
    add(rule, known, "known")
    rule.step()
    add(rule, new, "new")
    np.testing.assert_allclose(rule.step()[0].flat, new.flat, rtol=1e-5, atol=1e-6)


def test_a_node_that_sends_four_times_as_often_moves_a_cached_fleet_no_further() -> None:
    """Two nodes that want opposite things: the mean of each round goes with the fast one, the cache with neither."""
    there, back = (Delta(Arrays(SCHEMA, np.full(SCHEMA.size, value, np.float32))) for value in (1.0, -1.0))
    ended: dict[str, float] = {}
    for name in ("mean", "cached", "calibrated"):
        rule, at = made(name), 0.0
        for number in range(100):
            add(rule, *((back, "slow") if number % 5 == 0 else (there, "fast")))
            at += float(rule.step()[0].flat[0])
        ended[name] = at
    assert ended["mean"] == 60.0
    assert abs(ended["cached"]) < 2.0
    assert abs(ended["calibrated"]) < 2.0


@pytest.mark.parametrize("name", CACHES)
def test_what_came_too_long_ago_is_dropped_with_its_memory(name: str) -> None:
    rule, (left, stays) = made(name, oldest=3), drawn(2)
    add(rule, left, "left", number=7)
    rule.step()
    kept = []
    for number in range(4):
        add(rule, stays, "stays", number)
        rule.step()
        kept.append([one.node for one in rule.cached])
    assert kept == [["left", "stays"]] * 3 + [["stays"]]


@pytest.mark.parametrize("name", CACHES)
def test_a_rule_that_goes_on_from_a_cache_gives_the_bits_of_one_that_never_stopped(name: str) -> None:
    whole, deltas = made(name, oldest=4), drawn(60, 6)

    def play(rule: Rule, numbers: range) -> list[bytes]:
        steps = []
        for number in numbers:
            node = f"node-{number * number % 7}"
            add(rule, deltas[number], node, number, weight=1.0 + number % 3, damping=0.5 ** (number % 2))
            if number % 3 == 2:
                steps.append(rule.step()[0].flat.tobytes())
        return steps

    first = play(whole, range(30))
    again = RULES[name](Start(SCHEMA, Combining(oldest=4), {}, whole.cached, version=10))
    assert len(first) == 10
    assert play(again, range(30, 60)) == play(whole, range(30, 60))
