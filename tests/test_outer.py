"""Outer optimizers, against the formulas."""

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from fedmq.delta import Arrays, Delta, Params, Schema, Vector
from fedmq.outer import Name, Optimizer, Outer, optimizer

SCHEMA = Schema((("w", (16,)),))
WITH_STATES: tuple[Name, ...] = ("momentum", "nesterov", "adam")
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


@pytest.mark.parametrize(("lr", "momentum"), [(1.0, 0.9), (0.7, 0.9), (1.0, 0.0)])
def test_nesterov_with_fresh_updates_pushes_with_a_velocity_that_has_the_step_in_it(lr: float, momentum: float) -> None:
    """v = momentum v + step; params += lr (step + momentum v): what torch.optim.SGD(nesterov=True) does."""
    found, path = steps(40), []
    params, velocity = START.flat.astype(np.float64), np.zeros(16)
    for step in found:
        velocity = momentum * velocity + step.flat
        params = params + lr * (step.flat + momentum * velocity)
        path.append(params)
    walked = walk(optimizer(Outer("nesterov", lr, momentum), SCHEMA), found, [1.0] * 40)
    np.testing.assert_allclose(walked, path, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("momentum", "beta2", "eps"), [(0.9, 0.99, 1e-3), (0.0, 0.9, 1e-1), (0.5, 0.0, 1e-8)])
def test_adam_with_fresh_updates_is_fedadam(momentum: float, beta2: float, eps: float) -> None:
    """Reddi et al. 2020, Algorithm 2: no bias correction, and a second moment that begins at eps squared."""
    found, path = steps(40), []
    params, first, second = START.flat.astype(np.float64), np.zeros(16), np.full(16, eps**2)
    for step in found:
        first = momentum * first + (1 - momentum) * step.flat
        second = beta2 * second + (1 - beta2) * step.flat.astype(np.float64) ** 2
        params = params + 0.1 * first / (np.sqrt(second) + eps)
        path.append(params)
    walked = walk(optimizer(Outer("adam", 0.1, momentum, beta2, eps), SCHEMA), found, [1.0] * 40)
    np.testing.assert_allclose(walked, path, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", WITH_STATES)
@pytest.mark.parametrize("damping", [1.0, 0.5, 0.1, 1e-3])
def test_a_stale_commit_does_that_fraction_of_what_a_fresh_one_would_have_done(name: Name, damping: float) -> None:
    outer, (before, step) = Outer(name, 0.5), steps(2)
    fresh, stale = optimizer(outer, SCHEMA), optimizer(outer, SCHEMA)
    for mover in (fresh, stale):
        walk(mover, [before], [1.0])
    began = dict(fresh.states)
    (there,) = walk(fresh, [step], [1.0])
    (part,) = walk(stale, [Delta(Arrays(SCHEMA, np.float32(damping) * step.flat))], [damping])
    np.testing.assert_allclose(part - START.flat, damping * (there - START.flat), rtol=1e-3, atol=1e-6)
    for kind, old in began.items():
        by = damping * (fresh.states[kind] - old)
        np.testing.assert_allclose(stale.states[kind] - old, by, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", WITH_STATES)
def test_with_factor_zero_nothing_moves_and_the_states_are_kept(name: Name) -> None:
    mover = optimizer(Outer(name, 0.5), SCHEMA)
    (params,) = walk(mover, steps(1), [1.0])
    before = {kind: state.tobytes() for kind, state in mover.states.items()}
    nothing = Delta(Arrays(SCHEMA, np.zeros(16, np.float32)))
    after = walk(mover, [nothing] * 5, [0.0] * 5, Params(Arrays(SCHEMA, params)))
    assert [found.tobytes() for found in after] == [params.tobytes()] * 5
    assert {kind: state.tobytes() for kind, state in mover.states.items()} == before


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


@pytest.mark.parametrize("outer", [Outer(), Outer("sgd", 0.3), *(Outer(name, 0.4) for name in WITH_STATES)])
def test_a_restart_from_the_states_is_identical_to_the_bit(outer: Outer) -> None:
    found, dampings = steps(12), [1.0, 0.5, 0.25] * 4
    whole = walk(optimizer(outer, SCHEMA), found, dampings)
    first = optimizer(outer, SCHEMA)
    before = walk(first, found[:5], dampings[:5])
    second = optimizer(outer, SCHEMA, {kind: state.copy() for kind, state in first.states.items()})
    after = walk(second, found[5:], dampings[5:], Params(Arrays(SCHEMA, before[-1])))
    assert [params.tobytes() for params in before + after] == [params.tobytes() for params in whole]


def test_each_optimizer_begins_with_states_of_its_own_and_drops_those_of_another() -> None:
    def begun(outer: Outer) -> dict[str, set[float]]:
        left = {"velocity": np.ones(16, np.float32), "centre": np.ones(16, np.float32)}
        states = optimizer(outer, SCHEMA, left if outer.name in ("sgd", "adam") else {}).states
        return {kind: set(state.tolist()) for kind, state in states.items()}

    assert begun(Outer("sgd")) == {}
    assert begun(Outer("momentum")) == begun(Outer("nesterov")) == {"velocity": {0.0}}
    assert begun(Outer("adam", 0.1, eps=0.5)) == {"first moment": {0.0}, "second moment": {0.25}}


@pytest.mark.parametrize("outer", [Outer("sgd", 0.3), *(Outer(name, 0.4) for name in WITH_STATES)])
def test_moving_writes_to_nothing_that_it_was_handed(outer: Outer) -> None:
    states = {kind: state + 1 for kind, state in optimizer(outer, SCHEMA).states.items()}
    (step,) = steps(1)
    for array in (*states.values(), step.flat):
        array.flags.writeable = False
    mover = optimizer(outer, SCHEMA, states)
    before = [array.tobytes() for array in (START.flat, *states.values())]
    for damping in (0.5, 1.0):
        mover.move(START, step, damping)
    assert [array.tobytes() for array in (START.flat, *states.values())] == before


def test_an_adam_that_would_throw_every_value_about_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValidationError, match="outer.lr is 1, by which adam moves every value per version, limit is 0"):
        TypeAdapter(Outer).validate_python({"name": "adam"})
