"""An ONNX graph that grows at its end: named nodes and constants appended to an encoder, without name clashes.

A method adds its own middle piece, from features to features, with `node` and `constant`; it knows nothing of the
encoder before it or the classifier after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedmq_models.classifier import NORM_FLOOR

if TYPE_CHECKING:
    from onnx import ModelProto

# ReduceSum takes its axes as an input from here on, as an attribute before.
AXES_AS_INPUT_OPSET = 13


class Graph:
    """A model under extension, with features of `dim`. Values are names; every name that is added here is new."""

    def __init__(self, model: ModelProto, dim: int) -> None:
        self.model = model
        self.dim = dim
        self._count = 0

    @property
    def opset(self) -> int:
        """The version of the standard operators that this model speaks."""
        return next(int(entry.version) for entry in self.model.opset_import if entry.domain in ("", "ai.onnx"))

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output, and give the name of that."""
        from onnx.helper import make_node

        output = self._unique(operator)
        self.model.graph.node.append(make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        """Add an array to the model, and give the name of it."""
        from onnx.numpy_helper import from_array

        unique = self._unique(name)
        self.model.graph.initializer.append(from_array(np.ascontiguousarray(array), unique))
        return unique

    def number(self, name: str, value: float) -> str:
        """Add a float32 scalar, and give the name of it."""
        return self.constant(name, np.array(value, dtype=np.float32))

    def linear(self, features: str, name: str, weight: npt.NDArray[Any], bias: npt.NDArray[Any] | None) -> str:
        """features (batch, in) @ weight (out, in).T + bias (out,): PyTorch's Linear."""
        if bias is None:
            return self.node("MatMul", features, self.constant(f"{name}.weight", weight.T.astype(np.float32)))
        kernel = self.constant(f"{name}.weight", weight.astype(np.float32))
        return self.node("Gemm", features, kernel, self.constant(f"{name}.bias", bias.astype(np.float32)), transB=1)

    def normalised(self, features: str) -> str:
        """Features (batch, dim) with rows of norm 1; a row of zeros stays zeros."""
        squares = self.node("Mul", features, features)
        if self.opset >= AXES_AS_INPUT_OPSET:
            axis = self.constant("axis", np.array([1], dtype=np.int64))
            total = self.node("ReduceSum", squares, axis, keepdims=1)
        else:
            total = self.node("ReduceSum", squares, axes=[1], keepdims=1)
        norm = self.node("Max", self.node("Sqrt", total), self.number("norm_floor", NORM_FLOOR))
        return self.node("Div", features, norm)

    def _unique(self, name: str) -> str:
        self._count += 1
        return f"fedmq/{self._count}_{name}"
