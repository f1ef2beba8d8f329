"""Outer optimizers: how a step moves the params.

One rule for staleness: a commit whose mean damping is s counts as the fraction s of a commit. What a fresh one would
have done to the params and to the state, it does by that fraction; with s near 0 nothing moves. The step that comes in
has its damping already, so a fresh one would have been step / s.

Heavy-ball momentum is FedAvgM (Hsu et al. 2019, arXiv:1909.06335); its velocity decays under staleness as in Meta's
FLSim. Nesterov's look-ahead is the outer optimizer of DiLoCo (Douillard et al. 2023, arXiv:2311.08105). Adam is FedAdam
(Reddi et al. 2020, arXiv:2003.00295, Algorithm 2): no bias correction, and a second moment that begins at eps squared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import Field

from fedmq.delta import Arrays, Delta, Params, Schema, Vector, add
from fedmq.quantities import Size

Name = Literal["sgd", "momentum", "nesterov", "adam"]
Decay = Annotated[float, Field(ge=0, lt=1)]
States = Mapping[str, Vector]

VELOCITY, FIRST, SECOND = "velocity", "first moment", "second moment"
MOST_ADAM_LR = 0.5


@dataclass(frozen=True)
class Outer:
    """name: the optimizer; lr: how much of a step is taken; momentum: how much of the velocity stays.

    Adam's step is not as long as its deltas: `lr` is about how far each value moves per version, `momentum` and `beta2`
    say how much of its moments stays, and `eps` is a change so small that it is taken for noise.
    """

    name: Name = "sgd"
    lr: Size = 1.0
    momentum: Decay = 0.9
    beta2: Decay = 0.99
    eps: Size = 1e-3

    def __post_init__(self) -> None:
        if self.name == "adam" and self.lr > MOST_ADAM_LR:
            raise ValueError(
                f"outer.lr is {self.lr:g}, by which adam moves every value per version, limit is {MOST_ADAM_LR:g}; "
                "begin with 0.01"
            )


class Optimizer(Protocol):
    """Moves params by a step. `states` is what must survive a restart, by name."""

    def move(self, params: Params, step: Delta, damping: float) -> Params:
        """Return the new params."""

    @property
    def states(self) -> States:
        """Return vectors as long as the params; none where there is nothing to remember."""


class Sgd:
    """params + lr x step."""

    def __init__(self, lr: float) -> None:
        self._lr = np.float32(lr)
        self.states: States = {}

    def move(self, params: Params, step: Delta, damping: float) -> Params:
        """Return params + lr x step; the step carries its damping already."""
        return add(params, step if self._lr == 1 else Delta(Arrays(step.schema, self._lr * step.flat)))


class Momentum:
    """params + lr x (step + s x momentum x velocity), s the mean damping of the step.

    ahead      Nesterov's: the velocity that is pushed with has this step in it already
    """

    def __init__(self, lr: float, momentum: float, velocity: Vector, ahead: bool = False) -> None:
        self._lr, self._momentum, self._velocity, self._ahead = lr, momentum, velocity, ahead

    def move(self, params: Params, step: Delta, damping: float) -> Params:
        """Push, then let the velocity decay by the fraction of a step that this one was."""
        push = step.flat + np.float32(damping * self._momentum) * self._velocity
        if self._ahead:
            push = step.flat + np.float32(self._momentum) * push
        keep = 1.0 - (1.0 - self._momentum) * damping
        self._velocity = np.float32(keep) * self._velocity + step.flat
        return add(params, Delta(Arrays(step.schema, np.float32(self._lr) * push)))

    @property
    def states(self) -> States:
        """Return the velocity."""
        return {VELOCITY: self._velocity}


class Adam:
    """params + s x lr x m / (sqrt(v) + eps), m and v the moments of step / s with this one in them."""

    def __init__(self, outer: Outer, first: Vector, second: Vector) -> None:
        self._outer, self._first, self._second = outer, first, second

    def move(self, params: Params, step: Delta, damping: float) -> Params:
        """Push by the moments that a fresh step would leave, and go towards them by the fraction that this one was."""
        if damping == 0:
            return params
        outer, part = self._outer, np.float32(damping)
        fresh: Vector = np.divide(step.flat, part)
        first = fresh + np.float32(outer.momentum) * (self._first - fresh)
        np.square(fresh, out=fresh)
        second = fresh + np.float32(outer.beta2) * (self._second - fresh)
        push: Vector = np.sqrt(second)
        push += np.float32(outer.eps)
        np.divide(first, push, out=push)
        push *= np.float32(outer.lr * damping)
        self._first, self._second = _towards(self._first, first, part), _towards(self._second, second, part)
        return add(params, Delta(Arrays(step.schema, push)))

    @property
    def states(self) -> States:
        """Return both moments."""
        return {FIRST: self._first, SECOND: self._second}


def _towards(old: Vector, new: Vector, part: np.float32) -> Vector:
    """Turn `new` into what is `part` of the way to it from `old`; where that is all of it, it stays as it is."""
    if part == 1:
        return new
    new -= old
    new *= part
    new += old
    return new


def optimizer(outer: Outer, schema: Schema, states: States | None = None) -> Optimizer:
    """Return the optimizer that the configuration names, resumed from its states; what another has left is dropped."""
    found = states or {}
    if outer.name == "sgd":
        return Sgd(outer.lr)
    if outer.name == "adam":
        first = found.get(FIRST, np.zeros(schema.size, np.float32))
        second = found.get(SECOND, np.full(schema.size, outer.eps**2, np.float32))
        return Adam(outer, first, second)
    velocity = found.get(VELOCITY, np.zeros(schema.size, np.float32))
    return Momentum(outer.lr, outer.momentum, velocity, ahead=outer.name == "nesterov")
