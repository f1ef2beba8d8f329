"""Outer optimizers: how a step moves the params.

With momentum under staleness, a commit whose mean damping is s counts as the fraction s of a step: the velocity decays
and pushes by that fraction. With s = 1 it is heavy-ball momentum (FedAvgM, Hsu et al. 2019, arXiv:1909.06335); with s
near 0 the velocity is left almost as it was, the rule that Meta's FLSim uses for stale updates.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import Field

from fedmq.delta import Arrays, Delta, Params, Schema, Vector, add
from fedmq.quantities import Size


@dataclass(frozen=True)
class Outer:
    """name: the optimizer; lr: how much of a step is taken; momentum: how much of the velocity stays."""

    name: Literal["sgd", "momentum"] = "sgd"
    lr: Size = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9


class Optimizer(Protocol):
    """Moves params by a step. `state` is what must survive a restart."""

    def move(self, params: Params, step: Delta, damping: float) -> Params:
        """Return the new params."""

    @property
    def state(self) -> Vector | None:
        """Return the velocity, or None where there is none."""


class Sgd:
    """params + lr x step."""

    state = None

    def __init__(self, lr: float) -> None:
        self._lr = np.float32(lr)

    def move(self, params: Params, step: Delta, damping: float) -> Params:
        """Return params + lr x step; the step carries its damping already."""
        return add(params, step if self._lr == 1 else Delta(Arrays(step.schema, self._lr * step.flat)))


class Momentum:
    """params + lr x (step + s x momentum x velocity), s the mean damping of the step."""

    def __init__(self, lr: float, momentum: float, velocity: Vector) -> None:
        self._lr, self._momentum, self._velocity = lr, momentum, velocity

    def move(self, params: Params, step: Delta, damping: float) -> Params:
        """Push, then let the velocity decay by the fraction of a step that this one was."""
        push = step.flat + np.float32(damping * self._momentum) * self._velocity
        keep = 1.0 - (1.0 - self._momentum) * damping
        self._velocity = np.float32(keep) * self._velocity + step.flat
        return add(params, Delta(Arrays(step.schema, np.float32(self._lr) * push)))

    @property
    def state(self) -> Vector:
        """Return the velocity."""
        return self._velocity


def optimizer(outer: Outer, schema: Schema, state: Vector | None = None) -> Optimizer:
    """Return the optimizer that the configuration names, resumed from its state."""
    if outer.name == "sgd":
        return Sgd(outer.lr)
    return Momentum(outer.lr, outer.momentum, np.zeros(schema.size, np.float32) if state is None else state)
