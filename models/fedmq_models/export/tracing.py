"""An image tower from PyTorch to ONNX: pixels (batch, 3, size, size) -> un-normalised features (batch, dim)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedmq_models.bundle import Precision
from fedmq_models.errors import OptionInvalid
from fedmq_models.packages import quiet, require

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto

INPUT = "pixels"
OUTPUT = "features"
# One protobuf file holds 2 GiB; a little is left for the graph itself.
FILE_LIMIT_BYTES = (1 << 31) - (16 << 20)
BATCH_LIMIT = 4096


def tower(visual: Any, precision: Precision) -> torch.nn.Module:
    """A copy-free view of an image tower as a module with one input and one output; in fp16 a converted copy.

    Everything is halved, LayerNorm included: the mixed form that open_clip trains with (weights in fp16, norms in fp32)
    exports to a graph whose types onnxruntime refuses. onnxruntime's own LayerNorm and Softmax accumulate in float32.
    """
    import torch

    class Tower(torch.nn.Module):
        def __init__(self, visual: Any) -> None:
            super().__init__()
            self.visual = visual

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            found = self.visual(pixels)
            # Towers that also give patch tokens give (pooled, tokens).
            pooled: torch.Tensor = found[0] if isinstance(found, tuple) else found
            return pooled

    if precision is Precision.FP16:
        visual = copy.deepcopy(visual).half()
    return Tower(visual).eval()


def reference(module: torch.nn.Module) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """What a float32 tower computes in eager PyTorch, as numpy in and numpy out: the yardstick for an export."""
    import torch

    def run(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            features: npt.NDArray[np.float32] = module(torch.from_numpy(pixels)).float().numpy()
        return features

    return run


def trace(module: torch.nn.Module, size: int, precision: Precision, out: Path) -> None:
    """Export a tower to one ONNX file with a dynamic batch.

    raises     OptionInvalid for a tower that does not fit into one file; ExportUnavailable
    """
    onnx, _ = (require(name) for name in ("onnx", "onnxscript"))
    import torch

    weights_bytes = sum(weight.numel() * weight.element_size() for weight in module.parameters())
    if weights_bytes > FILE_LIMIT_BYTES:
        hint = "; export it with --precision fp16" if precision is Precision.FP32 else ""
        raise OptionInvalid(
            f"the image tower has {weights_bytes} bytes of weights, one file holds {FILE_LIMIT_BYTES}{hint}"
        )
    dtype = torch.float16 if precision is Precision.FP16 else torch.float32
    # Two images: with one, the exporter takes the batch for a constant.
    example = torch.zeros(2, 3, size, size, dtype=dtype)
    with quiet():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1, max=BATCH_LIMIT)}},
            input_names=[INPUT],
            output_names=[OUTPUT],
            external_data=False,
            verbose=False,
        )
    assert program is not None
    onnx.save(_bare(program.model_proto), str(out))


def _bare(model: ModelProto) -> ModelProto:
    """A model without the exporter's notes: per node a stack trace, with the paths of the machine it was made on.

    They are 130 to 180 kB of a small tower, and without them the same weights give the same bytes again.
    """
    graph = model.graph
    for noted in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del noted.metadata_props[:]
        noted.doc_string = ""
    return model
