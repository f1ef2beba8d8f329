"""A small encoder whose formula is known: one matrix product over all pixels, as an ONNX file and as numpy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fedmq_models import bundle
from fedmq_models.bundle import Bundle, EncoderSource, Interpolation, Precision, Preprocess, Resize

SIZE = 8
DIM = 6
LABELS = ("dog", "cat", "fish")
HOW = Preprocess(SIZE, Resize.SHORT_SIDE, Interpolation.BICUBIC, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def weights(dim: int = DIM, size: int = SIZE, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(dim, 3 * size * size)) / size
    return matrix.astype(np.float32), rng.normal(size=dim).astype(np.float32)


def features(pixels: np.ndarray, dim: int = DIM, seed: int = 0) -> np.ndarray:
    matrix, bias = weights(dim, pixels.shape[-1], seed)
    return np.asarray(pixels.reshape(len(pixels), 3 * pixels.shape[-1] ** 2) @ matrix.T + bias)


def write_encoder(
    path: Path,
    *,
    dim: int = DIM,
    size: int = SIZE,
    seed: int = 0,
    half: bool = False,
    batch: str | int = "batch",
    opset: int = 18,
    ir_version: int = 9,
    nan: bool = False,
    names: Sequence[str] = ("image", "embedding"),
) -> Path:
    """Write pixels (batch, 3, size, size) -> features (batch, dim); a second output, `logits`, is in the way."""
    matrix, bias = weights(dim, size, seed)
    if nan:
        bias = np.full_like(bias, np.nan)
    dtype, kind = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    given, wanted = names
    constants = [
        numpy_helper.from_array(matrix.T.astype(dtype), "matrix"),
        numpy_helper.from_array(bias.astype(dtype), "bias"),
    ]
    nodes = [
        helper.make_node("Flatten", [given], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["logits"]),
        helper.make_node("Add", ["logits", "bias"], [wanted]),
    ]
    inputs = [helper.make_tensor_value_info(given, kind, [batch, 3, size, size])]
    if ir_version < 4:
        inputs += [helper.make_tensor_value_info(entry.name, kind, list(entry.dims)) for entry in constants]
    outputs = [helper.make_tensor_value_info(name, kind, [batch, dim]) for name in (wanted, "logits")]
    graph = helper.make_graph(nodes, "linear", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    onnx.save(model, str(path))
    return path


def text(classes: int = len(LABELS), dim: int = DIM) -> np.ndarray:
    rows = np.random.default_rng(7).normal(size=(classes, dim))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def write_bundle(folder: Path, *, half: bool = False, encoder: dict[str, Any] | None = None, **changes: Any) -> Bundle:
    """Write a bundle around the linear encoder; `changes` replace what `bundle.write` gets."""
    path = write_encoder(folder.with_suffix(".onnx"), half=half, **(encoder or {}))
    source = EncoderSource(path, "image", "embedding", Precision.FP16 if half else Precision.FP32)
    given: dict[str, Any] = {
        "name": "linear",
        "labels": LABELS,
        "text": text(),
        "prompts": ("a picture of a {}",),
        "logit_scale": 20.0,
        "encoder": source,
        "preprocess": HOW,
        "source": {"note": "made for a test"},
    }
    return bundle.write(folder, **{**given, **changes})
