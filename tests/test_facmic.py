"""FACMIC and its local MMD, against loops over every pair that are written here from the definition."""

from dataclasses import replace
from math import exp

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fedmq_models.methods import method
from fedmq_models.methods.facmic import local_mmd
from fedmq_models.target import Target
from fedmq_models.training import Training, fit, terms_of
from test_faaclip import BATCH, CLASSES, DIM, POOL, SCALE, SEED, TEXT, apart, drawn, examples, rows

PAPER = Training(
    method="facmic-reference",
    loss="reference",
    lr=5e-5,
    weight_decay=0.02,
    batch_size=BATCH,
    target=Target(ramp_steps=0),
)
OURS = Training(method="facmic", lr=1e-3, batch_size=BATCH, target=Target(ramp_steps=4, weight=3.0))

ALONE = replace(OURS, target=replace(OURS.target, sides="node"))


def shares(count: int, seed: int, classes: int = CLASSES) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), count)
    return values


def naive(
    source: NDArray[np.float64], target: NDArray[np.float64], labels: NDArray[np.int64], likely: NDArray[np.float64]
) -> float:
    """Sum over classes, pairs and kernels, one by one."""
    both = [*source, *target]
    count = len(both)
    mean = sum(float(((a - b) ** 2).sum()) for a in both for b in both) / (count * count - count)

    def kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return sum(exp(-float(((a - b) ** 2).sum()) / (mean / 4 * 2**k)) for k in range(5))

    total, counted = 0.0, 0
    for c in range(likely.shape[1]):
        if c not in labels or c not in likely.argmax(axis=1):
            continue
        ours = (labels == c) / (labels == c).sum()
        theirs = likely[:, c] / likely[:, c].sum()
        total += sum(ours[i] * ours[j] * kernel(a, b) for i, a in enumerate(source) for j, b in enumerate(source))
        total += sum(theirs[i] * theirs[j] * kernel(a, b) for i, a in enumerate(target) for j, b in enumerate(target))
        total -= 2 * sum(ours[i] * theirs[j] * kernel(a, b) for i, a in enumerate(source) for j, b in enumerate(target))
        counted += 1
    return total / max(1, counted)


@pytest.mark.parametrize(("ours", "theirs"), [(12, 12), (9, 14), (2, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_the_local_mmd_equals_a_loop_over_classes_pairs_and_kernels(ours: int, theirs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, target = rng.standard_normal((ours, 6)), rng.standard_normal((theirs, 6)) + 0.5
    labels, likely = rng.integers(0, CLASSES, ours), shares(theirs, seed)
    found = local_mmd(*map(torch.tensor, (source, target, labels, likely)))
    assert float(found) == pytest.approx(naive(source, target, labels, likely), rel=1e-9, abs=1e-12)


def test_without_a_class_in_common_the_local_mmd_is_zero_and_has_no_gradient() -> None:
    source = torch.randn(4, 6, requires_grad=True)
    likely = torch.tensor([[0.1, 0.9, 0.0]] * 3)
    distance = local_mmd(source, torch.randn(3, 6), torch.tensor([0, 0, 2, 2]), likely)
    distance.backward()  # type: ignore[no-untyped-call]
    assert float(distance.detach()) == 0.0
    assert source.grad is not None
    assert not source.grad.any()


def test_the_local_mmd_of_a_domain_with_itself_is_zero_and_grows_with_the_shift() -> None:
    values, labels = torch.tensor(rows(10, 1), dtype=torch.float64), torch.arange(10) % CLASSES
    likely = torch.nn.functional.one_hot(labels, CLASSES).to(torch.float64)
    found = [float(local_mmd(values, values + shift, labels, likely)) for shift in (0.0, 0.5, 1.0)]
    assert abs(found[0]) < 1e-12 < found[1] < found[2]


def test_features_that_are_all_the_same_are_no_division_by_zero() -> None:
    same = torch.ones(4, 6, requires_grad=True)
    distance = local_mmd(same, torch.ones(4, 6), torch.tensor([0, 1, 0, 1]), torch.eye(4)[:, :2] + 0.1)
    distance.backward()  # type: ignore[no-untyped-call]
    assert np.isfinite(float(distance.detach()))
    assert same.grad is not None
    assert bool(same.grad.isfinite().all())


def mmd(source: torch.Tensor, target: torch.Tensor, labels: NDArray[np.int64], likely: torch.Tensor) -> torch.Tensor:
    """The same, class by class, with torch's own distances and gradients."""
    both = torch.cat([source, target])
    squares = ((both[:, None, :] - both[None, :, :]) ** 2).sum(dim=2)
    width = squares.detach().sum() / (len(both) ** 2 - len(both)) / 4
    kernels = sum(torch.exp(-squares / (width * 2**k)) for k in range(5))
    assert isinstance(kernels, torch.Tensor)
    n, parts = len(source), []
    for c in set(labels.tolist()) & set(likely.argmax(dim=1).tolist()):
        ours = torch.tensor(labels == c, dtype=torch.float32)
        ours, theirs = ours / ours.sum(), likely[:, c] / likely[:, c].sum()
        within = ours @ kernels[:n, :n] @ ours + theirs @ kernels[n:, n:] @ theirs
        parts.append(within - 2 * ours @ kernels[:n, n:] @ theirs)
    return torch.stack(parts).mean() if parts else torch.zeros(())


@pytest.mark.parametrize(
    ("training", "published"), [(PAPER, True), (OURS, False), (ALONE, False)], ids=["published", "ours", "one side"]
)
def test_one_local_epoch_equals_a_loop_written_from_the_specification(training: Training, published: bool) -> None:
    data, start = examples(BATCH * 5 + 3), method(training.method).start(DIM, np.random.default_rng(2))
    norm = nn.BatchNorm1d(DIM) if published else nn.LayerNorm(DIM)
    fam = nn.Sequential(nn.Linear(DIM, DIM), norm, nn.LeakyReLU(), nn.Linear(DIM, DIM), nn.Softmax(dim=1))
    fam.load_state_dict({name: torch.tensor(value) for name, value in start.items()}, strict=False)
    decay = training.weight_decay
    optimizer = torch.optim.Adam(fam.parameters(), lr=training.lr, betas=(0.9, 0.98), eps=1e-6, weight_decay=decay)
    order, targets, words = np.random.default_rng(SEED).permutation(len(data)), drawn(SEED), torch.tensor(TEXT)
    for step, first in enumerate(range(0, len(order), BATCH)):
        chosen = order[first : first + BATCH]
        image, target, labels = torch.tensor(data.features[chosen]), torch.tensor(next(targets)), data.labels[chosen]
        image = nn.functional.normalize(fam(image) * image, dim=1)
        target = nn.functional.normalize(target if published else fam(target) * target, dim=1)
        target = target.detach() if training is ALONE else target
        likely = torch.softmax(SCALE * target.detach() @ words.t(), dim=1)
        if published:
            logits, diagonal = SCALE * image @ words[labels].t(), torch.arange(len(labels))
            told = [nn.functional.cross_entropy(one, diagonal) for one in (logits, logits.t())]
            loss = (told[0] + told[1]) / 2 + mmd(image, target, labels, likely)
        else:
            strength = 3.0 * (2 / (1 + np.exp(-10 * min(step / 4, 1))) - 1)
            loss = nn.functional.cross_entropy(SCALE * image @ words.t(), torch.tensor(labels))
            loss = loss + strength * mmd(image, target, labels, likely)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    found = fit(training, start, data, TEXT, SCALE, SEED, terms=terms_of(training, POOL, seed=4)).params
    state = {name: value for name, value in fam.state_dict().items() if "num_batches" not in name}
    assert apart(found, state) <= 1e-6
    without = fit(training, start, data, TEXT, SCALE, SEED).params
    assert apart(without, state) > 1e-5
