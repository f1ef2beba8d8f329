"""Training on cached features: one local run of a method, from params to params.

Pure given its arguments: the order of the examples comes from the seed, nothing is read or written, and the optimizer
starts fresh, as in FedCLIP's loop. A step at d = 512 and batch 32 is about a millisecond on one core.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedmq_models.companion import Adapting, Companion
from fedmq_models.errors import OptionInvalid
from fedmq_models.examples import Examples
from fedmq_models.methods import method
from fedmq_models.target import Target

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float32]
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Training:
    """How a node trains.

    loss           one of the method's: class, reference
    optimizer      adam couples its weight decay with the gradient, as FedCLIP does; adamw does not
    epochs         passes over the local examples, unless `steps` is set: that many batches, whatever the examples
    batch_size     examples per step; a last batch of one is left out, as in FedCLIP
    target         the domain to adapt to, of a method that does

    FedCLIP's own values: adam, lr 5e-5, betas (0.9, 0.98), eps 1e-6, weight_decay 0.2, batch_size 32, epochs 1.
    """

    method: str = "fedclip"
    loss: str = "class"
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Positive = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: Positive = 1e-6
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    epochs: Annotated[int, Field(ge=1)] = 1
    steps: Annotated[int, Field(ge=0)] = 0
    batch_size: Annotated[int, Field(ge=2)] = 32
    target: Target = Target()

    def __post_init__(self) -> None:
        losses = method(self.method).losses
        if self.loss not in losses:
            raise OptionInvalid(f"task.loss is {self.loss!r}; {self.method} has {', '.join(losses)}")


@dataclass(frozen=True)
class Fit:
    """What a local run gave: the params, the steps that it took, and the mean loss over them."""

    params: dict[str, Array]
    steps: int
    loss: float


def fit(
    training: Training,
    params: Mapping[str, Array],
    examples: Examples,
    text: Array,
    logit_scale: float,
    seed: int,
    stop: Callable[[], bool] = lambda: False,
    companion: Companion | None = None,
) -> Fit:
    """Train once.

    params       of the method, at the start
    examples     features as the encoder gave them; labels are rows of text
    text         (classes, d), rows of norm 1
    stop         asked before each step; when it says so, what was reached is returned
    companion    what stays on this node from one run to the next, if the method has it
    """
    import torch

    how = method(training.method)
    module = how.module(text.shape[1])
    module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in params.items()})
    optimizer = _optimizer(training, module)
    if companion is not None:
        companion.begin(optimizer, seed)
    classes = torch.from_numpy(text)
    total, steps = 0.0, 0
    for chosen in _batches(training, len(examples), np.random.default_rng(seed)):
        if stop():
            break
        adapted = module(torch.from_numpy(examples.batch(chosen)))
        labels = torch.from_numpy(examples.labels[chosen])
        loss = how.loss(training.loss, adapted, labels, classes, logit_scale)
        if companion is not None:
            loss = loss + companion.term(module, adapted, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total, steps = total + float(loss.detach()), steps + 1
    if companion is not None:
        companion.end(optimizer)
    trained = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    return Fit(trained, steps, total / steps if steps else 0.0)


def accompany(training: Training, pool: Array | None, text: Array, logit_scale: float, seed: int) -> Companion | None:
    """Return what goes along with a node's training, for as long as its process lives; None for most methods."""
    how = method(training.method)
    if pool is None or not isinstance(how, Adapting):
        return None
    return how.companion(training.target, pool, text, logit_scale, training.batch_size, seed)


def warm_up(training: Training, threads: int) -> None:
    """Train with this many cores from now on, and once on next to nothing: torch loads most of itself on first use."""
    import torch

    torch.set_num_threads(threads)
    start = method(training.method).start(2, np.random.default_rng(0))
    two = Examples(np.eye(2, dtype=np.float32), np.arange(2), np.arange(2))
    fit(training, start, two, np.eye(2, dtype=np.float32), 1.0, seed=0)


def _optimizer(training: Training, module: "torch.nn.Module") -> "torch.optim.Optimizer":
    from torch import optim

    # Fused: an adapter's step is bound by memory, and one pass over it takes a third less than ten.
    parameters, decay = module.parameters(), training.weight_decay
    if training.optimizer == "sgd":
        return optim.SGD(parameters, lr=training.lr, momentum=training.momentum, weight_decay=decay, fused=True)
    kind = optim.Adam if training.optimizer == "adam" else optim.AdamW
    return kind(parameters, lr=training.lr, betas=training.betas, eps=training.eps, weight_decay=decay, fused=True)


def _batches(training: Training, examples: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each step: whole epochs in a new order each, or `steps` batches out of as many as they need."""
    starts = [start for start in range(0, examples, training.batch_size) if examples - start > 1]
    left = (training.steps or training.epochs * len(starts)) if starts else 0
    while left:
        order = rng.permutation(examples)
        for start in starts[:left]:
            yield order[start : start + training.batch_size]
        left -= len(starts[:left])
