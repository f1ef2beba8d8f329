"""Methods: what learns on frozen features, one file each, with its paper in its docstring.

A method says what is learned (the names and shapes of its params, and their values at version 0), which of it stays
on the node that learns it, how features pass through it (in numpy, so that a device classifies without torch) and how
it is trained (a torch module and a loss). A method with a head learns the classes' weights too (`head`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedmq_models import classifier
from fedmq_models.errors import OptionInvalid
from fedmq_models.methods import head
from fedmq_models.methods.fedclip import FedClip
from fedmq_models.methods.fedot import Fedot
from fedmq_models.methods.linear import Linear
from fedmq_models.methods.personal import Personal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedmq_models.export import Middle

Array = NDArray[np.float32]


class Method(Protocol):
    """What every method offers. `dim` is the dimension of a feature.

    head     whether a head is learned beside the adapter, whose params alone the functions here know
    stays    parts of the params that do not travel unless the task says otherwise, see `sharing`
    """

    name: str
    losses: tuple[str, ...]
    head: bool
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


METHODS: Mapping[str, Method] = {method.name: method for method in (FedClip(), Linear(), Personal(), Fedot())}


def method(name: str) -> Method:
    """Return the method of that name, or raise OptionInvalid with those that exist."""
    try:
        return METHODS[name]
    except KeyError:
        raise OptionInvalid(f"no method named {name!r}; there are {', '.join(METHODS)}") from None


def version_0(how: Method, text: Array, rng: Generator) -> dict[str, Array]:
    """Return all params of a method as a federation begins with them, head first."""
    adapter = how.start(text.shape[1], rng)
    return head.beginning(text) | adapter if how.head else adapter


def logits(how: Method, params: Mapping[str, Array], features: Array, text: Array, logit_scale: float) -> Array:
    """Return logits (n, classes) of features (n, dim) through the adapter, against the head or the text."""
    return classifier.logits(how.adapt(params, features), head.compared(params, text), logit_scale)
