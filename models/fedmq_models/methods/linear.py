"""Linear: a head on frozen features, and nothing else. C x dim params travel, 3,584 for seven classes at dim 512.

The baseline that every adapter has to beat at equal bytes: the linear probe of Radford et al. 2021 (arXiv:2103.00020),
begun from the text features and federated by FedAvg (McMahan et al. 2017, arXiv:1602.05629). With `prox` it is FedProx.
"""

from typing import TYPE_CHECKING

from fedmq_models.head import Head
from fedmq_models.methods.losses import class_loss
from fedmq_models.methods.without_adapter import WithoutAdapter

if TYPE_CHECKING:
    from torch import Tensor


class Linear(WithoutAdapter):
    """A head without an adapter: features reach it as they are."""

    name = "linear"
    head = Head.LEARNED

    def loss(self, name: str, adapted: "Tensor", labels: "Tensor", text: "Tensor", logit_scale: float) -> "Tensor":
        """Return the cross-entropy over the classes."""
        return class_loss(adapted, labels, text, logit_scale)
