"""Training on cached features: one local run of a method, from params to params.

Pure given its arguments: the order of the examples comes from the seed, nothing is read or written, and the optimizer
starts fresh, as in FedCLIP's loop. A step at d = 512 and batch 32 is about a millisecond on one core.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedmq_models.errors import OptionInvalid
from fedmq_models.examples import Examples
from fedmq_models.methods import Adapting, method, version_0
from fedmq_models.model import Model
from fedmq_models.target import Target
from fedmq_models.terms import Moon, Prox, Term

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
    share          parts of the params that travel (`sharing`); none leaves it to the method
    prox           how strongly what travels is drawn back to the version that it began at (`terms.prox`)
    moon           weight of the contrast between this model, that version and this node's last (`terms.moon`)

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
    share: tuple[str, ...] = ()
    prox: Annotated[float, Field(ge=0)] = 0.0
    moon: Annotated[float, Field(ge=0)] = 0.0

    def __post_init__(self) -> None:
        how = method(self.method)
        if self.loss not in how.losses:
            raise OptionInvalid(f"task.loss is {self.loss!r}; {self.method} has {', '.join(how.losses)}")
        if self.moon and not how.start(1, np.random.default_rng(0)):
            raise OptionInvalid(
                f"task.moon is {self.moon:g}, but {self.method} has no adapter: its features never move"
            )


@dataclass(frozen=True)
class Fit:
    """What a local run gave: the params, the steps that it took, and their mean loss on the examples, without terms."""

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
    terms: Sequence[Term] = (),
) -> Fit:
    """Train once.

    params       all of the method's, at the start; they are not changed
    examples     features as the encoder gave them; labels are rows of text
    text         (classes, d), rows of norm 1
    stop         asked before each step; when it says so, what was reached is returned
    terms        what joins the loss: this node's `terms_of` the training, the same from one run to the next
    """
    trained = {name: value.copy() for name, value in params.items()}
    steps, loss = advance(training, trained, examples, text, logit_scale, seed, stop, terms)
    return Fit(trained, steps, loss)


def advance(
    training: Training,
    params: Mapping[str, Array],
    examples: Examples,
    text: Array,
    logit_scale: float,
    seed: int,
    stop: Callable[[], bool] = lambda: False,
    terms: Sequence[Term] = (),
) -> tuple[int, float]:
    """Train once, as `fit` does, but these params themselves, where they lie; return the steps and their mean loss."""
    import torch

    model = Model(method(training.method), params, text, logit_scale)
    optimizer = _optimizer(training, model)
    for term in terms:
        term.begin(model, optimizer, seed)
    moved = [value for group in optimizer.param_groups for value in group["params"]]
    total, steps = 0.0, 0
    for chosen in _batches(training, len(examples), np.random.default_rng(seed)):
        if stop():
            break
        features, labels = torch.from_numpy(examples.batch(chosen)), torch.from_numpy(examples.labels[chosen])
        adapted = model.adapter(features)
        loss = model.loss(training.loss, adapted, labels)
        whole = sum((term(model, features, adapted, labels) for term in terms), loss)
        for value in moved:  # what zero_grad does, in a twentieth of the 0.1 ms that torch's own takes
            value.grad = None
        whole.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total, steps = total + float(loss.detach()), steps + 1
    for term in terms:
        term.end(model, optimizer)
    return steps, total / steps if steps else 0.0


def terms_of(training: Training, pool: Array | None = None, seed: int = 0) -> list[Term]:
    """Return what joins the loss of one node, to be kept for as long as its process lives.

    pool     features of the target domain, where the method adapts to one
    seed     of what the terms draw once
    """
    how, terms = method(training.method), list[Term]()
    if training.prox:
        terms.append(Prox(training.prox, training.share))
    if training.moon:
        terms.append(Moon(training.moon))
    if pool is not None and isinstance(how, Adapting):
        terms.append(how.term(training.target, pool, training.batch_size, seed))
    return terms


def warm_up(training: Training, threads: int) -> None:
    """Train with this many cores from now on, and once on next to nothing: torch loads most of itself on first use."""
    import torch

    torch.set_num_threads(threads)
    text = np.eye(2, dtype=np.float32)
    start = version_0(method(training.method), text, 1.0, np.random.default_rng(0))
    two = Examples(np.eye(2, dtype=np.float32), np.arange(2), np.arange(2))
    fit(training, start, two, text, 1.0, seed=0)


def _optimizer(training: Training, model: Model) -> "torch.optim.Optimizer":
    from torch import optim

    # Fused: an adapter's step is bound by memory, and one pass over it takes a third less than ten.
    parameters, decay = model.trainable(), training.weight_decay
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
