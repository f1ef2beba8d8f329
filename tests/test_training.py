"""Local training against plain PyTorch loops that are written here from the papers."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from fedmq_models.errors import OptionInvalid
from fedmq_models.examples import Examples
from fedmq_models.methods import METHODS, method
from fedmq_models.training import Fit, Training, fit, warm_up

DIM, CLASSES, SCALE, SEED = 16, 5, 20.0, 11
PAPER = Training(loss="reference", lr=5e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2, batch_size=32)


def examples(count: int, dim: int = DIM, seed: int = 0) -> Examples:
    """Raw CLIP-like features: not normalised, norm about 10."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((count, dim)).astype(np.float32)
    features *= 10 / np.linalg.norm(features, axis=1, keepdims=True)
    return Examples(features, np.arange(count), rng.integers(0, CLASSES, count))


def text(dim: int = DIM) -> NDArray[np.float32]:
    rows = np.random.default_rng(1).standard_normal((CLASSES, dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def start(dim: int = DIM) -> dict[str, NDArray[np.float32]]:
    return method("fedclip").start(dim, np.random.default_rng(2))


def trained(training: Training, data: Examples, stop: Callable[[], bool] = lambda: False) -> Fit:
    return fit(training, start(), data, text(), SCALE, SEED, stop)


class PaperLoop:
    """FedCLIP's local epoch as its paper and published loop have it (arXiv:2302.13485), without anything of ours."""

    def __init__(self, dim: int) -> None:
        self.adapter = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, dim), nn.Softmax(dim=1))
        self.adapter.load_state_dict({name: torch.tensor(value) for name, value in start(dim).items()})

    def epoch(self, data: Examples, order: NDArray[np.int64], prompts: NDArray[np.float32]) -> dict[str, torch.Tensor]:
        optimizer = torch.optim.Adam(self.adapter.parameters(), lr=5e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)
        for first in range(0, len(order), 32):
            rows = order[first : first + 32]
            if len(rows) <= 1:
                continue
            image = torch.tensor(data.features[rows])
            image = self.adapter(image) * image
            image = image / image.norm(dim=1, keepdim=True)
            words = torch.tensor(prompts[data.labels[rows]])
            logits = SCALE * image @ words.t()
            target = torch.arange(len(rows))
            loss = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.t(), target)) / 2
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return self.adapter.state_dict()


def test_one_local_epoch_equals_the_papers_loop_to_1e_6() -> None:
    data = examples(33 * 3)  # the last batch has three
    order = np.random.default_rng(SEED).permutation(len(data))
    expected = PaperLoop(DIM).epoch(data, order, text())
    found = trained(PAPER, data).params
    assert {name: float(np.abs(found[name] - value.numpy()).max()) <= 1e-6 for name, value in expected.items()} == (
        dict.fromkeys(found, True)
    )
    assert np.abs(found["2.weight"] - start()["2.weight"]).max() > 1e-5


def test_a_last_batch_of_one_is_left_out_as_in_the_papers_loop() -> None:
    data = examples(65)
    order = np.random.default_rng(SEED).permutation(len(data))
    expected = PaperLoop(DIM).epoch(data, order, text())
    run = trained(PAPER, data)
    assert run.steps == 2
    assert np.abs(run.params["0.weight"] - expected["0.weight"].numpy()).max() <= 1e-6


def test_the_class_loss_equals_the_image_half_of_the_reference_loss_where_each_class_occurs_once() -> None:
    how = method("fedclip")
    adapted, labels = torch.randn(CLASSES, DIM), torch.randperm(CLASSES)
    prompts = torch.tensor(text())
    logits = SCALE * functional.normalize(adapted, dim=1) @ prompts.T
    half = functional.cross_entropy(logits[:, labels], torch.arange(CLASSES))
    assert float(how.loss("class", adapted, labels, prompts, SCALE)) == pytest.approx(float(half), rel=1e-6)


def test_fedclips_adapter_has_525312_params_at_512_dimensions_and_its_state_names() -> None:
    params = start(512)
    assert sum(value.size for value in params.values()) == 525_312
    assert list(params) == list(method("fedclip").module(512).state_dict())


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_numpy_and_torch_forms_agree(name: str) -> None:
    how, data = method(name), examples(64)
    params = how.start(DIM, np.random.default_rng(2))
    module = how.module(DIM)
    module.load_state_dict({key: torch.tensor(value) for key, value in params.items()})
    with torch.no_grad():
        expected = module(torch.tensor(data.features)).numpy()
    np.testing.assert_allclose(how.adapt(params, data.features), expected, rtol=1e-5, atol=1e-6)


def test_version_0_is_drawn_as_torch_draws_a_linear_layer() -> None:
    params = start(256)
    layer = nn.Linear(256, 256)
    assert {name: float(np.abs(value).max()) <= 256**-0.5 for name, value in params.items()} == dict.fromkeys(
        params, True
    )
    assert params["0.weight"].std() == pytest.approx(float(layer.weight.detach().std()), rel=0.05)


def test_training_lowers_the_loss() -> None:
    data = examples(200)
    losses = [trained(Training(lr=1e-2, epochs=epochs), data).loss for epochs in (1, 30)]
    assert losses[1] < 0.9 * losses[0]


def test_the_same_seed_gives_the_same_params_and_another_does_not() -> None:
    data = examples(100)
    first, again = trained(Training(), data), trained(Training(), data)
    other = fit(Training(), start(), data, text(), SCALE, SEED + 1)
    assert all((first.params[name] == again.params[name]).all() for name in first.params)
    assert (first.params["0.weight"] != other.params["0.weight"]).any()


def test_the_params_that_were_given_are_not_changed() -> None:
    given = start()
    fit(Training(), given, examples(64), text(), SCALE, SEED)
    assert all((given[name] == value).all() for name, value in start().items())


@pytest.mark.parametrize(("epochs", "steps", "taken"), [(1, 0, 4), (3, 0, 12), (1, 3, 3), (1, 10, 10)])
def test_epochs_are_whole_passes_and_steps_are_batches(epochs: int, steps: int, taken: int) -> None:
    assert trained(Training(epochs=epochs, steps=steps), examples(100)).steps == taken


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_each_optimizer_takes_the_step_of_its_torch_namesake(optimizer: str) -> None:
    data, training = examples(32), Training(optimizer=optimizer, lr=0.1, weight_decay=0.01, momentum=0.5)  # type: ignore[arg-type]
    how = method("fedclip")
    module = how.module(DIM)
    module.load_state_dict({name: torch.tensor(value) for name, value in start().items()})
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adam": partial(torch.optim.Adam, betas=(0.9, 0.98), eps=1e-6),
        "adamw": partial(torch.optim.AdamW, betas=(0.9, 0.98), eps=1e-6),
        "sgd": partial(torch.optim.SGD, momentum=0.5),
    }
    namesake = kinds[optimizer](module.parameters(), lr=0.1, weight_decay=0.01)
    order = np.random.default_rng(SEED).permutation(32)
    batch, labels = torch.tensor(data.features[order]), torch.tensor(data.labels[order])
    how.loss("class", module(batch), labels, torch.tensor(text()), SCALE).backward()  # type: ignore[no-untyped-call]
    namesake.step()
    expected = module.state_dict()["2.weight"].numpy()
    np.testing.assert_allclose(trained(training, data).params["2.weight"], expected, atol=1e-6)


def test_stopping_returns_what_was_reached() -> None:
    asked = iter([False, False, True])
    assert trained(Training(), examples(200), stop=lambda: next(asked)).steps == 2


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_examples_for_a_batch_train_nothing(count: int) -> None:
    run = trained(Training(), examples(count))
    assert (run.steps, run.loss) == (0, 0.0)


def test_only_the_rows_that_are_meant_are_trained_on() -> None:
    data = examples(100)
    half = data.where(np.arange(100) < 50)
    garbage = Examples(np.vstack([data.features[:50], np.full((50, DIM), np.nan, np.float32)]), half.rows, half.labels)
    found, expected = trained(Training(), garbage), trained(Training(), half)
    assert all((found.params[name] == expected.params[name]).all() for name in expected.params)


def test_a_loss_that_the_method_does_not_have_is_refused_with_those_it_has() -> None:
    with pytest.raises(OptionInvalid, match="task.loss is 'hinge'; fedclip has class, reference"):
        Training(loss="hinge")
    with pytest.raises(OptionInvalid, match="no method named 'magic'; there are fedclip"):
        Training(method="magic")


def test_warming_up_sets_the_threads() -> None:
    before = torch.get_num_threads()
    try:
        warm_up(Training(), 1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
