"""Methods: what learns on frozen features, one file each, with its paper in its docstring.

A method says what travels (the names and shapes of its params, and their values at version 0), how features pass
through it (in numpy, so that a device classifies without torch) and how it is trained (a torch module and a loss).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedmq_models import classifier
from fedmq_models.errors import OptionInvalid
from fedmq_models.methods.closed_form import ClosedForm
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


METHODS: Mapping[str, Method] = {method.name: method for method in (FedClip(), ClosedForm())}


def method(name: str) -> Method:
    """Return the method of that name, or raise OptionInvalid with those that exist."""
    try:
        return METHODS[name]
    except KeyError:
        raise OptionInvalid(f"no method named {name!r}; there are {', '.join(METHODS)}") from None


def version_0(how: Method, text: Array, logit_scale: float, rng: Generator) -> dict[str, Array]:
    """Return all params of a method as a federation begins with them."""
    return how.beginning(text, logit_scale) if isinstance(how, ClosedForm) else how.start(text.shape[1], rng)


def logits(how: Method, params: Mapping[str, Array], features: Array, text: Array, logit_scale: float) -> Array:
    """Return logits (n, classes) of features (n, dim): through the adapter against the text, or by the head."""
    if isinstance(how, ClosedForm):
        return how.logits(params, features)
    return classifier.logits(how.adapt(params, features), text, logit_scale)
