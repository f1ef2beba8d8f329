"""The feature adaptation module (FAM) of FAA-CLIP and FACMIC: a gate on frozen features, with a norm inside.

Linear(d, d) - norm - LeakyReLU(0.01) - Linear(d, d) - Softmax, and a feature I becomes softmax(...)(I) * I, as in
FedCLIP. 2 (d^2 + d) + 2 d trained params with either norm, 526,336 at d = 512.

Norm `layer` needs nothing but the feature itself. Norm `batch` is the papers': its running statistics are averaged
there like params, so here they travel with them, 1,024 values more that nobody trains. They do not average well under
asynchrony or damping, and a squeezed variance may come out below zero, where it counts as zero.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedmq_models.errors import BundleMismatch
from fedmq_models.head import Head
from fedmq_models.methods.fedclip import FedClip

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedmq_models.export import Graph, Middle

Array = NDArray[np.float32]
EPS, SLOPE, MOMENTUM = 1e-5, 0.01, 0.1
MEAN, VARIANCE = "1.running_mean", "1.running_var"


class Norm(StrEnum):
    """What the hidden values are normalised over: one feature's own, or a batch's, each value by itself."""

    LAYER = "layer"
    BATCH = "batch"


class FeatureAdaptation:
    """The module as a method; who adapts to a target domain adds the term that does it."""

    losses: tuple[str, ...] = FedClip.losses
    head = Head.TEXT
    stays: tuple[str, ...] = ()

    def __init__(self, name: str, norm: Norm) -> None:
        self.name, self.norm = name, norm

    def start(self, dim: int, rng: Generator) -> dict[str, Array]:
        """Draw the linear layers as torch does, uniform within 1 / sqrt(dim); the norm begins with scale 1, shift 0."""
        bound, start = dim**-0.5, {}
        for name, shape in self._shapes(dim).items():
            if name.startswith("1."):
                start[name] = np.full(shape, 1 if name in ("1.weight", VARIANCE) else 0, np.float32)
            else:
                start[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
        return start

    def adapt(self, params: Mapping[str, Array], features: Array) -> Array:
        """Return softmax(W3 leaky(norm(W0 x + b0)) + b3) * x for each row x."""
        hidden = features @ params["0.weight"].T + params["0.bias"]
        if self.norm is Norm.LAYER:
            hidden -= hidden.mean(axis=1, keepdims=True)
            hidden /= np.sqrt(np.mean(hidden * hidden, axis=1, keepdims=True) + np.float32(EPS))
            hidden = hidden * params["1.weight"] + params["1.bias"]
        else:
            scale, shift = _affine(params)
            hidden = hidden * scale + shift
        hidden = np.where(hidden < 0, np.float32(SLOPE) * hidden, hidden)
        scores = hidden @ params["3.weight"].T + params["3.bias"]
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        adapted: Array = features * (weights / weights.sum(axis=1, keepdims=True))
        return adapted

    def middle(self, params: Mapping[str, Array]) -> "Middle":
        """Return the same as nodes of an ONNX graph.

        raises     BundleMismatch for other names or shapes than the graph's dim wants, once they are appended
        """

        def append(graph: "Graph", features: str) -> str:
            found, wanted = {name: array.shape for name, array in params.items()}, self._shapes(graph.dim)
            if found != wanted:
                raise BundleMismatch(f"{self.name}'s adapter for features of {graph.dim} has {wanted}, not {found}")
            hidden = graph.linear(features, "adapter.0", params["0.weight"], params["0.bias"])
            scale, shift = params["1.weight"], params["1.bias"]
            if self.norm is Norm.LAYER:
                hidden = _standardised(graph, hidden)
            else:
                scale, shift = _affine(params)
            hidden = graph.node("Mul", hidden, graph.constant("adapter.1.weight", scale))
            hidden = graph.node("Add", hidden, graph.constant("adapter.1.bias", shift))
            hidden = graph.node("LeakyRelu", hidden, alpha=SLOPE)
            scores = graph.linear(hidden, "adapter.3", params["3.weight"], params["3.bias"])
            return graph.node("Mul", graph.node("Softmax", scores, axis=1), features)

        return append

    def module(self, dim: int) -> "nn.Module":
        """Return the same in torch; its state has the names of the params."""
        from torch import nn, ones, zeros
        from torch.nn import functional

        class BatchNorm(nn.Module):
            """torch's BatchNorm1d without a count of batches, which is no number that could be averaged."""

            running_mean: "Tensor"
            running_var: "Tensor"

            def __init__(self) -> None:
                super().__init__()
                self.weight, self.bias = nn.Parameter(ones(dim)), nn.Parameter(zeros(dim))
                self.register_buffer("running_mean", zeros(dim))
                self.register_buffer("running_var", ones(dim))

            def forward(self, values: "Tensor") -> "Tensor":
                mean, variance = self.running_mean, self.running_var
                if not self.training:
                    variance = variance.clamp(min=0)
                return functional.batch_norm(
                    values, mean, variance, self.weight, self.bias, self.training, MOMENTUM, EPS
                )

        class Gate(nn.Sequential):
            def forward(self, features: "Tensor") -> "Tensor":
                weights = features
                for layer in self:
                    weights = layer(weights)
                return weights * features

        norm = nn.LayerNorm(dim, EPS) if self.norm is Norm.LAYER else BatchNorm()
        return Gate(nn.Linear(dim, dim), norm, nn.LeakyReLU(SLOPE), nn.Linear(dim, dim), nn.Softmax(dim=1))

    def loss(self, name: str, adapted: "Tensor", labels: "Tensor", text: "Tensor", logit_scale: float) -> "Tensor":
        """Return the loss `class` or `reference` of a batch: FedCLIP's, without the term."""
        return FedClip().loss(name, adapted, labels, text, logit_scale)

    def _shapes(self, dim: int) -> dict[str, tuple[int, ...]]:
        buffers = {MEAN: (dim,), VARIANCE: (dim,)} if self.norm is Norm.BATCH else {}
        norm: dict[str, tuple[int, ...]] = {"1.weight": (dim,), "1.bias": (dim,), **buffers}
        return {"0.weight": (dim, dim), "0.bias": (dim,), **norm, "3.weight": (dim, dim), "3.bias": (dim,)}


def _affine(params: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return the scale and the shift that a batch norm with these statistics is."""
    variance: Array = np.maximum(params[VARIANCE], np.float32(0)) + np.float32(EPS)
    scale: Array = np.asarray(params["1.weight"] / np.sqrt(variance), np.float32)
    return scale, params["1.bias"] - params[MEAN] * scale


def _standardised(graph: "Graph", values: str) -> str:
    """Append what gives each row mean 0 and variance 1; a mean is a product, which every opset has in one form."""
    mean = graph.constant("mean", np.full((graph.dim, 1), 1 / graph.dim, np.float32))
    centred = graph.node("Sub", values, graph.node("MatMul", values, mean))
    variance = graph.node("MatMul", graph.node("Mul", centred, centred), mean)
    return graph.node("Div", centred, graph.node("Sqrt", graph.node("Add", variance, graph.number("eps", EPS))))
