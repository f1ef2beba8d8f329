"""Outer optimizers, against the formulas."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmq.delta import Arrays, Delta, Params, Schema, Vector
from fedmq.outer import Optimizer, Outer, optimizer

SCHEMA = Schema((("w", (16,)),))
START = Params(Arrays(SCHEMA, np.linspace(-1, 1, 16, dtype=np.float32)))


def steps(count: int, seed: int = 0) -> list[Delta]:
    rng = np.random.default_rng(seed)
    return [Delta(Arrays(SCHEMA, rng.standard_normal(16).astype(np.float32))) for _ in range(count)]


def walk(mover: Optimizer, found: list[Delta], dampings: list[float], params: Params = START) -> list[Vector]:
    path = []
    for step, damping in zip(found, dampings, strict=True):
        params = mover.move(params, step, damping)
        path.append(params.flat)
    return path


def heavy_ball(found: list[Delta], lr: float, momentum: float) -> list[NDArray[np.float64]]:
    """FedAvgM: v = momentum v + step; params += lr v."""
    params, velocity, path = START.flat.astype(np.float64), np.zeros(16), []
    for step in found:
        velocity = momentum * velocity + step.flat
        params = params + lr * velocity
        path.append(params)
    return path


@pytest.mark.parametrize(("lr", "momentum"), [(1.0, 0.9), (0.5, 0.9), (0.7, 0.5), (1.0, 0.0)])
def test_momentum_with_fresh_updates_is_heavy_ball(lr: float, momentum: float) -> None:
    found = steps(40)
    np.testing.assert_allclose(
        walk(optimizer(Outer("momentum", lr, momentum), SCHEMA), found, [1.0] * 40),
        heavy_ball(found, lr, momentum),
        rtol=1e-4,
        atol=1e-4,
    )


def test_momentum_with_factor_zero_moves_nothing_and_keeps_its_velocity() -> None:
    mover = optimizer(Outer("momentum"), SCHEMA)
    (params,) = walk(mover, steps(1), [1.0])
    velocity = mover.state
    assert velocity is not None
    before = velocity.tobytes()
    nothing = Delta(Arrays(SCHEMA, np.zeros(16, np.float32)))
    after = walk(mover, [nothing] * 5, [0.0] * 5, Params(Arrays(SCHEMA, params)))
    assert mover.state is not None
    assert ([found.tobytes() for found in after], mover.state.tobytes()) == ([params.tobytes()] * 5, before)


def test_momentum_of_updates_equally_stale_goes_as_far_as_of_fresh_ones_in_proportion() -> None:
    """In the long run both push by step / (1 - momentum): staleness damps the step once, and not twice."""
    (step,) = steps(1)
    half = Delta(Arrays(SCHEMA, np.float32(0.5) * step.flat))
    moved = {}
    for name, found, damping in (("fresh", step, 1.0), ("stale", half, 0.5)):
        path = walk(optimizer(Outer("momentum", 1.0, 0.9), SCHEMA), [found] * 400, [damping] * 400)
        moved[name] = path[-1] - path[-2]
    np.testing.assert_allclose(moved["fresh"], step.flat / 0.1, rtol=1e-3)
    np.testing.assert_allclose(moved["stale"], half.flat / 0.1, rtol=1e-3)


def test_momentum_is_never_carried_further_by_a_stale_step_than_by_a_fresh_one() -> None:
    after: dict[float, float] = {}
    for damping in (0.0, 0.25, 1.0):
        mover = optimizer(Outer("momentum", 1.0, 0.9), SCHEMA)
        walk(mover, steps(3), [1.0] * 3)
        nothing = Delta(Arrays(SCHEMA, np.zeros(16, np.float32)))
        after[damping] = float(np.linalg.norm(walk(mover, [nothing], [damping])[0] - START.flat))
    assert 0.0 == after[0.0] < after[0.25] < after[1.0]


def test_sgd_adds_the_step_whatever_its_factor() -> None:
    (step,) = steps(1)
    for damping in (0.0, 0.5, 1.0):
        assert walk(optimizer(Outer(), SCHEMA), [step], [damping])[0].tobytes() == (START.flat + step.flat).tobytes()
    (moved,) = walk(optimizer(Outer("sgd", lr=0.25), SCHEMA), [step], [1.0])
    np.testing.assert_allclose(moved, START.flat + 0.25 * step.flat, rtol=1e-6)


@pytest.mark.parametrize("outer", [Outer(), Outer("sgd", 0.3), Outer("momentum", 0.7, 0.9)])
def test_a_restart_from_the_state_is_identical_to_the_bit(outer: Outer) -> None:
    found, dampings = steps(12), [1.0, 0.5, 0.25] * 4
    whole = walk(optimizer(outer, SCHEMA), found, dampings)
    first = optimizer(outer, SCHEMA)
    before = walk(first, found[:5], dampings[:5])
    state = None if first.state is None else first.state.copy()
    second = optimizer(outer, SCHEMA, state)
    after = walk(second, found[5:], dampings[5:], Params(Arrays(SCHEMA, before[-1])))
    assert [params.tobytes() for params in before + after] == [params.tobytes() for params in whole]


def test_only_momentum_has_a_state() -> None:
    assert optimizer(Outer("sgd"), SCHEMA).state is None
    velocity = optimizer(Outer("momentum"), SCHEMA).state
    assert velocity is not None
    assert velocity.tobytes() == np.zeros(16, np.float32).tobytes()


@pytest.mark.parametrize("outer", [Outer("sgd", 0.3), Outer("momentum", 0.7, 0.9)])
def test_moving_writes_to_nothing_that_it_was_handed(outer: Outer) -> None:
    velocity, (step,) = np.ones(16, np.float32), steps(1)
    for array in (velocity, step.flat):
        array.flags.writeable = False
    mover = optimizer(outer, SCHEMA, velocity)
    before = START.flat.tobytes()
    mover.move(START, step, 0.5)
    assert (START.flat.tobytes(), velocity.tolist()) == (before, [1.0] * 16)
