"""Without an adapter: what a method is whose features reach the head as they are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

    from fedmq_models.export import Middle

Array = NDArray[np.float32]


class WithoutAdapter:
    """The half of a method that has nothing to do: its head is all."""

    losses: tuple[str, ...] = ("class",)
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
