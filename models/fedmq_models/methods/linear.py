"""Linear: a head on frozen features, and nothing else. C x dim params travel, 3,584 for seven classes at dim 512.

The baseline that every adapter has to beat at equal bytes: the linear probe of Radford et al. 2021 (arXiv:2103.00020),
begun from the text features and federated by FedAvg (McMahan et al. 2017, arXiv:1602.05629). With `prox` it is FedProx.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedmq_models.head import Head
from fedmq_models.methods.losses import class_loss

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedmq_models.export import Middle

Array = NDArray[np.float32]


class Linear:
    """A head without an adapter: features reach it as they are."""

    name = "linear"
    losses: tuple[str, ...] = ("class",)
    head = Head.LEARNED
    stays: tuple[str, ...] = ()

    def start(self, dim: int, rng: Generator) -> dict[str, Array]:
        """Return nothing: the head is all."""
        return {}

    def adapt(self, params: Mapping[str, Array], features: Array) -> Array:
        """Return the features."""
        return features

    def middle(self, params: Mapping[str, Array]) -> "Middle":
        """Return what appends nothing to an ONNX graph."""
        return lambda _graph, features: features

    def module(self, dim: int) -> "nn.Module":
        """Return a module without params."""
        from torch import nn

        return nn.Identity()

    def loss(self, name: str, adapted: "Tensor", labels: "Tensor", text: "Tensor", logit_scale: float) -> "Tensor":
        """Return the cross-entropy over the classes."""
        return class_loss(adapted, labels, text, logit_scale)
