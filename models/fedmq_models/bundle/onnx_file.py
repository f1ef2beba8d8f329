"""An ONNX encoder as onnxruntime sees it on the CPU: its inputs, outputs, precision, and what it computes.

Used where an encoder is looked at (made, verified, compared), not where images are encoded: that is `encode`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedmq_models.bundle.encoding import Precision
from fedmq_models.errors import RuntimeMissing, SourceUnreadable, first_line

if TYPE_CHECKING:
    from types import ModuleType

PRECISIONS = {"tensor(float)": Precision.FP32, "tensor(float16)": Precision.FP16}


@dataclass(frozen=True)
class Signature:
    """How an encoder is called: one image input, one feature output, and the side length it wants (None: any)."""

    input: str
    output: str
    precision: Precision
    size: int | None
    session: Any

    def run(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Pixels (batch, 3, size, size) float32 -> the chosen output as float32, without the bundle's scale."""
        dtype = np.float16 if self.precision is Precision.FP16 else np.float32
        features = run(self.session, self.input, self.output, pixels.astype(dtype, copy=False))
        return np.asarray(features, dtype=np.float32)


def run(session: Any, input_name: str, output_name: str, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One run of a session; pixels and features have the type that the model takes and gives.

    raises     SourceUnreadable if the model fails
    """
    try:
        (features,) = session.run([output_name], {input_name: pixels})
    except Exception as fault:  # onnxruntime's exceptions share no class but Exception
        raise SourceUnreadable(f"the encoder fails on a batch of {len(pixels)}: {first_line(fault)}") from fault
    found: npt.NDArray[Any] = features
    return found


def onnxruntime() -> ModuleType:
    """The onnxruntime module, from whichever of its two distributions is installed.

    raises     RuntimeMissing, with the commands that install it
    """
    try:
        import onnxruntime as module
    except ImportError as fault:
        raise RuntimeMissing(
            'onnxruntime is not installed, and encoding needs it: pip install "fedmq[cpu]", '
            'or pip install "fedmq[gpu]" on a machine with an NVIDIA GPU (exactly one of the two)'
        ) from fault
    loaded: ModuleType = module
    return loaded


def session_on_cpu(path: Path, precision: Precision | None = None, threads: int = 0) -> Any:
    """An onnxruntime session on the CPU.

    precision      None where it is not known yet
    threads        for one run; 0 takes every core
    raises         RuntimeMissing; SourceUnreadable if the file is no ONNX model that runs here
    """
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if precision is not Precision.FP32:
        # onnxruntime 1.31 dies of a segmentation fault when its layout optimizer meets an fp16 ViT on the CPU; one
        # level below, such a model runs.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as fault:  # see run
        raise SourceUnreadable(f"{path} is no ONNX encoder that runs here: {first_line(fault)}") from fault


def signature(path: Path, input_name: str | None = None, output_name: str | None = None) -> Signature:
    """Open an encoder and find out how it is called.

    input_name, output_name     None takes the first one
    raises                      RuntimeMissing; SourceUnreadable if it cannot be an image encoder
    """
    session = session_on_cpu(path)
    taken = _named(path, "input", session.get_inputs(), input_name)
    given = _named(path, "output", session.get_outputs(), output_name)
    if len(session.get_inputs()) != 1:
        names = ", ".join(entry.name for entry in session.get_inputs())
        raise SourceUnreadable(f"{path} takes several inputs ({names}); an image encoder takes pixels only")
    if taken.type not in PRECISIONS:
        raise SourceUnreadable(f"{path} takes {taken.type}; an encoder takes float or float16 pixels")
    if len(taken.shape) != 4 or (taken.shape[1] not in (3, None) and not isinstance(taken.shape[1], str)):
        raise SourceUnreadable(f"{path} takes shape {taken.shape}; an encoder takes (batch, 3, size, size)")
    if isinstance(taken.shape[0], int):
        raise SourceUnreadable(f"{path} takes batches of {taken.shape[0]} only; export it with a dynamic batch")
    side = taken.shape[2]
    return Signature(taken.name, given.name, PRECISIONS[taken.type], side if isinstance(side, int) else None, session)


def _named(path: Path, kind: str, found: list[Any], name: str | None) -> Any:
    if not found:
        raise SourceUnreadable(f"{path} has no {kind}")
    if name is None:
        return found[0]
    for entry in found:
        if entry.name == name:
            return entry
    names = ", ".join(entry.name for entry in found)
    raise SourceUnreadable(f"{path} has no {kind} {name!r}; it has {names}")
