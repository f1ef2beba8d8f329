"""A method: what learns on frozen features.

It says what is learned (the names and shapes of its params, and their values at version 0), which of it stays on the
node that learns it, how features pass through it (in numpy, so that a device classifies without torch) and how it is
trained (a torch module and a loss). A method with a head learns the classes' weights too (`head`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedmq_models.head import Head

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedmq_models.export import Middle

Array = NDArray[np.float32]


class Method(Protocol):
    """What every method offers. `dim` is the dimension of a feature.

    head     what adapted features are compared with; its params stand before the adapter's, which alone the functions
             here know
    stays    parts of the params that do not travel unless the task says otherwise, see `sharing`
    """

    name: str
    losses: tuple[str, ...]
    head: Head
    stays: tuple[str, ...]

    def start(self, dim: int, rng: Generator) -> dict[str, Array]:
        """Return the adapter's params at version 0, in the order in which they travel."""

    def adapt(self, params: Mapping[str, Array], features: Array) -> Array:
        """Return what the adapter makes of features (n, dim), of the same shape and not normalised."""

    def middle(self, params: Mapping[str, Array]) -> "Middle":
        """Return what appends the adapter to an ONNX graph."""

    def module(self, dim: int) -> "nn.Module":
        """Return the trainable module, whose state has the names and shapes of the params: features in, adapted out."""

    def loss(self, name: str, adapted: "Tensor", labels: "Tensor", text: "Tensor", logit_scale: float) -> "Tensor":
        """Return the loss of a batch.

        adapted      (b, dim) from the module
        labels       (b,) int64, rows of text
        text         (classes, dim), rows of norm 1; or a head
        """
