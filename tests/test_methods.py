"""What holds for every method: its forms agree, and version 0 is the frozen model."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedmq.delta import digest_of, gather
from fedmq_models import classifier
from fedmq_models.errors import OptionInvalid
from fedmq_models.examples import Examples
from fedmq_models.head import BIAS, HEAD, Head, affine, without
from fedmq_models.methods import METHODS, logits, method, version_0
from fedmq_models.methods.feature_adaptation import MEAN, VARIANCE
from fedmq_models.training import Training, advance, fit

DIM, CLASSES, SCALE = 12, 5, 20.0
# A gate as FedCLIP has it draws its layers at random. It is nearly uniform at first, and no more than that.
GATES = {name for name, how in METHODS.items() if how.head is Head.TEXT}

TRAINED = [name for name, how in METHODS.items() if how.head is not Head.SOLVED]

Params = dict[str, NDArray[np.float32]]


def examples(count: int = 64, seed: int = 0) -> Examples:
    """Raw CLIP-like features: not normalised, norm about 10."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((count, DIM)).astype(np.float32)
    features *= 10 / np.linalg.norm(features, axis=1, keepdims=True)
    return Examples(features, np.arange(count), rng.integers(0, CLASSES, count))


def text() -> NDArray[np.float32]:
    return classifier.normalised(np.random.default_rng(1).standard_normal((CLASSES, DIM)))


def begun(name: str) -> Params:
    return version_0(method(name), text(), SCALE, np.random.default_rng(2))


def moved(name: str) -> Params:
    """Params away from where they begin, so that every piece of a method shows."""
    rng = np.random.default_rng(3)
    return {
        key: value + rng.normal(0, 0.2, value.shape).astype(np.float32) for key, value in sorted(begun(name).items())
    }


def settled(params: Params, features: NDArray[np.float32]) -> Params:
    """With a batch norm's statistics as they are of these features; a method without one is as it was."""
    if VARIANCE not in params:
        return params
    hidden = features @ params["0.weight"].T + params["0.bias"]
    return params | {MEAN: hidden.mean(axis=0), VARIANCE: hidden.var(axis=0)}


@pytest.mark.parametrize("name", METHODS)
def test_version_0_classifies_as_the_frozen_model_does(name: str) -> None:
    features = examples().features
    found = logits(method(name), begun(name), features, text(), SCALE)
    expected = classifier.logits(features, text(), SCALE)
    if name in GATES:
        adapted = method(name).adapt(begun(name), features)
        assert (np.sum(classifier.normalised(adapted) * classifier.normalised(features), axis=1) > 0.6).all()
    else:
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_numpy_and_torch_forms_agree(name: str) -> None:
    how, params, data = method(name), moved(name), examples()
    module = how.module(DIM)
    module.load_state_dict({key: torch.tensor(value) for key, value in without(params).items()})
    with torch.no_grad():
        expected = module.eval()(torch.tensor(data.features)).numpy()
    np.testing.assert_allclose(how.adapt(params, data.features), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_of_a_method_is_the_cross_entropy_of_its_logits(name: str) -> None:
    how, data = method(name), examples()
    params = settled(moved(name), data.features)
    run = fit(Training(method=name, steps=1, lr=1e-9, batch_size=64), params, data, text(), SCALE, seed=0)
    shares = classifier.probabilities(logits(how, params, data.features, text(), SCALE))
    expected = -np.log(shares[np.arange(64), data.labels]).mean()
    assert run.loss == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("name", TRAINED)
def test_training_moves_every_param_and_lowers_the_loss(name: str) -> None:
    data = examples(200)
    runs = [fit(Training(method=name, lr=0.05, epochs=n), begun(name), data, text(), SCALE, seed=0) for n in (1, 10)]
    assert runs[1].loss < 0.9 * runs[0].loss
    assert {key: bool((value != begun(name)[key]).any()) for key, value in runs[1].params.items()} == dict.fromkeys(
        begun(name), True
    )


@pytest.mark.parametrize("name", TRAINED)
def test_params_that_are_trained_where_they_lie_have_the_bits_of_copies_that_are(name: str) -> None:
    data, given, training = examples(100), begun(name), Training(method=name, lr=0.05)
    run = fit(training, given, data, text(), SCALE, seed=3)
    assert all((given[key] == value).all() for key, value in begun(name).items())
    whole = gather(given)
    assert advance(training, whole.named(), data, text(), SCALE, seed=3) == (run.steps, run.loss)
    assert digest_of(whole) == digest_of(gather(run.params))


@pytest.mark.parametrize(("name", "travels", "stays"), [("linear", 7 * 512, 0), ("fedot", 7 * 512, 512 * 64)])
def test_a_head_of_seven_classes_has_3584_params(name: str, travels: int, stays: int) -> None:
    words = classifier.normalised(np.random.default_rng(0).standard_normal((7, 512)))
    sizes = {key: value.size for key, value in version_0(method(name), words, SCALE, np.random.default_rng(0)).items()}
    assert (sizes.pop(HEAD), sum(sizes.values())) == (travels, stays)


def test_fedots_rotation_keeps_lengths_and_angles_within_a_block_and_equals_cayleys_formula() -> None:
    how = method("fedot")
    free = np.random.default_rng(0).normal(0, 0.5, (1, DIM, DIM)).astype(np.float32)
    skew = (free[0] - free[0].T).astype(np.float64) / 2
    rotation = (np.eye(DIM) + skew) @ np.linalg.inv(np.eye(DIM) - skew)
    features = examples().features
    found = how.adapt({"rotation.blocks": free}, features)
    np.testing.assert_allclose(found, features @ rotation.T, atol=1e-4)
    np.testing.assert_allclose(found @ found.T, features @ features.T, atol=1e-3)


def test_a_linear_head_learns_as_an_independent_softmax_regression_does() -> None:
    """Gradient descent on cross-entropy, written down in numpy: W -= lr * s * mean((softmax(s W x) - onehot(y)) x')."""
    data = examples(60)
    training = Training(method="linear", optimizer="sgd", lr=0.01, epochs=3, batch_size=60)
    found = fit(training, begun("linear"), data, text(), SCALE, seed=4).params[HEAD]
    head, unit = text().astype(np.float64), classifier.normalised(data.features).astype(np.float64)
    for _ in range(3):
        scores = np.exp(SCALE * unit @ head.T)
        shares = scores / scores.sum(axis=1, keepdims=True)
        head -= 0.01 * SCALE * (shares - np.eye(CLASSES)[data.labels]).T @ unit / 60
    np.testing.assert_allclose(found, head, atol=1e-5)
    assert np.abs(found - text()).max() > 0.01


def test_a_head_that_is_solved_is_not_trained() -> None:
    with pytest.raises(OptionInvalid, match="'statistics' is not trained: its head is solved by the aggregator"):
        fit(Training(method="statistics"), begun("statistics"), examples(), text(), SCALE, seed=0)


def test_heads_that_are_learned_and_solved_classify_alike_where_they_are_the_scale_apart() -> None:
    rng, features = np.random.default_rng(5), examples().features
    rows = rng.normal(size=(CLASSES, DIM)).astype(np.float32)
    inside = {HEAD: SCALE * rows, BIAS: np.zeros(CLASSES, np.float32)}
    found = [
        logits(method(name), params, features, text(), SCALE)
        for name, params in (("linear", {HEAD: rows}), ("statistics", inside))
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-4)
    for name, params in (("linear", {HEAD: rows}), ("statistics", inside | {BIAS: rows[:, 0]})):
        weights, bias = affine(params, text(), SCALE)
        unit = classifier.normalised(features) @ weights.T + (0 if bias is None else bias)
        np.testing.assert_allclose(unit, logits(method(name), params, features, text(), SCALE), rtol=1e-4, atol=1e-4)
