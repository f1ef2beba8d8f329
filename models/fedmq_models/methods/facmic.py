"""FACMIC: the feature adaptation module, drawn to a target domain class by class.

Wu, Desrosiers, Chaddad: FACMIC: Federated Adaptative CLIP Model for Medical Image Classification, MICCAI 2024,
arXiv:2410.14707. Its distance is the local MMD of Zhu et al., Deep Subdomain Adaptation Network for Image
Classification, TNNLS 2020, arXiv:2106.09388: of each class that is there, the mean of the node's features, in the space
of five Gaussian kernels, is drawn to the target's mean, in which a feature counts as much as it is likely to be of that
class. How likely that is, says the classifier itself.

`facmic-reference` computes what is published: the target's features are the encoder's own, so the module is drawn to
where frozen features lie. `facmic` passes them through the module, whose gradient comes from both domains unless the
settings say otherwise. Features are compared at norm 1, where they are classified.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedmq_models.methods.feature_adaptation import FeatureAdaptation, Norm
from fedmq_models.target import Pool, Ramp, Target

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from fedmq_models.model import Model
    from fedmq_models.terms import Term

Array = NDArray[np.float32]
WEIGHT = 1.0  # of the distance, as published
KERNELS, WIDENING = 5, 2.0
SMALLEST = 1e-12


class Facmic(FeatureAdaptation):
    """The module and, in the loss, a local MMD."""

    keeps = ""

    def term(self, target: Target, pool: Array, batch_size: int, seed: int) -> "Term":
        """Return what compares with the pool."""
        return Attraction(Pool(pool, batch_size), target, published=self.norm is Norm.BATCH)


class Attraction:
    """The pool that a node's features are drawn to, and how far the ramp has come.

    published     whether the target's features stay as the encoder gave them
    """

    def __init__(self, pool: Pool, target: Target, published: bool) -> None:
        self._pool, self._ramp, self._published = pool, Ramp(target.ramp_steps), published
        self._weight = WEIGHT if target.weight is None else target.weight
        self._both = target.sides != "node"

    def begin(self, model: "Model", optimizer: "Optimizer", seed: int) -> None:
        """Draw from the pool anew; nothing trains along."""
        self._pool.begin(seed)

    def __call__(self, model: "Model", features: "Tensor", adapted: "Tensor", labels: "Tensor") -> "Tensor":
        """Return the local MMD between the batch and one from the pool, times weight and ramp."""
        import torch
        from torch.nn.functional import normalize

        target = torch.from_numpy(self._pool.batch())
        with torch.set_grad_enabled(self._both):
            there = normalize(target if self._published else model.adapter(target), dim=1)
        shares = torch.softmax(model.scale * there.detach() @ model.classes.detach().T, dim=1)
        return self._weight * self._ramp.next() * local_mmd(normalize(adapted, dim=1), there, labels, shares)

    def end(self, model: "Model", optimizer: "Optimizer") -> None:
        """Nothing was trained along."""


def local_mmd(source: "Tensor", target: "Tensor", labels: "Tensor", shares: "Tensor") -> "Tensor":
    """Return the mean over classes of the squared distance between both domains' weighted means in kernel space.

    source, target     (n, d) and (m, d)
    labels             (n,) int64
    shares             (m, classes), how likely each target feature is of each class
    A class counts if it is the label of a source feature and the likeliest of a target feature; without any it is 0.
    """
    import torch

    ours = torch.nn.functional.one_hot(labels, shares.shape[1]).to(source.dtype)
    likeliest = torch.nn.functional.one_hot(shares.argmax(dim=1), shares.shape[1])
    present = (ours.sum(dim=0) > 0) & (likeliest.sum(dim=0) > 0)
    weights = torch.cat([ours / ours.sum(dim=0), -shares / shares.sum(dim=0)])[:, present]
    # Signed, so that the products of weights are those of both domains, and twice those between, taken away.
    return (weights @ weights.T * _kernels(torch.cat([source, target]))).sum() / max(1, int(present.sum()))


def _kernels(values: "Tensor") -> "Tensor":
    """Return the sum of five Gaussian kernels (n, n), of the mean squared distance times 1/4, 1/2, 1, 2 and 4."""
    import torch

    squares = (values * values).sum(dim=1)
    distances = (squares[:, None] + squares[None, :] - 2 * values @ values.T).clamp(min=0)
    mean = distances.detach().sum() / (len(values) * (len(values) - 1))
    widths = [(mean * WIDENING ** (k - KERNELS // 2)).clamp(min=SMALLEST) for k in range(KERNELS)]
    return torch.stack([torch.exp(-distances / width) for width in widths]).sum(dim=0)
