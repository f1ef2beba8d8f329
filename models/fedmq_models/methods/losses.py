"""Losses that several methods share."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def class_loss(adapted: "Tensor", labels: "Tensor", text: "Tensor", logit_scale: float) -> "Tensor":
    """Return the cross-entropy over all classes of logit_scale * cosine-like logits.

    adapted    (b, dim), of any norm
    text       (classes, dim): text features of norm 1, or a head
    """
    from torch.nn.functional import cross_entropy, normalize

    return cross_entropy(logit_scale * normalize(adapted, dim=1) @ text.T, labels)
