"""Results: what slow work gave, as a shell tells its node."""

from dataclasses import dataclass

from fedmq.delta import Params


@dataclass(frozen=True)
class Trained:
    """What training from version `version` gave."""

    version: int
    params: Params
    examples: int
    steps: int
    loss: float
    train_s: float = 0.0


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation gave; version None is the frozen model alone."""

    version: int | None
    examples: int
    correct: int
    loss: float
