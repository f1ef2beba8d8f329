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
from fedmq_models.methods import Adapting, method
from fedmq_models.target import Target
from fedmq_models.terms import Moon
from fedmq_models.training import Fit, Training, fit, terms_of
from test_methods import DIM, SCALE, TRAINED, begun, examples, moved, text

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


def fitted(training: Training, start: dict[str, NDArray[np.float32]], data: Examples) -> Fit:
    return fit(training, start, data, text(), SCALE, SEED, terms=terms_of(training))


def distances(a: dict[str, NDArray[np.float32]], b: dict[str, NDArray[np.float32]]) -> float:
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


@pytest.mark.parametrize("mu", [0.0, 0.1, 1.0])
def test_fedprox_equals_its_papers_loop_and_is_fedavgs_at_mu_0(mu: float) -> None:
    data, start = examples(48), begun("fedclip")

    def proximal(model: nn.Sequential, _image: torch.Tensor, _adapted: torch.Tensor) -> torch.Tensor:
        parts = [((value - torch.tensor(start[name])) ** 2).sum() for name, value in model.named_parameters()]
        return mu / 2 * sum(parts, torch.zeros(()))

    found = fitted(replace(PLAIN, prox=mu), start, data).params
    assert distances(found, loop(start, data, proximal)) <= 1e-6
    assert distances(found, start) > 1e-3


def test_the_larger_mu_the_nearer_a_node_stays_to_its_version() -> None:
    data, start = examples(48), begun("fedclip")
    ends = [fitted(replace(PLAIN, prox=mu), start, data).params for mu in (0.0, 1.0, 10.0)]
    far = [np.sqrt(sum(np.square(end[name] - start[name]).sum() for name in start)) for end in ends]
    assert far[0] > far[1] > far[2] > 0


def test_fedprox_does_not_hold_back_what_stays_on_the_node() -> None:
    """With everything shared the rotation is held as well; with the head alone it is not."""
    training = Training(method="fedot", optimizer="sgd", lr=0.01, epochs=2, prox=30.0, batch_size=16)
    start, data = begun("fedot"), examples(48)
    alone, everything = (
        fitted(replace(training, share=share), start, data).params["rotation.blocks"]
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

    found = fit(PLAIN, start, data, text(), SCALE, SEED, terms=[Moon(5.0, last)]).params
    assert distances(found, loop(start, data, contrast)) <= 1e-6
    plain = fitted(PLAIN, start, data).params
    assert distances(found, plain) > 1e-4


def test_a_nodes_first_run_has_nothing_to_be_drawn_away_from() -> None:
    data, start = examples(48), begun("fedclip")
    first, plain = (fitted(how, start, data).params for how in (replace(PLAIN, moon=5.0), PLAIN))
    assert distances(first, plain) == 0


def test_the_loss_that_is_told_is_that_of_the_examples_alone() -> None:
    data, start = examples(16), begun("fedclip")
    once = replace(PLAIN, steps=1)
    ways: tuple[list[Moon], ...] = ([], [Moon(9.0, moved("fedclip"))])
    told = {fit(once, start, data, text(), SCALE, SEED, terms=terms).loss for terms in ways}
    assert len(told) == 1


@pytest.mark.parametrize("name", ["linear", "statistics"])
def test_moon_without_an_adapter_is_refused(name: str) -> None:
    with pytest.raises(OptionInvalid, match=f"task.moon is 1, but {name} has no adapter: its features never move"):
        Training(method=name, moon=1.0)


def test_moon_keeps_what_a_run_reached_and_the_next_run_is_drawn_away_from_it() -> None:
    data, start = examples(48), begun("fedclip")
    kept = terms_of(replace(PLAIN, moon=5.0))
    first = fit(PLAIN, start, data, text(), SCALE, SEED, terms=kept).params
    second, expected = (
        fit(PLAIN, first, data, text(), SCALE, SEED + 1, terms=terms).params for terms in (kept, [Moon(5.0, first)])
    )
    assert distances(second, expected) == 0


ALL = Training(lr=0.01, batch_size=16, prox=0.1, moon=1.0, target=Target(ramp_steps=0))


@pytest.mark.parametrize("name", [name for name in TRAINED if name != "linear"])
def test_every_method_trains_with_all_terms_at_once_and_they_change_what_it_learns(name: str) -> None:
    """FedProx, MOON, and for a method that adapts its own: sums of losses, each with a state of its own."""
    data, training = examples(48), replace(ALL, method=name)
    kept, pool = terms_of(training, moved_features(), seed=3), begun(name)
    assert len(kept) == 2 + isinstance(method(name), Adapting)
    runs = [fit(training, pool, data, text(), SCALE, SEED, terms=terms) for terms in (kept, kept, ())]
    assert all(np.isfinite(value).all() for run in runs for value in run.params.values())
    assert len({run.params[next(iter(pool))].tobytes() for run in runs}) == 3
    assert {key: value.shape for key, value in runs[1].params.items()} == {k: v.shape for k, v in pool.items()}


@pytest.mark.parametrize("name", ["faaclip-reference"])
def test_fedprox_leaves_statistics_that_nobody_trains_alone(name: str) -> None:
    data, training = examples(48), Training(method=name, optimizer="sgd", lr=1e-9, prox=1e6, batch_size=16)
    with_prox, without = (
        fit(training, begun(name), data, text(), SCALE, SEED, terms=terms).params["1.running_mean"]
        for terms in (terms_of(training), ())
    )
    np.testing.assert_allclose(with_prox, without, rtol=1e-5)
    assert np.abs(without).max() > 0.01


def moved_features() -> NDArray[np.float32]:
    return examples(40, seed=9).features + 1
