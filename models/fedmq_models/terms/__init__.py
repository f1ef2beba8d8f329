"""Terms: what is added to a method's loss, one file each, with its paper in its docstring.

A term may have a state: the model of a node's last run, a domain head that trains along, how far a ramp has come. It
lives as long as the node's process, goes from one local run to the next, is in no params, and never travels. Here are
those that any method may be given; a method that adapts to a target domain brings one of its own, in its own file.
"""

from typing import TYPE_CHECKING, Protocol

from fedmq_models.terms.moon import Moon
from fedmq_models.terms.prox import Prox

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from fedmq_models.model import Model

__all__ = ["Moon", "Prox", "Term"]


class Term(Protocol):
    """What every term offers. It is made for one node, and is with it in every local run."""

    def begin(self, model: "Model", optimizer: "Optimizer", seed: int) -> None:
        """Begin a local run.

        model        at the params that the run begins with
        optimizer    to which is added what trains along
        seed         of the run, for what is drawn in it
        """

    def __call__(self, model: "Model", features: "Tensor", adapted: "Tensor", labels: "Tensor") -> "Tensor":
        """Return what is added to the loss of a batch.

        features     (b, dim), as the encoder gave them
        adapted      (b, dim), what the model's adapter makes of them
        labels       (b,) int64, rows of the model's classes
        """

    def end(self, model: "Model", optimizer: "Optimizer") -> None:
        """End a local run, with what it reached."""
