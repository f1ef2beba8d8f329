"""FAA-CLIP: a feature adaptation module against a domain head that cannot tell a node's features from the target's.

Wu, Chaddad, Desrosiers, Daqqaq, Kateb: FAA-CLIP: Federated Adversarial Adaptation of CLIP, IEEE Internet of Things
Journal 12(12), 2025, arXiv:2503.05776. The head learns to tell whether an adapted feature is the node's or the target
domain's; through a reversed gradient (Ganin et al. 2016, arXiv:1505.07818) the module learns to keep it from knowing.
The head has 2 (d^2 + d) + 4 d + d + 1 params, 527,873 at d = 512, which stay on the node.

`faaclip-reference` computes what is published. `faaclip` differs in two ways. Its module has a stateless norm, and both
domains pass the head as one batch: published are two, each normalised by itself inside the head, which takes away just
the difference of means that the head should see. Whether the target's features move too, as in Ganin's work, or the
node's alone, as published, is a setting of either.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedmq_models.methods.feature_adaptation import FeatureAdaptation, Norm
from fedmq_models.target import Pool, Ramp, Target

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from fedmq_models.model import Model
    from fedmq_models.terms import Term

Array = NDArray[np.float32]
WEIGHT = 0.5  # of the adversarial term, as published


class FaaClip(FeatureAdaptation):
    """The module and, in the loss, a domain head."""

    keeps = "a domain head"

    def term(self, target: Target, pool: Array, batch_size: int, seed: int) -> "Term":
        """Return a new head, and what it needs."""
        head = domain_head(pool.shape[1], np.random.default_rng([seed, 2]))
        return Adversary(head, Pool(pool, batch_size), target, published=self.norm is Norm.BATCH)


class Adversary:
    """A domain head, the pool that it compares with, and how far its ramp has come.

    published     whether domains pass separately, and the optimizer's moments go on from one local run to the next
    """

    def __init__(self, head: "nn.Module", pool: Pool, target: Target, published: bool) -> None:
        self.head = head
        self._pool, self._ramp, self._published = pool, Ramp(target.ramp_steps), published
        self._weight = WEIGHT if target.weight is None else target.weight
        self._both = target.sides == "both"
        self._moments: Mapping[str, Any] | None = None

    def begin(self, model: "Model", optimizer: "Optimizer", seed: int) -> None:
        """Train the head along."""
        self._pool.begin(seed)
        optimizer.add_param_group({"params": list(self.head.parameters())})
        if self._moments is not None:
            optimizer.load_state_dict(dict(self._moments))

    def __call__(self, model: "Model", features: "Tensor", adapted: "Tensor", labels: "Tensor") -> "Tensor":
        """Return half of both domains' cross-entropies, the node's being 1 and the target 0, times the weight."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits, normalize

        target, strength = torch.from_numpy(self._pool.batch()), self._ramp.next()
        here = reversed_gradient(normalize(adapted, dim=1), strength)
        with torch.set_grad_enabled(self._both):
            there = normalize(model.adapter(target), dim=1)
            there = reversed_gradient(there, strength) if self._both else there
        if self._published:
            ours, theirs = self.head(here), self.head(there)
        else:
            ours, theirs = self.head(torch.cat([here, there])).split([len(here), len(there)])
        told = binary_cross_entropy_with_logits(ours, torch.ones_like(ours))
        told = told + binary_cross_entropy_with_logits(theirs, torch.zeros_like(theirs))
        return self._weight * told / 2

    def end(self, model: "Model", optimizer: "Optimizer") -> None:
        """Keep the moments, where they go on."""
        if self._published:
            self._moments = optimizer.state_dict()


def domain_head(dim: int, rng: Generator) -> "nn.Module":
    """Return Linear - BatchNorm - ReLU, twice, and Linear to one score (n, 1), whose sigmoid is how likely a feature is
    the node's own. Its linear layers are drawn as torch draws them.
    """
    import torch
    from torch import nn

    head = nn.Sequential(
        *(nn.Linear(dim, dim), nn.BatchNorm1d(dim), nn.ReLU()),
        *(nn.Linear(dim, dim), nn.BatchNorm1d(dim), nn.ReLU()),
        nn.Linear(dim, 1),
    )
    for layer in head:
        if isinstance(layer, nn.Linear):
            for values in (layer.weight, layer.bias):
                drawn = rng.uniform(-(dim**-0.5), dim**-0.5, tuple(values.shape))
                values.data = torch.from_numpy(drawn.astype(np.float32))
    return head


def reversed_gradient(values: "Tensor", strength: float) -> "Tensor":
    """Return the values as they are, whose gradient is that of what follows times -strength."""
    same = values.clone()
    same.register_hook(lambda gradient: -strength * gradient)  # type: ignore[no-untyped-call]
    return same
