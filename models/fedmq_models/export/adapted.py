"""One ONNX file from pixels to class logits: encoder, scale, adapter, text features, logit scale.

It is made by appending nodes to the encoder's own graph, so it computes what a node computes, and plain onnxruntime
runs it without torch or fedmq. Each method brings its middle piece only: a function that appends nodes from raw
features to adapted features.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedmq_models.bundle import Bundle, Precision
from fedmq_models.bundle.staging import staged_file
from fedmq_models.errors import SourceUnreadable, first_line
from fedmq_models.export.graph import Graph
from fedmq_models.packages import require

if TYPE_CHECKING:
    from onnx import ModelProto

INPUT = "pixels"
OUTPUT = "logits"
_ENCODER_PREFIX = "encoder/"

Array = NDArray[np.float32]
Middle = Callable[[Graph, str], str]
"""Appends a method's nodes: (graph, name of features (batch, dim)) -> name of adapted features (batch, dim)."""


def zero_shot(_graph: Graph, features: str) -> str:
    """The middle piece of no method at all: CLIP as it is."""
    return features


def export_adapted(
    bundle: Bundle,
    middle: Middle,
    out: Path,
    *,
    version: int = 0,
    method: str = "zero_shot",
    head: tuple[Array, Array | None] | None = None,
) -> Path:
    """Write pixels (batch, 3, size, size) float32 -> logits (batch, classes) float32 to one file, in one step.

    The file's metadata carry labels and preprocessing as JSON, `version`, `method`, and what names the bundle. An
    encoder in fp16 keeps its precision inside; what surrounds it is float32.

    head       weights (classes, dim) and bias (classes,) in the place of the text features times the logit scale
    raises     BundleMismatch if the method's arrays have another dim; BundleUnreadable for a features-only bundle;
               ExportUnavailable without onnx; SourceUnreadable; BundleUnwritable
    """
    require("onnx.compose")
    onnx = require("onnx")
    path, how = bundle.encoder_path, bundle.preprocess
    assert how is not None  # a manifest has both or neither
    try:
        model = onnx.load(str(path))
    except Exception as fault:  # protobuf's DecodeError and onnx's own errors share no class but Exception
        raise SourceUnreadable(f"{path} cannot be read as ONNX: {first_line(fault)}") from fault
    graph, features = _opened(onnx, model, bundle, how.size)
    unit = graph.normalised(middle(graph, features))
    weights, bias = (np.float32(bundle.logit_scale) * bundle.text, None) if head is None else head
    _finish(onnx, graph, graph.linear(unit, "classes", weights, bias), len(bundle.labels))
    entries = {
        "fedmq.labels": json.dumps(bundle.labels, ensure_ascii=False),
        "fedmq.preprocess": json.dumps(asdict(how)),
        "fedmq.version": str(version),
        "fedmq.method": method,
        "fedmq.bundle": bundle.name,
        "fedmq.feature_space": bundle.feature_space,
        "fedmq.logit_scale": repr(bundle.logit_scale),
    }
    onnx.helper.set_model_props(graph.model, entries)
    with staged_file(out) as place:
        try:
            onnx.save(graph.model, str(place))
        except ValueError as fault:  # protobuf's limit of 2 GiB
            raise SourceUnreadable(f"the adapted model does not fit into one file: {first_line(fault)}") from fault
    return out


def _opened(onnx: Any, model: ModelProto, bundle: Bundle, size: int) -> tuple[Graph, str]:
    """The encoder with its own names set apart and a float32 input, and the name of its scaled float32 features."""
    assert bundle.encoder is not None
    # Another encoder may call any value of its own "logits"; behind a prefix nothing can clash with ours.
    graph = Graph(onnx.compose.add_prefix(model, _ENCODER_PREFIX), bundle.dim)
    # Before version 4 of the format every weight had to be listed as an input too, and the inputs are replaced here.
    graph.model.ir_version = max(graph.model.ir_version, 4)
    is_half = bundle.encoder.precision is Precision.FP16
    kinds, make = onnx.TensorProto, onnx.helper
    inner = kinds.FLOAT16 if is_half else kinds.FLOAT
    entry = make.make_node("Cast", [INPUT], [_ENCODER_PREFIX + bundle.encoder.input], name=INPUT, to=inner)
    graph.model.graph.node.insert(0, entry)
    del graph.model.graph.input[:]
    graph.model.graph.input.append(make.make_tensor_value_info(INPUT, kinds.FLOAT, ["batch", 3, size, size]))
    features = _ENCODER_PREFIX + bundle.encoder.output
    if is_half:
        features = graph.node("Cast", features, to=kinds.FLOAT)
    if bundle.scale != 1.0:
        features = graph.node("Mul", features, graph.number("scale", bundle.scale))
    return graph, features


def _finish(onnx: Any, graph: Graph, logits: str, classes: int) -> None:
    graph.model.graph.node.append(onnx.helper.make_node("Identity", [logits], [OUTPUT], name=OUTPUT))
    # The encoder's own outputs are dropped; onnxruntime prunes whatever only they needed.
    del graph.model.graph.output[:]
    value = onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["batch", classes])
    graph.model.graph.output.append(value)
