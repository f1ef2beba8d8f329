"""Statistics: a head in closed form, from counts, class sums and Gram matrices that each node sends once.

Nothing is trained: the aggregator solves the head (class means as FedNCM, Legate et al. 2023, arXiv:2305.19404; ridge
as Fed3R, Fani et al. 2024, arXiv:2402.06300, drawn to the text features; or the linear discriminant). Version 0 is the
text features times the logit scale, and so classifies as the frozen model does.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedmq_models.errors import OptionInvalid
from fedmq_models.head import Head

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedmq_models.export import Middle

Array = NDArray[np.float32]


class ClosedForm:
    """A head W (classes, dim) and a bias b (classes,): the logits of a feature x are W x / |x| + b."""

    name = "statistics"
    losses: tuple[str, ...] = ("class",)
    head = Head.SOLVED
    stays: tuple[str, ...] = ()

    def start(self, dim: int, rng: Generator) -> dict[str, Array]:
        """Return nothing: there is no adapter."""
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
        """Raise OptionInvalid: there is nothing to train."""
        raise OptionInvalid("the method 'statistics' is not trained: its head is solved by the aggregator")
