"""Plain: FedCLIP as it was published, on cached features, in plain PyTorch; what ours is held against.

Written from the paper (Lu, Hu, Wang, Xie 2023, arXiv:2302.13485) and a description of the code, not from the code. It
shares nothing with the product: no core, no codec, no trainer, and unless they are given neither the start nor the
order of the examples. A round trains every node's copy for an epoch, with a new Adam, and takes the plain mean of all
copies.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from fedmq_bench.reference import TRAINING, adapter

if TYPE_CHECKING:
    from torch import Tensor, nn

SCALE = 100.0


def rounds(
    nodes: "Sequence[tuple[Tensor, Tensor]]",
    text: "Tensor",
    count: int,
    seed: int,
    start: "Mapping[str, Tensor] | None" = None,
    order: "Callable[[int, int], Tensor] | None" = None,
) -> "Iterator[nn.Module]":
    """Yield the common adapter after each round.

    nodes      features (n, d) and classes (n,) of each
    text       (C, d), rows of norm 1
    start      of the adapter; None draws it
    order      (round from 0, node) -> the order (n,) of its examples in that epoch; None draws it
    """
    import torch

    torch.manual_seed(seed)
    common = adapter(text.shape[1])
    if start is not None:
        common.load_state_dict(start)
    for number in range(count):
        states = []
        for node, (features, labels) in enumerate(nodes):
            own = copy.deepcopy(common)
            drawn = torch.randperm(len(labels)) if order is None else order(number, node)
            _epoch(own, features, labels, text, drawn)
            states.append(own.state_dict())
        common.load_state_dict({key: torch.stack([state[key] for state in states]).mean(dim=0) for key in states[0]})
        yield common


def accuracy(common: "nn.Module", features: "Tensor", labels: "Tensor", text: "Tensor") -> float:
    """Return the share that is nearest to the text of its own class."""
    import torch

    with torch.no_grad():
        return float(((_unit(common(features) * features) @ text.t()).argmax(dim=1) == labels).float().mean())


def _epoch(own: "nn.Module", features: "Tensor", labels: "Tensor", text: "Tensor", order: "Tensor") -> None:
    import torch
    from torch import optim
    from torch.nn.functional import cross_entropy

    optimizer = optim.Adam(
        own.parameters(), lr=TRAINING.lr, betas=TRAINING.betas, eps=TRAINING.eps, weight_decay=TRAINING.weight_decay
    )
    for first in range(0, len(labels) - 1, TRAINING.batch_size):  # a last batch of one is left out
        chosen = order[first : first + TRAINING.batch_size]
        images = _unit(own(features[chosen]) * features[chosen])
        logits = SCALE * images @ text[labels[chosen]].t()
        diagonal = torch.arange(len(chosen))
        loss = (cross_entropy(logits, diagonal) + cross_entropy(logits.t(), diagonal)) / 2
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _unit(rows: "Tensor") -> "Tensor":
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True)
    return unit
