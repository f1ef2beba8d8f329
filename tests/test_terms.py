"""FedProx and MOON against loops that are written here from their papers, in plain PyTorch."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from fedmq_models.errors import OptionInvalid
from fedmq_models.examples import Examples
from fedmq_models.training import Training, fit
from test_methods import DIM, SCALE, begun, examples, moved, text

LR, SEED = 0.05, 11
PLAIN = Training(optimizer="sgd", lr=LR, epochs=2, batch_size=16)
Added = Callable[[nn.Sequential, torch.Tensor, torch.Tensor], torch.Tensor]


def gate(params: dict[str, NDArray[np.float32]]) -> nn.Sequential:
    made = nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh(), nn.Linear(DIM, DIM), nn.Softmax(dim=1))
    made.load_state_dict({name: torch.tensor(value) for name, value in params.items()})
    return made


def orders(data: Examples, epochs: int) -> list[NDArray[np.int64]]:
    rng = np.random.default_rng(SEED)
    return [order[at : at + 16] for order in (rng.permutation(len(data)) for _ in range(epochs)) for at in (0, 16, 32)]


def loop(params: dict[str, NDArray[np.float32]], data: Examples, added: Added) -> dict[str, NDArray[np.float32]]:
    """Train FedCLIP's gate by gradient descent on cross-entropy and what is added to it."""
    model = gate(params)
    for rows in orders(data, 2):
        image = torch.tensor(data.features[rows])
        adapted = model(image) * image
        logits = SCALE * functional.normalize(adapted, dim=1) @ torch.tensor(text()).T
        loss = functional.cross_entropy(logits, torch.tensor(data.labels[rows])) + added(model, image, adapted)
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for value in model.parameters():
                assert value.grad is not None
                value.sub_(LR * value.grad)
    return {name: value.numpy() for name, value in model.state_dict().items()}


def distances(a: dict[str, NDArray[np.float32]], b: dict[str, NDArray[np.float32]]) -> float:
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


@pytest.mark.parametrize("mu", [0.0, 0.1, 1.0])
def test_fedprox_equals_its_papers_loop_and_is_fedavgs_at_mu_0(mu: float) -> None:
    data, start = examples(48), begun("fedclip")

    def proximal(model: nn.Sequential, _image: torch.Tensor, _adapted: torch.Tensor) -> torch.Tensor:
        parts = [((value - torch.tensor(start[name])) ** 2).sum() for name, value in model.named_parameters()]
        return mu / 2 * sum(parts, torch.zeros(()))

    found = fit(replace(PLAIN, prox=mu), start, data, text(), SCALE, SEED).params
    assert distances(found, loop(start, data, proximal)) <= 1e-6
    assert distances(found, start) > 1e-3


def test_the_larger_mu_the_nearer_a_node_stays_to_its_version() -> None:
    data, start = examples(48), begun("fedclip")
    ends = [fit(replace(PLAIN, prox=mu), start, data, text(), SCALE, SEED).params for mu in (0.0, 1.0, 10.0)]
    far = [np.sqrt(sum(np.square(end[name] - start[name]).sum() for name in start)) for end in ends]
    assert far[0] > far[1] > far[2] > 0


def test_fedprox_does_not_hold_back_what_stays_on_the_node() -> None:
    """With everything shared the rotation is held as well; with the head alone it is not."""
    training = Training(method="fedot", optimizer="sgd", lr=0.01, epochs=2, prox=30.0, batch_size=16)
    start, data = begun("fedot"), examples(48)
    alone, everything = (
        fit(replace(training, share=share), start, data, text(), SCALE, SEED).params["rotation.blocks"]
        for share in ((), ("head", "rotation"))
    )
    assert np.abs(alone).max() > 1.5 * np.abs(everything).max() > 0


def test_moon_equals_its_papers_loop() -> None:
    data, start, last = examples(48), begun("fedclip"), moved("fedclip")
    version, previous = gate(start), gate({name: last[name] for name in start})

    def contrast(_model: nn.Sequential, image: torch.Tensor, adapted: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            positive, negative = version(image) * image, previous(image) * image
        pair = [functional.cosine_similarity(adapted, other).reshape(-1, 1) for other in (positive, negative)]
        logits = torch.cat(pair, dim=1) / 0.5
        return 5.0 * functional.cross_entropy(logits, torch.zeros(len(image), dtype=torch.long))

    found = fit(replace(PLAIN, moon=5.0), start, data, text(), SCALE, SEED, previous=last).params
    assert distances(found, loop(start, data, contrast)) <= 1e-6
    plain = fit(PLAIN, start, data, text(), SCALE, SEED).params
    assert distances(found, plain) > 1e-4


def test_a_nodes_first_run_has_nothing_to_be_drawn_away_from() -> None:
    data, start = examples(48), begun("fedclip")
    first, plain = (fit(how, start, data, text(), SCALE, SEED).params for how in (replace(PLAIN, moon=5.0), PLAIN))
    assert distances(first, plain) == 0


def test_the_loss_that_is_told_is_that_of_the_examples_alone() -> None:
    data, start = examples(16), begun("fedclip")
    once, last = replace(PLAIN, steps=1), moved("fedclip")
    ways = (once, replace(once, moon=9.0))
    told = {fit(how, start, data, text(), SCALE, SEED, previous=last).loss for how in ways}
    assert len(told) == 1


def test_moon_without_an_adapter_is_refused() -> None:
    with pytest.raises(OptionInvalid, match="task.moon is 1, but linear has no adapter: its features never move"):
        Training(method="linear", moon=1.0)
