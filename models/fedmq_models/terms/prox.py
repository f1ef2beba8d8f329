"""FedProx: what is trained is drawn back to the version that it began at.

Li et al. 2020, Federated Optimization in Heterogeneous Networks, arXiv:1812.06127: mu / 2 |w - w_v|^2 joins the local
loss, so that a node that takes many steps, or sees few classes, strays less. With mu = 0 it is FedAvg. Here w is what
travels; a node's own part has no version to return to. The authors' mu are 0.001 to 1. The anchor is the version that
this very run began at, whereas a known port of it takes the one before.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedmq_models.model import Model

if TYPE_CHECKING:
    from torch import Tensor


class Prox:
    """mu / 2 times the squared distance from where these params are now."""

    def __init__(self, mu: float, model: Model, names: Sequence[str]) -> None:
        self._mu = mu
        live = model.named()
        self._pairs = [(live[name], live[name].detach().clone()) for name in names]

    def __call__(self, features: "Tensor", adapted: "Tensor") -> "Tensor":
        """Return the term as it is now; it does not depend on the batch."""
        import torch

        return self._mu / 2 * torch.stack([(now - then).square().sum() for now, then in self._pairs]).sum()
