"""FedProx: what is trained is drawn back to the version that it began at.

Li et al. 2020, Federated Optimization in Heterogeneous Networks, arXiv:1812.06127: mu / 2 |w - w_v|^2 joins the local
loss, so that a node that takes many steps, or sees few classes, strays less. With mu = 0 it is FedAvg. Here w is what
travels; a node's own part has no version to return to. The authors' mu are 0.001 to 1. The anchor is the version that
this very run began at, whereas a known port of it takes the one before.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedmq_models.model import Model
from fedmq_models.sharing import shared

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer


class Prox:
    """mu / 2 times the squared distance from where what is shared began in this run.

    share     parts that travel, as the task says it
    """

    def __init__(self, mu: float, share: Sequence[str]) -> None:
        self._mu, self._share = mu, share
        self._pairs: list[tuple[Tensor, Tensor]] = []  # now, and as it began

    def begin(self, model: Model, optimizer: "Optimizer", seed: int) -> None:
        """Take note of where it begins."""
        live = model.named()
        drawn = [live[name] for name in shared(model.how, self._share, live) if live[name].requires_grad]
        self._pairs = [(value, value.detach().clone()) for value in drawn]

    def __call__(self, model: Model, features: "Tensor", adapted: "Tensor", labels: "Tensor") -> "Tensor":
        """Return the term as it is now; it does not depend on the batch."""
        import torch

        parts = [(now - then).square().sum() for now, then in self._pairs]
        return self._mu / 2 * torch.stack(parts).sum()

    def end(self, model: Model, optimizer: "Optimizer") -> None:
        """Forget it: the next run begins elsewhere."""
        self._pairs = []
