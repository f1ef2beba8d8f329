"""Methods: what learns on frozen features, one file each, with its paper in its docstring.

A method says what travels (the names and shapes of its params, and their values at version 0), how features pass
through it (in numpy, so that a device classifies without torch) and how it is trained (a torch module and a loss).
One that adapts to a target domain also has a companion (`fedmq_models.companion`), which stays on the node.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedmq_models.errors import OptionInvalid
from fedmq_models.methods.faaclip import FaaClip
from fedmq_models.methods.facmic import Facmic
from fedmq_models.methods.feature_adaptation import Norm
from fedmq_models.methods.fedclip import FedClip

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedmq_models.export import Middle

Array = NDArray[np.float32]


class Method(Protocol):
    """What every method offers. `dim` is the dimension of a feature."""

    name: str
    losses: tuple[str, ...]

    def start(self, dim: int, rng: Generator) -> dict[str, Array]:
        """Return the params at version 0, in the order in which they travel."""

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
        text         (classes, dim), rows of norm 1
        """


_METHODS: tuple[Method, ...] = (
    FedClip(),
    FaaClip("faaclip", Norm.LAYER),
    FaaClip("faaclip-reference", Norm.BATCH),
    Facmic("facmic", Norm.LAYER),
    Facmic("facmic-reference", Norm.BATCH),
)
METHODS: Mapping[str, Method] = {method.name: method for method in _METHODS}


def method(name: str) -> Method:
    """Return the method of that name, or raise OptionInvalid with those that exist."""
    try:
        return METHODS[name]
    except KeyError:
        raise OptionInvalid(f"no method named {name!r}; there are {', '.join(METHODS)}") from None
