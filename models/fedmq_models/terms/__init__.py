"""Terms: what is added to a method's loss, one file each, with its paper in its docstring."""

from typing import TYPE_CHECKING, Protocol

from fedmq_models.terms.moon import Moon
from fedmq_models.terms.prox import Prox

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Moon", "Prox", "Term"]


class Term(Protocol):
    """What every term offers: it is made with a model, at the start of a local run."""

    def __call__(self, features: "Tensor", adapted: "Tensor") -> "Tensor":
        """Return what is added to the loss of a batch: features (b, dim), and what the adapter makes of them."""
