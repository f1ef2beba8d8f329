"""Statistics: a head in closed form, from counts, class sums and Gram matrices that each node sends once.

Nothing is trained: the aggregator solves the head (class means as FedNCM, Legate et al. 2023, arXiv:2305.19404; ridge
as Fed3R, Fani et al. 2024, arXiv:2402.06300, drawn to the text features; or the linear discriminant). Version 0 is the
text features times the logit scale, and so classifies as the frozen model does.
"""

from typing import TYPE_CHECKING

from fedmq_models.errors import OptionInvalid
from fedmq_models.head import Head
from fedmq_models.methods.without_adapter import WithoutAdapter

if TYPE_CHECKING:
    from torch import Tensor


class ClosedForm(WithoutAdapter):
    """A head W (classes, dim) and a bias b (classes,): the logits of a feature x are W x / |x| + b."""

    name = "statistics"
    head = Head.SOLVED

    def loss(self, name: str, adapted: "Tensor", labels: "Tensor", text: "Tensor", logit_scale: float) -> "Tensor":
        """Raise OptionInvalid: there is nothing to train."""
        raise OptionInvalid("the method 'statistics' is not trained: its head is solved by the aggregator")
