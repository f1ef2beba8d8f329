"""Runs on a GPU: input and output stay on the device, and every run has one shape."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from fedmq_models.bundle.onnx_file import onnxruntime


class BoundRun:
    """Runs of one fixed shape with input and output bound on the device: one copy in, one copy out, no allocation."""

    def __init__(
        self,
        session: Any,
        input_name: str,
        output_name: str,
        shape: tuple[int, int, int, int],
        dim: int,
        dtype: np.dtype[Any],
        device_type: str = "cuda",
    ) -> None:
        """Allocate input and output of `dtype` on the device; `device_type` cpu lets a test do without a GPU."""
        value = onnxruntime().OrtValue
        self._session = session
        self._staging = np.zeros(shape, dtype=dtype)
        self._input = value.ortvalue_from_numpy(self._staging, device_type, 0)
        self._output = value.ortvalue_from_shape_and_type((shape[0], dim), dtype, device_type, 0)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(input_name, self._input)
        self._binding.bind_ortvalue_output(output_name, self._output)
        self._one_at_a_time = threading.Lock()

    def __call__(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Pixels (n, 3, size, size), n up to the fixed batch -> features (n, dim)."""
        rows = len(pixels)
        with self._one_at_a_time:
            if rows == len(self._staging) and pixels.flags.c_contiguous:
                self._input.update_inplace(pixels)
            else:
                # Rows beyond these hold older pixels; what comes out of them is cut off.
                self._staging[:rows] = pixels
                self._input.update_inplace(self._staging)
            self._binding.synchronize_inputs()
            self._session.run_with_iobinding(self._binding)
            self._binding.synchronize_outputs()
            features: npt.NDArray[Any] = self._output.numpy()[:rows]
        return features
