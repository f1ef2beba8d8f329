"""FAA-CLIP against plain PyTorch loops that are written here from the paper's specification."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fedmq_models.examples import Examples
from fedmq_models.methods import METHODS, method
from fedmq_models.methods.faaclip import Adversary, domain_head, reversed_gradient
from fedmq_models.methods.feature_adaptation import FeatureAdaptation
from fedmq_models.target import Target
from fedmq_models.training import Training, fit, terms_of

DIM, CLASSES, SCALE, SEED, BATCH = 16, 5, 20.0, 11, 8
PAPER = Training(
    method="faaclip-reference",
    loss="reference",
    lr=5e-5,
    weight_decay=0.02,
    batch_size=BATCH,
    target=Target(ramp_steps=0),
)
OURS = Training(method="faaclip", lr=1e-3, batch_size=BATCH, target=Target(ramp_steps=10, weight=0.7))
GANIN = replace(OURS, target=replace(OURS.target, sides="both"))


def rows(count: int, seed: int, norm: float = 10.0) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    values *= norm / np.linalg.norm(values, axis=1, keepdims=True)
    return values


def examples(count: int) -> Examples:
    return Examples(rows(count, 0), np.arange(count), np.random.default_rng(5).integers(0, CLASSES, count))


TEXT, POOL = rows(CLASSES, 1, 1.0), rows(20, 3) + 2


def start(name: str) -> dict[str, NDArray[np.float32]]:
    return method(name).start(DIM, np.random.default_rng(2))


def adversary(training: Training) -> Adversary:
    (found,) = terms_of(training, POOL, seed=4)
    assert isinstance(found, Adversary)
    return found


def drawn(seed: int) -> Iterator[NDArray[np.float32]]:
    """The target's batches: whole orders of 20, of which a remainder smaller than a batch is left out."""
    rng = np.random.default_rng([seed, 1])
    while True:
        order = rng.permutation(len(POOL))
        yield POOL[order[:BATCH]]
        yield POOL[order[BATCH : 2 * BATCH]]


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, strength: float) -> torch.Tensor:
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.strength * gradients[0], None


class Loop:
    """A node's training as the paper has it, or as our defaults change it, without anything of ours."""

    def __init__(self, training: Training, head: nn.Module, published: bool) -> None:
        norm = nn.BatchNorm1d(DIM) if published else nn.LayerNorm(DIM)
        self.fam = nn.Sequential(nn.Linear(DIM, DIM), norm, nn.LeakyReLU(), nn.Linear(DIM, DIM), nn.Softmax(dim=1))
        self.fam.load_state_dict({k: torch.tensor(v) for k, v in start(training.method).items()}, strict=False)
        self.head = nn.Sequential(
            *(nn.Linear(DIM, DIM), nn.BatchNorm1d(DIM), nn.ReLU()),
            *(nn.Linear(DIM, DIM), nn.BatchNorm1d(DIM), nn.ReLU()),
            *(nn.Linear(DIM, 1), nn.Sigmoid()),
        )
        self.head.load_state_dict(head.state_dict())
        both = [*self.fam.parameters(), *self.head.parameters()]
        decay = training.weight_decay
        self.optimizer = torch.optim.Adam(both, lr=training.lr, betas=(0.9, 0.98), eps=1e-6, weight_decay=decay)
        self.published, self.both, self.steps = published, training.target.sides == "both", 0

    def gated(self, features: NDArray[np.float32]) -> torch.Tensor:
        image = torch.tensor(features)
        image = self.fam(image) * image
        return torch.nn.functional.normalize(image, dim=1)

    def clip_loss(self, image: torch.Tensor, labels: NDArray[np.int64]) -> torch.Tensor:
        words = torch.tensor(TEXT)
        if not self.published:
            return nn.functional.cross_entropy(SCALE * image @ words.t(), torch.tensor(labels))
        logits, diagonal = SCALE * image @ words[labels].t(), torch.arange(len(labels))
        return (nn.functional.cross_entropy(logits, diagonal) + nn.functional.cross_entropy(logits.t(), diagonal)) / 2

    def domain_loss(self, image: torch.Tensor, target: NDArray[np.float32]) -> torch.Tensor:
        told = nn.BCELoss()
        if self.published:
            with torch.no_grad():
                there = self.gated(target)
            ours, theirs = self.head(Reverse.apply(image, 1.0)), self.head(there)
        else:
            strength = 2 / (1 + np.exp(-10 * min(self.steps / 10, 1))) - 1
            there = self.gated(target) if self.both else self.gated(target).detach()
            scores = self.head(Reverse.apply(torch.cat([image, there]), strength))
            ours, theirs = scores[: len(image)], scores[len(image) :]
        loss: torch.Tensor = (
            (0.5 if self.published else 0.7)
            * 0.5
            * (told(ours, torch.ones_like(ours)) + told(theirs, torch.zeros_like(theirs)))
        )
        return loss

    def epoch(self, data: Examples, seed: int) -> dict[str, torch.Tensor]:
        order, targets = np.random.default_rng(seed).permutation(len(data)), drawn(seed)
        for first in range(0, len(order), BATCH):
            chosen = order[first : first + BATCH]
            image = self.gated(data.features[chosen])
            loss = self.clip_loss(image, data.labels[chosen]) + self.domain_loss(image, next(targets))
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.steps += 1
        return {name: value for name, value in self.fam.state_dict().items() if "num_batches" not in name}


def apart(found: dict[str, NDArray[np.float32]], expected: dict[str, torch.Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max(float(np.abs(found[name] - value.numpy()).max()) for name, value in expected.items())


@pytest.mark.parametrize(
    ("training", "published"), [(PAPER, True), (OURS, False), (GANIN, False)], ids=["published", "ours", "both sides"]
)
def test_one_local_epoch_equals_a_loop_written_from_the_specification(training: Training, published: bool) -> None:
    data, term = examples(BATCH * 5 + 3), adversary(training)
    loop = Loop(training, term.head, published)
    found = fit(training, start(training.method), data, TEXT, SCALE, SEED, terms=[term])
    assert apart(found.params, loop.epoch(data, SEED)) <= 1e-6
    # A bias before a batch norm has no gradient but rounding errors, which Adam makes steps of.
    unmoved = {"0.bias", "3.bias", "1.running_mean", "4.running_mean", "1.num_batches_tracked", "4.num_batches_tracked"}
    compared = term.head.state_dict().keys() - unmoved
    head = [float((term.head.state_dict()[n] - loop.head.state_dict()[n]).abs().max()) for n in compared]
    assert max(head) <= 1e-6
    assert np.abs(found.params["3.weight"] - start(training.method)["3.weight"]).max() > 1e-4


def test_as_published_the_optimizers_moments_go_on_from_one_local_run_to_the_next() -> None:
    data, term = examples(BATCH * 3), adversary(PAPER)
    loop = Loop(PAPER, term.head, True)
    params = start(PAPER.method)
    for seed in (SEED, SEED + 1):
        params = fit(PAPER, params, data, TEXT, SCALE, seed, terms=[term]).params
        expected = loop.epoch(data, seed)
    assert apart(params, expected) <= 1e-6
    fresh = fit(PAPER, params, data, TEXT, SCALE, SEED, terms=[adversary(PAPER)]).params
    assert apart(fresh, loop.epoch(data, SEED)) > 1e-5


def test_the_head_of_a_node_learns_on_from_one_local_run_to_the_next_and_never_travels() -> None:
    term = adversary(OURS)
    before = {name: value.clone() for name, value in term.head.state_dict().items()}
    first = fit(OURS, start("faaclip"), examples(40), TEXT, SCALE, SEED, terms=[term])
    middle = {name: value.clone() for name, value in term.head.state_dict().items()}
    fit(OURS, first.params, examples(40), TEXT, SCALE, SEED, terms=[term])
    assert not torch.equal(before["0.weight"], middle["0.weight"])
    assert not torch.equal(middle["0.weight"], term.head.state_dict()["0.weight"])
    assert first.params.keys() == start("faaclip").keys()


def test_the_first_step_of_the_ramp_trains_the_head_and_leaves_the_adapter_to_the_class_loss() -> None:
    data = examples(BATCH)
    with_head = fit(OURS, start("faaclip"), data, TEXT, SCALE, SEED, terms=[adversary(OURS)])
    without = fit(OURS, start("faaclip"), data, TEXT, SCALE, SEED)
    assert with_head.steps == 1
    # Adam takes the same step for a gradient of -0 as for one of 0, and for one of 1e-30 as for one of 1.
    assert apart(with_head.params, {name: torch.tensor(value) for name, value in without.params.items()}) <= 1e-6


def test_the_same_seed_gives_the_same_params_and_another_draws_other_targets() -> None:
    data = examples(40)
    runs = [
        fit(OURS, start("faaclip"), data, TEXT, SCALE, seed, terms=[adversary(OURS)]).params["0.weight"]
        for seed in (SEED, SEED, SEED + 1)
    ]
    assert (runs[0] == runs[1]).all()
    assert (runs[0] != runs[2]).any()


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_the_reversed_gradient_is_minus_strength_times_a_finite_difference(strength: float) -> None:
    at = torch.tensor(rows(3, 8), dtype=torch.float64, requires_grad=True)
    weights = torch.tensor(rows(1, 9)[0], dtype=torch.float64)

    def told(values: torch.Tensor) -> torch.Tensor:
        return torch.sin(values @ weights).sum() + (values**3).mean()

    assert torch.equal(reversed_gradient(at, strength), at)
    told(reversed_gradient(at, strength)).backward()  # type: ignore[no-untyped-call]
    assert at.grad is not None
    step = 1e-6
    for row, column in np.ndindex(3, DIM):
        moved = torch.zeros_like(at)
        moved[row, column] = step
        slope = float((told(at.detach() + moved) - told(at.detach() - moved)) / (2 * step))
        assert float(at.grad[row, column]) == pytest.approx(-strength * slope, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", [name for name, how in METHODS.items() if isinstance(how, FeatureAdaptation)])
def test_the_adapter_has_526336_trained_params_at_512_dimensions_and_its_state_names(name: str) -> None:
    how = method(name)
    params, module = how.start(512, np.random.default_rng(0)), how.module(512)
    assert sum(value.numel() for value in module.parameters()) == 526_336
    assert sum(value.size for value in params.values()) == 526_336 + (1024 if name.endswith("-reference") else 0)
    assert list(params) == list(module.state_dict())
    assert {k: v.shape for k, v in params.items()} == {k: tuple(v.shape) for k, v in module.state_dict().items()}


def test_the_domain_head_has_527873_params_at_512_dimensions() -> None:
    head = domain_head(512, np.random.default_rng(0))
    assert sum(value.numel() for value in head.parameters()) == 527_873
    first = head.get_parameter("0.weight")
    assert float(first.detach().abs().max()) <= 512**-0.5
    assert float(first.detach().std()) == pytest.approx(float(nn.Linear(512, 512).weight.detach().std()), rel=0.05)
