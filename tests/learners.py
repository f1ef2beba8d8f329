"""A federation in memory whose nodes really train; every frame that anyone sends is kept."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedmq import codec
from fedmq.codec import Frame
from fedmq.memory import Memory
from fedmq.messages import Message
from fedmq.plan import Codecs, Settings
from fedmq_bench.virtual import Virtual
from fedmq_models import classifier
from fedmq_models.examples import Examples
from fedmq_models.training import Training
from fedmq_nodes.sources import Data
from fedmq_nodes.task import Task

DIM, CLASSES, SCALE = 8, 3, 20.0
EXACT = Settings("school", codec=Codecs("fp32", "fp32"))


def text() -> NDArray[np.float32]:
    return classifier.normalised(np.random.default_rng(1).standard_normal((CLASSES, DIM)))


def domain(count: int, seed: int, turn: float, swap: Sequence[int] = (0, 1, 2)) -> Examples:
    """Features around the text of their class, all of them turned by a rotation that is the node's own.

    turn     how far; at 0 not at all, at 1 about as far as it goes
    swap     what this node calls the classes
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    rotation, triangle = np.linalg.qr((1 - turn) * np.eye(DIM) + turn * rng.standard_normal((DIM, DIM)))
    rotation *= np.sign(np.diag(triangle))
    values = (3 * text()[labels] + rng.normal(0, 0.6, (count, DIM))) @ rotation
    return Examples(values.astype(np.float32), np.arange(count), np.asarray(swap)[labels])


def halves(examples: Examples) -> Data:
    even = np.arange(len(examples)) % 2 == 0
    return Data(examples.where(even), examples.where(~even))


class School(Virtual):
    """One federation of these nodes, and everything that anyone has said in it."""

    def __init__(
        self,
        training: Training,
        data: Mapping[str, Data],
        settings: Settings = EXACT,
        memories: dict[str, Memory] | None = None,
    ) -> None:
        self.frames: list[tuple[str, Frame]] = []
        task = Task(training, ("a", "b", "c"), SCALE, text())
        super().__init__(task, data, settings, memories=memories or {}, hear=lambda *said: self.frames.append(said))

    def said(self) -> list[Message]:
        return [codec.decode(frame) for _, frame in self.frames]
