"""Where an encoder can run: the devices that onnxruntime offers here, and which of them to try.

`auto` tries CUDA, then the CPU. It does not try TensorRT, which compiles each model for minutes before its first image:
that is asked for by name. A device that was asked for by name and is missing is an error; onnxruntime itself would
silently take the CPU.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from fedmq_models.bundle import Precision
from fedmq_models.bundle.onnx_file import onnxruntime, session_on_cpu
from fedmq_models.errors import DeviceMissing, OptionInvalid, RuntimeMissing, first_line
from fedmq_models.packages import installed

if TYPE_CHECKING:
    from pathlib import Path

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")


class Device(StrEnum):
    """What `--device` takes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


PROVIDERS = {
    Device.CPU: "CPUExecutionProvider",
    Device.CUDA: "CUDAExecutionProvider",
    Device.TENSORRT: "TensorrtExecutionProvider",
}


@dataclass(frozen=True)
class Opened:
    """A session and where it really runs; `note` says why `auto` did not get better, None if it got the best."""

    session: Any
    device: Device
    note: str | None


def parse_device(text: str) -> Device:
    """A device by its name.

    raises     OptionInvalid, listing the names
    """
    try:
        return Device(text)
    except ValueError as fault:
        raise OptionInvalid(f"device is {text!r}; known are {', '.join(Device)}") from fault


def available() -> tuple[str, ...]:
    """The execution providers of the installed onnxruntime, best first.

    raises     RuntimeMissing
    """
    return tuple(onnxruntime().get_available_providers())


def findings() -> list[str]:
    """What is wrong with this installation of onnxruntime, one sentence each; empty if nothing is."""
    found: list[str] = []
    if len(installed(DISTRIBUTIONS)) > 1:
        found.append(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files: "
            "pip uninstall both, then install exactly one of fedmq[cpu] and fedmq[gpu]"
        )
    try:
        onnxruntime()
    except RuntimeMissing as fault:
        found.append(str(fault))
    return found


def usable_cpus() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_session(path: Path, wanted: Device, precision: Precision) -> Opened:
    """Open an encoder on a device.

    raises     DeviceMissing if a device that was named is not there; RuntimeMissing; SourceUnreadable
    """
    here = available()
    order = (Device.CUDA, Device.CPU) if wanted is Device.AUTO else (wanted,)
    why_not: list[str] = []
    for device in order:
        if PROVIDERS[device] not in here:
            why_not.append(f"this onnxruntime has no {PROVIDERS[device]}")
            continue
        session, problem = _try(path, device, precision)
        if session is not None:
            note = f"running on {device}: {'; '.join(why_not)}" if why_not else None
            return Opened(session, device, note)
        why_not.append(problem)
    hint = (
        ""
        if "onnxruntime-gpu" in installed(DISTRIBUTIONS)
        else '; for a GPU, pip install "fedmq[gpu]" instead of "fedmq[cpu]"'
    )
    raise DeviceMissing(f"no device {wanted}: {'; '.join(why_not)}; available here: {', '.join(here)}{hint}")


def _try(path: Path, device: Device, precision: Precision) -> tuple[Any, str]:
    """A session on exactly this device, or None and why not."""
    if device is Device.CPU:
        # One thread per run: the encoder runs several at once, see encoder.py.
        return session_on_cpu(path, precision, threads=1), ""
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # finds CUDA and cuDNN where pip put them
    # TF32 would make a GPU node's features differ from a CPU node's in the third digit; who wants speed takes fp16.
    cuda = (PROVIDERS[Device.CUDA], {"use_tf32": "0"})
    providers = [PROVIDERS[Device.TENSORRT], cuda] if device is Device.TENSORRT else [cuda]
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as fault:  # noqa: BLE001  onnxruntime's exceptions share no class but Exception
        return None, f"{device} does not start: {first_line(fault)}"
    if session.get_providers()[0] != PROVIDERS[device]:
        return None, f"{device} does not start (its driver or libraries are missing)"
    return session, ""
