"""Robust rules, each against a naive reference, in any order of arrival, and within their memory."""

import itertools
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmq.delta import Arrays, Delta, Schema
from fedmq.errors import ShapeMismatch
from fedmq.rules import RULES, Rule, Start
from fedmq.rules import held as held_side_by_side
from fedmq.rules.combining import Combining
from strategies import tries

SCHEMA = Schema((("w", (3, 4)), ("b", (5,))))
ROBUST = ("median", "trimmed", "krum", "clipping")
Matrix = NDArray[np.float64]


def made(name: str, combining: Combining | None = None, schema: Schema = SCHEMA) -> Rule:
    return RULES[name](Start(schema, combining or Combining()))


def drawn(nodes: int, seed: int, schema: Schema = SCHEMA) -> list[Delta]:
    rng = np.random.default_rng(seed)
    return [Delta(Arrays(schema, rng.standard_normal(schema.size).astype(np.float32))) for _ in range(nodes)]


def folded(rule: Rule, deltas: list[Delta], order: list[int] | None = None, damping: float = 1.0) -> Delta:
    """Fold deltas of nodes that are named by their place; examples differ, and must not matter."""
    for place in order or range(len(deltas)):
        rule.add(deltas[place], weight=1.0 + place, damping=damping, node=f"node-{place:03}", number=place)
    return rule.step()[0]


def wide(deltas: list[Delta]) -> Matrix:
    return np.array([delta.flat for delta in deltas], np.float64)


# Naive references: the definitions, value by value and pair by pair.


def trimmed(found: Matrix, faulty: int) -> Matrix:
    drop = min(faulty, (len(found) - 1) // 2)
    return np.array([np.mean(sorted(column)[drop : len(column) - drop]) for column in found.T])


def krum(found: Matrix, faulty: int, best: int) -> Matrix:
    nodes = len(found)
    scores = []
    for one in range(nodes):
        away = sorted(float(np.sum((found[one] - found[other]) ** 2)) for other in range(nodes) if other != one)
        scores.append(sum(away[: nodes - faulty - 2]))
    chosen = sorted(range(nodes), key=lambda one: scores[one])[:best]
    return np.mean([found[one] for one in chosen], axis=0)  # type: ignore[no-any-return]


def clipped(found: Matrix, centre: Matrix, radius: float, passes: int) -> Matrix:
    for _ in range(passes):
        away = [float(np.linalg.norm(delta - centre)) for delta in found]
        within = radius or float(np.median(away))
        parts = [1.0 if a <= within else within / a for a in away]
        moves = [(delta - centre) * part for delta, part in zip(found, parts, strict=True)]
        centre = centre + np.mean(moves, axis=0)
    return centre


NAIVE: dict[str, Callable[[Matrix, int], Matrix]] = {
    "median": lambda found, faulty: np.median(found, axis=0),
    "trimmed": trimmed,
    "krum": lambda found, faulty: krum(
        found, max(0, min(faulty, (len(found) - 3) // 2)), len(found) - max(0, min(faulty, (len(found) - 3) // 2))
    ),
    "clipping": lambda found, faulty: clipped(found, np.zeros(found.shape[1]), 0.0, 1),
}


@pytest.mark.parametrize("name", ROBUST)
@tries(60)
@given(st.integers(1, 15), st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.49]), st.integers(0, 2**32))
def test_a_rule_gives_what_its_definition_does(name: str, nodes: int, faulty: float, seed: int) -> None:
    deltas, combining = drawn(nodes, seed), Combining(faulty=faulty)
    found = folded(made(name, combining), deltas)
    expected = NAIVE[name](wide(deltas), combining.faulty_of(nodes))
    np.testing.assert_allclose(found.flat, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("best", [1, 2, 5])
def test_krum_averages_as_many_as_it_is_told(best: int) -> None:
    deltas = drawn(9, seed=3)
    found = folded(made("krum", Combining(faulty=0.3, best=best)), deltas)
    np.testing.assert_allclose(found.flat, krum(wide(deltas), 3, best), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("radius", "passes"), [(0.5, 1), (2.0, 3), (0.0, 1), (100.0, 1)])
def test_clipping_goes_on_from_where_the_last_round_ended(radius: float, passes: int) -> None:
    rule, centre = made("clipping", Combining(radius=radius, passes=passes)), np.zeros(SCHEMA.size)
    for seed in range(5):
        deltas = drawn(7, seed)
        centre = clipped(wide(deltas), centre, radius, passes)
        np.testing.assert_allclose(folded(rule, deltas).flat, centre, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(rule.states["centre"], centre, rtol=1e-4, atol=1e-5)


def test_clipping_with_a_radius_beyond_all_is_the_mean() -> None:
    deltas = drawn(7, seed=1)
    found = folded(made("clipping", Combining(radius=1e6, passes=1)), deltas)
    np.testing.assert_allclose(found.flat, wide(deltas).mean(axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ROBUST)
def test_the_order_of_arrival_changes_no_bit(name: str) -> None:
    deltas = drawn(5, seed=2)
    found = {
        folded(made(name), deltas, list(order)).flat.tobytes() for order in itertools.permutations(range(len(deltas)))
    }
    assert len(found) == 1


@pytest.mark.parametrize("name", ROBUST)
def test_block_by_block_gives_the_bits_of_all_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances aside, which are summed block by block: krum only compares them, clipping rounds them to float32."""
    schema = Schema((("w", (1_000,)),))
    deltas = drawn(6, 4, schema)
    whole = folded(made(name, schema=schema), deltas).flat.tobytes()
    monkeypatch.setattr(held_side_by_side, "BLOCK", 6 * 17)
    assert folded(made(name, schema=schema), deltas).flat.tobytes() == whole


@pytest.mark.parametrize("name", ROBUST)
def test_a_node_that_sends_often_is_heard_once_with_what_came_last(name: str) -> None:
    deltas = drawn(6, seed=5)
    once, often = made(name), made(name)
    for _ in range(50):
        often.add(deltas[5], 1.0, 1.0, node="node-000", number=0)
    assert folded(often, deltas[:5]).flat.tobytes() == folded(once, deltas[:5]).flat.tobytes()


@pytest.mark.parametrize("name", ROBUST)
def test_staleness_damps_the_result_and_not_who_is_believed(name: str) -> None:
    deltas = drawn(7, seed=6)
    fresh, stale = made(name), made(name)
    whole = folded(fresh, deltas)
    for place, delta in enumerate(deltas):
        stale.add(delta, 1.0, 0.5 if place % 2 else 0.25, node=f"node-{place:03}", number=place)
    step, damping = stale.step()
    assert 0.25 < damping < 0.5
    assert step.flat.tobytes() == (np.float32(damping) * whole.flat).tobytes()


@pytest.mark.parametrize("name", ROBUST)
def test_a_scale_shortens_a_delta_before_it_is_compared(name: str) -> None:
    deltas = drawn(5, seed=7)
    found, expected = made(name), made(name)
    for place, delta in enumerate(deltas):
        half = Delta(Arrays(SCHEMA, np.float32(0.5) * delta.flat))
        found.add(delta, 1.0, 1.0, scale=0.5, node=f"node-{place}", number=place)
        expected.add(half, 1.0, 1.0, node=f"node-{place}", number=place)
    (step, damping), (other, _) = found.step(), expected.step()
    assert (step.flat.tobytes(), damping) == (other.flat.tobytes(), 1.0)


@pytest.mark.parametrize("name", ROBUST)
def test_a_delta_is_not_written_to_and_one_of_another_shape_is_refused(name: str) -> None:
    deltas, rule = drawn(5, seed=8), made(name)
    for delta in deltas:
        delta.flat.flags.writeable = False
    folded(rule, deltas)
    with pytest.raises(ShapeMismatch):
        rule.add(Delta(Arrays(Schema((("w", (17,)),)), deltas[0].flat)), 1.0, 1.0, node="x")


@pytest.mark.parametrize("name", ROBUST)
def test_nothing_is_made_beside_the_deltas_that_grows_with_nodes_and_params(name: str) -> None:
    """Twenty deltas of two million bytes are held; what is made of them takes as little as a few more."""
    schema = Schema((("w", (1024, 512)),))
    deltas, rule, size = drawn(20, 9, schema), made(name, schema=schema), 4 * schema.size
    tracemalloc.start()
    try:
        folded(rule, deltas)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * size, f"{peak} bytes for deltas of {size}"
