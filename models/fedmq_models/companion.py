"""Companions: what a method has on a node beside its adapter. It trains along, adds a term to the loss, never travels.

A domain head and a pool of target features are one. Training asks for the term of a batch and knows nothing more; a
companion lives as long as the node's process, from one local run to the next, and is lost with it.
"""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fedmq_models.target import Target

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

Array = NDArray[np.float32]


class Companion(Protocol):
    """What goes along with one node's training."""

    def begin(self, optimizer: "Optimizer", seed: int) -> None:
        """Begin a local run: add to the optimizer what trains along; what is drawn in this run depends on the seed."""

    def term(self, module: "nn.Module", adapted: "Tensor", labels: "Tensor") -> "Tensor":
        """Return what a batch adds to its loss.

        module       of the method, which has made of the batch what `adapted` (b, dim) is
        labels       (b,) int64, rows of the text features
        """

    def end(self, optimizer: "Optimizer") -> None:
        """End a local run."""


@runtime_checkable
class Adapting(Protocol):
    """What a method that adapts to a target domain offers beside what every method does."""

    name: str

    def companion(
        self, target: Target, pool: Array, text: Array, logit_scale: float, batch_size: int, seed: int
    ) -> Companion:
        """Return what goes along with the training of one node.

        pool         (n, dim), unlabelled features of the target domain, as the encoder gave them
        text         (classes, dim), rows of norm 1
        batch_size   target features per step, at most
        seed         of what is drawn once, such as the start of a head
        """
