"""The adapted model as one ONNX file gives the logits that a node's own arithmetic gives."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from pydantic import TypeAdapter

import linear_encoder
from evaluation_data import DATA, needs
from fedmq_models import bundle, classifier
from fedmq_models.bundle import Bundle, Preprocess
from fedmq_models.encode import Encoder, read_pixels
from fedmq_models.errors import BundleMismatch, BundleUnreadable, BundleUnwritable, ExportUnavailable
from fedmq_models.export import export_adapted, zero_shot
from fedmq_models.head import affine
from fedmq_models.methods import METHODS, logits, method, version_0
from test_encoder import mobilenet

SIZE, DIM = linear_encoder.SIZE, linear_encoder.DIM
FEDCLIP = method("fedclip")


def params(dim: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"0.weight": (dim, dim), "0.bias": (dim,), "2.weight": (dim, dim), "2.bias": (dim,)}
    # Wider than an untrained adapter's, so that the gate is far from uniform and every piece of it shows.
    return {name: (2 * rng.normal(size=shape) / dim**0.5).astype(np.float32) for name, shape in shapes.items()}


def fedclip(features: np.ndarray, params: dict[str, np.ndarray]) -> np.ndarray:
    hidden = np.tanh(features @ params["0.weight"].T + params["0.bias"])
    scores = hidden @ params["2.weight"].T + params["2.bias"]
    gate = np.exp(scores - scores.max(axis=1, keepdims=True))
    adapted_: np.ndarray = gate / gate.sum(axis=1, keepdims=True) * features
    return adapted_


def run(path: Path, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"pixels": pixels})
    found: np.ndarray = logits
    return found


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(count, 3, SIZE, SIZE)).astype(np.float32)


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return linear_encoder.write_bundle(tmp_path_factory.mktemp("bundles") / "linear", scale=10.0)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_file_gives_the_logits_of_the_formula(linear: Bundle, count: int, tmp_path: Path) -> None:
    path = export_adapted(linear, FEDCLIP.middle(params(DIM)), tmp_path / "adapted.onnx")
    features = fedclip(10 * linear_encoder.features(noise(count)), params(DIM))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(run(path, noise(count)), 20 * unit @ linear.text.T, atol=1e-4)


def test_the_file_and_the_methods_own_arithmetic_agree_to_1e_5_on_cosines(linear: Bundle, tmp_path: Path) -> None:
    weights = FEDCLIP.start(DIM, np.random.default_rng(1))
    path = export_adapted(linear, FEDCLIP.middle(weights), tmp_path / "adapted.onnx")
    features = FEDCLIP.adapt(weights, Encoder(linear, "cpu").encode(noise(8)))
    expected = classifier.logits(features, linear.text, linear.logit_scale)
    np.testing.assert_allclose(run(path, noise(8)) / 20, expected / 20, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_the_file_of_any_method_gives_the_logits_of_its_own_arithmetic(
    name: str, linear: Bundle, tmp_path: Path
) -> None:
    how, rng = method(name), np.random.default_rng(4)
    begun = version_0(how, linear.text, linear.logit_scale, rng)
    weights = {key: value + rng.normal(0, 0.3, value.shape).astype(np.float32) for key, value in begun.items()}
    out = tmp_path / "adapted.onnx"
    path = export_adapted(
        linear, how.middle(weights), out, method=name, head=affine(weights, linear.text, linear.logit_scale)
    )
    features = 10 * linear_encoder.features(noise(8))
    expected = logits(how, weights, features, linear.text, linear.logit_scale)
    np.testing.assert_allclose(run(path, noise(8)), expected, atol=2e-3)


def test_without_an_adapter_the_file_is_zero_shot(linear: Bundle, tmp_path: Path) -> None:
    path = export_adapted(linear, zero_shot, tmp_path / "adapted.onnx")
    expected = classifier.logits(linear_encoder.features(noise(4)), linear.text, 20.0)
    np.testing.assert_allclose(run(path, noise(4)), expected, atol=1e-4)


@pytest.mark.parametrize(
    "encoder",
    [{"opset": 11, "ir_version": 3}, {"opset": 12}, {"opset": 13}, {"opset": 20}],
    ids=lambda encoder: str(encoder),
)
def test_encoders_of_any_age_can_be_extended(encoder: dict[str, Any], tmp_path: Path) -> None:
    made = linear_encoder.write_bundle(tmp_path / "b", encoder=encoder)
    path = export_adapted(made, FEDCLIP.middle(params(DIM)), tmp_path / "adapted.onnx")
    features = fedclip(linear_encoder.features(noise(3)), params(DIM))
    np.testing.assert_allclose(run(path, noise(3)), classifier.logits(features, made.text, 20.0), atol=1e-4)


def test_an_fp16_encoder_still_takes_float32_pixels(tmp_path: Path) -> None:
    made = linear_encoder.write_bundle(tmp_path / "b", half=True)
    path = export_adapted(made, FEDCLIP.middle(params(DIM)), tmp_path / "adapted.onnx")
    features = fedclip(Encoder(made, "cpu").encode(noise(3)), params(DIM))
    np.testing.assert_allclose(run(path, noise(3)), classifier.logits(features, made.text, 20.0), atol=1e-2)


def test_an_image_without_a_feature_has_logits_of_zero_and_not_nan(tmp_path: Path) -> None:
    made = linear_encoder.write_bundle(tmp_path / "b")
    path = export_adapted(made, zeros, tmp_path / "adapted.onnx")
    np.testing.assert_array_equal(run(path, noise(2)), np.zeros((2, 3), dtype=np.float32))


def zeros(graph: Any, features: str) -> str:
    name: str = graph.node("Mul", features, graph.number("zero", 0.0))
    return name


def test_the_file_carries_what_a_device_needs_to_use_it(linear: Bundle, tmp_path: Path) -> None:
    path = export_adapted(linear, FEDCLIP.middle(params(DIM)), tmp_path / "adapted.onnx", version=41, method="fedclip")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map
    assert json.loads(found["fedmq.labels"]) == list(linear.labels)
    assert TypeAdapter(Preprocess).validate_json(found["fedmq.preprocess"]) == linear_encoder.HOW
    assert (found["fedmq.version"], found["fedmq.method"]) == ("41", "fedclip")
    assert found["fedmq.feature_space"] == linear.feature_space
    assert [entry.name for entry in session.get_inputs()] == ["pixels"]
    assert [(entry.name, entry.shape) for entry in session.get_outputs()] == [("logits", ["batch", 3])]


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        (params(5), r"adapter for features of 6 has .*'0.bias': \(6,\).*, not .*'0.bias': \(5,\)"),
        ({"0.bias": np.zeros(6)}, r"not {'0.bias': \(6,\)}"),
        ({}, "not {}"),
    ],
)
def test_params_of_another_shape_are_refused_and_nothing_is_written(
    linear: Bundle, weights: dict[str, np.ndarray], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(BundleMismatch, match=problem):
        export_adapted(linear, FEDCLIP.middle(weights), tmp_path / "adapted.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_features_only_bundle_has_no_pixels_to_start_from(tmp_path: Path) -> None:
    made = bundle.write(tmp_path / "b", name="b", labels=["x"], text=np.ones((1, 2)))
    with pytest.raises(BundleUnreadable, match="has no encoder"):
        export_adapted(made, zero_shot, tmp_path / "adapted.onnx")


def test_a_disk_that_refuses_leaves_the_old_file_as_it_was(
    linear: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    def full(_model: object, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    (tmp_path / "adapted.onnx").write_bytes(b"old")
    monkeypatch.setattr(onnx, "save", full)
    with pytest.raises(BundleUnwritable, match="No space left on device"):
        export_adapted(linear, zero_shot, tmp_path / "adapted.onnx")
    assert (tmp_path / "adapted.onnx").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_without_onnx_the_error_says_how_to_install_it(
    linear: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportUnavailable, match=r'pip install "fedmq\[export\]"'):
        export_adapted(linear, zero_shot, tmp_path / "adapted.onnx")


@needs("mobilenet_v2_clip", "pacs", "pacs_features_mobilenet_v2_clip.npz")
def test_a_real_encoder_on_real_images_gives_the_same_classes_either_way(tmp_path: Path) -> None:
    made = mobilenet(tmp_path / "bundle")
    assert made.preprocess is not None
    weights = params(made.dim)
    path = export_adapted(made, FEDCLIP.middle(weights), tmp_path / "adapted.onnx")
    images = [next(iter(sorted(folder.iterdir()))) for folder in sorted((DATA / "pacs" / "photo").iterdir())]
    pixels = np.stack([read_pixels(image, made.preprocess) for image in images])
    features = fedclip(Encoder(made, "cpu").encode(pixels), weights)
    expected = classifier.logits(features, made.text, made.logit_scale)
    found = run(path, pixels)
    np.testing.assert_allclose(found / made.logit_scale, expected / made.logit_scale, atol=1e-5)
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()


def test_a_head_that_was_solved_takes_the_place_of_the_text(linear: Bundle, tmp_path: Path) -> None:
    rng, how = np.random.default_rng(5), method("statistics")
    weights, bias = rng.normal(size=linear.text.shape).astype(np.float32), rng.normal(size=len(linear.text))
    head = (weights, bias.astype(np.float32))
    path = export_adapted(linear, how.middle({}), tmp_path / "adapted.onnx", method=how.name, head=head)
    features = linear_encoder.features(noise(4))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(run(path, noise(4)), unit @ weights.T + bias, atol=1e-4)
