"""MOON: adapted features are drawn to those of the version that a node began at, and away from its own last ones.

Li, He, Song: Model-Contrastive Federated Learning, CVPR 2021, arXiv:2103.16257. With z, z_v and z_p what the model, the
version and the node's last local model make of one image, the term is

    mu times the mean of -log( e^(cos(z, z_v) / T) / (e^(cos(z, z_v) / T) + e^(cos(z, z_p) / T)) ),   T = 0.5

Only where features are trained does it mean anything: z is what an adapter gives, and without an adapter all three are
the same. A node's first run has no last model and no term. The last model is not remembered beyond a process.
What is compared with classifies as it is: statistics of a batch norm are those that it has, not the batch's.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedmq_models.model import Model, loaded

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

TEMPERATURE = 0.5


class Moon:
    """mu times the contrast between the model as it moves, as this run began, and as the last one ended.

    last     all params that this node's last run gave; None before its first
    """

    def __init__(self, mu: float, last: Mapping[str, NDArray[np.float32]] | None = None) -> None:
        self._mu, self._last = mu, last
        self._pair: tuple[nn.Module, nn.Module] | None = None

    def begin(self, model: Model, optimizer: "Optimizer", seed: int) -> None:
        """Take copies of both."""
        if self._last is not None:
            dim = model.classes.shape[1]
            now = {name: value.copy() for name, value in model.params().items()}
            version, previous = (loaded(model.how, params, dim).eval() for params in (now, self._last))
            self._pair = version, previous

    def __call__(self, model: Model, features: "Tensor", adapted: "Tensor", labels: "Tensor") -> "Tensor":
        """Return the term of a batch."""
        import torch
        from torch.nn.functional import cosine_similarity, softplus

        if self._pair is None:
            return adapted.new_zeros(())
        with torch.no_grad():
            version, previous = (frozen(features) for frozen in self._pair)
        near, far = cosine_similarity(adapted, version), cosine_similarity(adapted, previous)
        # -log(e^a / (e^a + e^b)) = log(1 + e^(b - a))
        return self._mu * softplus((far - near) / TEMPERATURE).mean()

    def end(self, model: Model, optimizer: "Optimizer") -> None:
        """Keep what was reached for the next run."""
        self._last, self._pair = model.params(), None
