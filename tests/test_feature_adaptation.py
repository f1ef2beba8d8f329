"""The feature adaptation module is one formula in numpy, in torch and in ONNX."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

import linear_encoder
from fedmq_models import classifier
from fedmq_models.encode import Encoder
from fedmq_models.errors import BundleMismatch
from fedmq_models.export import export_adapted
from fedmq_models.methods import METHODS, Adapting, method

DIM, SIZE = linear_encoder.DIM, linear_encoder.SIZE
ADAPTING = [name for name, how in METHODS.items() if isinstance(how, Adapting)]
Array = NDArray[np.float32]


def learned(name: str, dim: int = DIM) -> dict[str, Array]:
    """Params as training might leave them: far from the start, statistics included."""
    rng = np.random.default_rng(1)
    params = {
        key: (value + rng.normal(0, 0.5, value.shape)).astype(np.float32)
        for key, value in method(name).start(dim, rng).items()
    }
    if "1.running_var" in params:
        params["1.running_var"] = rng.uniform(0.1, 5, dim).astype(np.float32)
    return params


def clip_like(count: int, dim: int) -> Array:
    """Features of norm 10, as CLIP's are about."""
    return 10 * classifier.normalised(np.random.default_rng(2).standard_normal((count, dim)))


def in_torch(name: str, params: dict[str, Array], features: Array) -> Array:
    module = method(name).module(features.shape[1])
    module.load_state_dict({key: torch.tensor(value) for key, value in params.items()})
    with torch.no_grad():
        found: Array = module.eval()(torch.tensor(features)).numpy()
    return found


@pytest.mark.parametrize("name", ADAPTING)
def test_numpy_and_torch_agree_to_1e_5(name: str) -> None:
    features = clip_like(64, 32)
    expected = in_torch(name, learned(name, 32), features)
    np.testing.assert_allclose(method(name).adapt(learned(name, 32), features), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["faaclip-reference"])
def test_batch_norm_is_torchs_own_in_training_and_after_it(name: str) -> None:
    features = torch.tensor(np.random.default_rng(2).standard_normal((64, DIM)).astype(np.float32))
    (_, norm, *_), theirs = method(name).module(DIM).children(), torch.nn.BatchNorm1d(DIM)
    for _ in range(3):
        torch.testing.assert_close(norm(features), theirs(features))
    torch.testing.assert_close(norm.eval()(features), theirs.eval()(features))
    assert {key: value.tolist() for key, value in norm.state_dict().items()} == {
        key: value.tolist() for key, value in theirs.state_dict().items() if key != "num_batches_tracked"
    }


@pytest.mark.parametrize("name", ADAPTING)
@pytest.mark.parametrize("opset", [11, 18])
def test_onnx_and_torch_agree_to_1e_5_on_cosines(name: str, opset: int, tmp_path: Path) -> None:
    made = linear_encoder.write_bundle(tmp_path / "b", scale=10.0, encoder={"opset": opset})
    path = export_adapted(made, method(name).middle(learned(name)), tmp_path / "adapted.onnx")
    pixels = np.random.default_rng(3).normal(size=(8, 3, SIZE, SIZE)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"pixels": pixels})
    adapted = in_torch(name, learned(name), Encoder(made, "cpu").encode(pixels))
    expected = classifier.logits(adapted, made.text, made.logit_scale)
    np.testing.assert_allclose(found / 20, expected / 20, atol=1e-5)


@pytest.mark.parametrize("name", ["faaclip-reference", "facmic-reference"])
def test_a_variance_that_compression_left_below_zero_counts_as_zero_in_every_form(name: str) -> None:
    features = np.random.default_rng(2).standard_normal((8, DIM)).astype(np.float32)
    below, at = learned(name), learned(name)
    below["1.running_var"][:3], at["1.running_var"][:3] = -0.01, 0.0
    np.testing.assert_array_equal(method(name).adapt(below, features), method(name).adapt(at, features))
    np.testing.assert_array_equal(in_torch(name, below, features), in_torch(name, at, features))


def test_params_of_another_norm_are_refused_with_both_shapes(tmp_path: Path) -> None:
    made = linear_encoder.write_bundle(tmp_path / "b")
    with pytest.raises(BundleMismatch, match=r"faaclip's adapter for features of 6 has .*not .*running_mean"):
        export_adapted(made, method("faaclip").middle(learned("faaclip-reference")), tmp_path / "adapted.onnx")


@pytest.mark.parametrize("name", ADAPTING)
def test_version_0_keeps_most_of_what_the_frozen_model_knows(name: str) -> None:
    features = clip_like(64, 128)
    adapted = method(name).adapt(method(name).start(128, np.random.default_rng(0)), features)
    cosines = (classifier.normalised(adapted) * classifier.normalised(features)).sum(axis=1)
    assert float(cosines.min()) > 0.8
