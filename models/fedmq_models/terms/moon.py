"""MOON: adapted features are drawn to those of the version that a node began at, and away from its own last ones.

Li, He, Song: Model-Contrastive Federated Learning, CVPR 2021, arXiv:2103.16257. With z, z_v and z_p what the model, the
version and the node's last local model make of one image, the term is

    mu times the mean of -log( e^(cos(z, z_v) / T) / (e^(cos(z, z_v) / T) + e^(cos(z, z_p) / T)) ),   T = 0.5

Only where features are trained does it mean anything: z is what an adapter gives, and without an adapter all three are
the same. A node's first run has no last model and no term. The last model is not remembered beyond a process.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedmq_models.model import Model, loaded

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURE = 0.5


class Moon:
    """mu times the contrast between the model as it is now, as it moves, and as `previous` was."""

    def __init__(self, mu: float, model: Model, previous: Mapping[str, NDArray[np.float32]]) -> None:
        self._mu, dim = mu, model.classes.shape[1]
        self._version = loaded(model.how, model.params(), dim)
        self._previous = loaded(model.how, previous, dim)

    def __call__(self, features: "Tensor", adapted: "Tensor") -> "Tensor":
        """Return the term of a batch."""
        import torch
        from torch.nn.functional import cosine_similarity, softplus

        with torch.no_grad():
            version, previous = self._version(features), self._previous(features)
        near, far = cosine_similarity(adapted, version), cosine_similarity(adapted, previous)
        # -log(e^a / (e^a + e^b)) = log(1 + e^(b - a))
        return self._mu * softplus((far - near) / TEMPERATURE).mean()
