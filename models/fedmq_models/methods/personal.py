"""Personal: a head that all share, and on each node a residual adapter of its own.

What stays and what is shared is that of FedPer (Arivazhagan et al. 2019, arXiv:1912.00818) turned round, as LG-FedAvg
has it (Liang et al. 2020, arXiv:2001.01523): the representation is personal, the classifier is common. The adapter is
CLIP-Adapter's bottleneck (Gao et al. 2021, arXiv:2110.04544), x + W2 tanh(W1 x + b1), without its ReLU, so that a
feature may also move down, and with W2 at 0, so that version 0 is zero-shot. C x dim params travel; dim (dim / 2 + 1/4)
stay, with a bottleneck of dim / 4.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedmq_models.head import Head
from fedmq_models.methods.losses import class_loss

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedmq_models.export import Graph, Middle

Array = NDArray[np.float32]

DOWN, BIAS, UP = "adapter.0.weight", "adapter.0.bias", "adapter.2.weight"


class Personal:
    """A shared head behind a personal residual adapter."""

    name = "personal"
    losses: tuple[str, ...] = ("class",)
    head = Head.LEARNED
    stays: tuple[str, ...] = ("adapter",)

    def start(self, dim: int, rng: Generator) -> dict[str, Array]:
        """Draw the layer into the bottleneck as torch initialises a linear layer, and leave the one out of it at 0."""
        width, bound = _width(dim), dim**-0.5
        return {
            DOWN: rng.uniform(-bound, bound, (width, dim)).astype(np.float32),
            BIAS: rng.uniform(-bound, bound, width).astype(np.float32),
            UP: np.zeros((dim, width), np.float32),
        }

    def adapt(self, params: Mapping[str, Array], features: Array) -> Array:
        """Return x + W2 tanh(W1 x + b1) for each row x."""
        adapted: Array = features + np.tanh(features @ params[DOWN].T + params[BIAS]) @ params[UP].T
        return adapted

    def middle(self, params: Mapping[str, Array]) -> "Middle":
        """Return the same as nodes of an ONNX graph."""

        def append(graph: "Graph", features: str) -> str:
            hidden = graph.node("Tanh", graph.linear(features, "adapter.0", params[DOWN], params[BIAS]))
            return graph.node("Add", features, graph.linear(hidden, "adapter.2", params[UP], None))

        return append

    def module(self, dim: int) -> "nn.Module":
        """Return the same in torch."""
        from torch import nn

        class Residual(nn.Sequential):
            def forward(self, features: "Tensor") -> "Tensor":
                moved = features
                for layer in self:
                    moved = layer(moved)
                return features + moved

        width = _width(dim)
        layers = Residual(nn.Linear(dim, width), nn.Tanh(), nn.Linear(width, dim, bias=False))
        return nn.Sequential(OrderedDict(adapter=layers))

    def loss(self, name: str, adapted: "Tensor", labels: "Tensor", text: "Tensor", logit_scale: float) -> "Tensor":
        """Return the cross-entropy over the classes."""
        return class_loss(adapted, labels, text, logit_scale)


def _width(dim: int) -> int:
    return max(1, dim // 4)
