"""FEDOT: a head that all share, and on each node a rotation of its own that never leaves it.

Kong et al.: Generalized and Personalized Federated Learning with Black-Box Foundation Models via Orthogonal
Transformations, CVPR 2026; the variant with blocks, which its authors found best. A feature h becomes B h, where B is
block-diagonal and each block is orthogonal: Q = (I + R) (I - R)^-1 with R = (X - X') / 2 (Cayley), so any X will do and
lengths and angles within a block are kept. X begins at 0, B at the identity, and so version 0 is zero-shot. Their mean
over nodes is uniform (`weight.by = "updates"`), and their block size is per data set; ours is the largest divisor of
dim up to 64. What travels is C x dim, what stays is dim x block.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedmq_models.head import Head
from fedmq_models.methods.losses import class_loss

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedmq_models.export import Graph, Middle

Array = NDArray[np.float32]

LARGEST_BLOCK = 64
ROTATION = "rotation.blocks"


class Fedot:
    """A shared head behind a personal block-orthogonal rotation."""

    name = "fedot"
    losses: tuple[str, ...] = ("class",)
    head = Head.LEARNED
    stays: tuple[str, ...] = ("rotation",)

    def start(self, dim: int, rng: Generator) -> dict[str, Array]:
        """Return blocks of zeros, which rotate nothing."""
        size = block_size(dim)
        return {ROTATION: np.zeros((dim // size, size, size), np.float32)}

    def adapt(self, params: Mapping[str, Array], features: Array) -> Array:
        """Return B x for each row x."""
        blocks = cayley(params[ROTATION])
        count, size, _ = blocks.shape
        parts = features.reshape(len(features), count, size)
        rotated: Array = np.einsum("kij,nkj->nki", blocks, parts).reshape(features.shape)
        return rotated

    def middle(self, params: Mapping[str, Array]) -> "Middle":
        """Return the same as one matrix product of an ONNX graph."""

        def append(graph: "Graph", features: str) -> str:
            blocks = cayley(params[ROTATION])
            count, size, _ = blocks.shape
            whole = np.zeros((count * size, count * size), np.float32)
            for at, block in enumerate(blocks):
                whole[at * size : (at + 1) * size, at * size : (at + 1) * size] = block
            return graph.linear(features, "rotation", whole, None)

        return append

    def module(self, dim: int) -> "nn.Module":
        """Return the same in torch, with a gradient through Cayley's transform."""
        import torch
        from torch import nn

        size = block_size(dim)

        class Rotation(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.blocks = nn.Parameter(torch.zeros(dim // size, size, size))

            def forward(self, features: "Tensor") -> "Tensor":
                skew = (self.blocks - self.blocks.transpose(1, 2)) / 2
                one = torch.eye(size)
                # The factors commute, so that the inverse may stand in front.
                blocks = torch.linalg.solve(one - skew, one + skew)
                parts = features.reshape(len(features), dim // size, size)
                return torch.einsum("kij,nkj->nki", blocks, parts).reshape(features.shape)

        return nn.Sequential(OrderedDict(rotation=Rotation()))

    def loss(self, name: str, adapted: "Tensor", labels: "Tensor", text: "Tensor", logit_scale: float) -> "Tensor":
        """Return the cross-entropy over the classes."""
        return class_loss(adapted, labels, text, logit_scale)


def block_size(dim: int) -> int:
    """Return the largest divisor of dim that is at most LARGEST_BLOCK."""
    return max(size for size in range(1, min(dim, LARGEST_BLOCK) + 1) if dim % size == 0)


def cayley(free: Array) -> Array:
    """Return (I + R) (I - R)^-1 with R = (X - X') / 2 of each block X (count, size, size)."""
    skew = (free - free.transpose(0, 2, 1)) / 2
    one = np.eye(free.shape[1], dtype=np.float32)
    # The factors commute, so that the inverse may stand in front.
    rotations: Array = np.linalg.solve(one - skew, one + skew)
    return rotations
