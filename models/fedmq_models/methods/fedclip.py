"""FedCLIP: an attention adapter on frozen CLIP features; only the adapter travels.

Lu, Hu, Wang, Xie: FedCLIP: Fast Generalization and Personalization for CLIP in Federated Learning, IEEE Data
Engineering Bulletin 2023, arXiv:2302.13485. The adapter is Linear(d, d) - Tanh - Linear(d, d) - Softmax, and a feature
I becomes softmax(...)(I) * I: reweighted by positive factors, without a residual. I is the feature as the encoder gives
it, not normalised (for CLIP its norm is about 10); normalising comes after. 2 (d^2 + d) params, 525,312 at d = 512.

Loss `class` is cross-entropy over the prompts of all classes. Loss `reference` is the paper's: CLIP's symmetric
contrastive loss inside the batch, where two images of one class count as each other's negatives.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedmq_models.errors import BundleMismatch
from fedmq_models.head import Head
from fedmq_models.methods.losses import class_loss

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedmq_models.export import Graph, Middle

Array = NDArray[np.float32]


class FedClip:
    """The attention adapter of FedCLIP."""

    name = "fedclip"
    losses: tuple[str, ...] = ("class", "reference")
    head = Head.TEXT
    stays: tuple[str, ...] = ()

    def start(self, dim: int, rng: Generator) -> dict[str, Array]:
        """Draw both layers as torch initialises a linear layer: weights and biases uniform within 1 / sqrt(dim)."""
        bound = dim**-0.5
        return {name: rng.uniform(-bound, bound, shape).astype(np.float32) for name, shape in _shapes(dim).items()}

    def adapt(self, params: Mapping[str, Array], features: Array) -> Array:
        """Return softmax(W2 tanh(W1 x + b1) + b2) * x for each row x."""
        hidden = np.tanh(features @ params["0.weight"].T + params["0.bias"])
        scores = hidden @ params["2.weight"].T + params["2.bias"]
        scores -= scores.max(axis=1, keepdims=True)
        weights = np.exp(scores)
        adapted: Array = features * (weights / weights.sum(axis=1, keepdims=True))
        return adapted

    def middle(self, params: Mapping[str, Array]) -> "Middle":
        """Return the same as nodes of an ONNX graph.

        raises     BundleMismatch for other names or shapes than the graph's dim wants, once they are appended
        """

        def append(graph: "Graph", features: str) -> str:
            found, wanted = {name: array.shape for name, array in params.items()}, _shapes(graph.dim)
            if found != wanted:
                raise BundleMismatch(f"FedCLIP's adapter for features of {graph.dim} has {wanted}, not {found}")
            hidden = graph.node("Tanh", graph.linear(features, "adapter.0", params["0.weight"], params["0.bias"]))
            scores = graph.linear(hidden, "adapter.2", params["2.weight"], params["2.bias"])
            return graph.node("Mul", graph.node("Softmax", scores, axis=1), features)

        return append

    def module(self, dim: int) -> "nn.Module":
        """Return the same in torch; its state has the names of the params."""
        from torch import nn

        class Gate(nn.Sequential):
            def forward(self, features: "Tensor") -> "Tensor":
                weights = features
                for layer in self:
                    weights = layer(weights)
                return weights * features

        return Gate(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, dim), nn.Softmax(dim=1))

    def loss(self, name: str, adapted: "Tensor", labels: "Tensor", text: "Tensor", logit_scale: float) -> "Tensor":
        """Return the loss `class` or `reference` of a batch."""
        import torch
        from torch.nn.functional import cross_entropy, normalize

        if name == "class":
            return class_loss(adapted, labels, text, logit_scale)
        logits = logit_scale * normalize(adapted, dim=1) @ text[labels].T
        diagonal = torch.arange(len(labels))
        return (cross_entropy(logits, diagonal) + cross_entropy(logits.T, diagonal)) / 2


def _shapes(dim: int) -> dict[str, tuple[int, ...]]:
    return {"0.weight": (dim, dim), "0.bias": (dim,), "2.weight": (dim, dim), "2.bias": (dim,)}
