"""Results: what slow work gave, as a shell tells its node."""

from dataclasses import dataclass, field

from fedmq.delta import Params
from fedmq.messages import Buffer


@dataclass(frozen=True)
class Trained:
    """What training from version `version` gave.

    params       that travel
    personal     that stay on this node; None where there are none
    """

    version: int
    params: Params
    examples: int
    steps: int
    loss: float
    train_s: float = 0.0
    personal: Params | None = None


@dataclass(frozen=True)
class Counted:
    """What counting gave: the statistics of `examples` features, packed in the form that was asked for."""

    version: int
    payload: Buffer = field(repr=False)
    examples: int
    train_s: float = 0.0
    steps: int = 0
    loss: float = 0.0


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation gave; version None is the frozen model alone.

    personal     how many were right with this node's own part; None where it has none
    """

    version: int | None
    examples: int
    correct: int
    loss: float
    personal: int | None = None
