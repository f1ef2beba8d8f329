"""Class text features: one row of norm 1 per label, and the file that they are kept in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors import numpy as tensors

from fedmq_models.bundle import digest
from fedmq_models.bundle.manifest import Manifest, TextFile
from fedmq_models.errors import BundleUnreadable

FILE = "text.safetensors"
NORM_TOLERANCE = 1e-3


def normalised_rows(text: npt.NDArray[Any], classes: int) -> npt.NDArray[np.float32]:
    """Text features (classes, dim) of any float type, as float32 rows of norm 1.

    raises     BundleUnreadable for another shape, NaN, Inf or a row of zeros
    """
    if text.ndim != 2 or text.shape[0] != classes or text.shape[1] == 0:
        raise BundleUnreadable(f"text features have shape {text.shape}, but there are {classes} labels: one row each")
    rows = text.astype(np.float64)
    if not np.isfinite(rows).all():
        raise BundleUnreadable("text features hold NaN or Inf")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if norms.min() == 0:
        raise BundleUnreadable(f"text feature {int(norms.argmin())} is all zeros, so it has no direction")
    # A row whose norm is already 1 is kept to the bit, so that writing what was loaded changes no digest.
    scaled = np.where(np.abs(norms - 1) < 1e-6, rows, rows / norms)
    return np.ascontiguousarray(scaled, dtype=np.float32)


def save(rows: npt.NDArray[np.float32], folder: Path) -> TextFile:
    """Write rows as `normalised_rows` gives them."""
    (folder / FILE).write_bytes(tensors.save({"text": rows}))
    return TextFile(FILE, digest.sha256_file(folder / FILE))


def read(folder: Path, manifest: Manifest) -> npt.NDArray[np.float32]:
    """Read the rows (classes, dim), held against the manifest's digest and shape.

    raises     BundleUnreadable
    """
    path = folder / manifest.text_file.file
    if changed := digest.problem(path, manifest.text_file.sha256):
        raise BundleUnreadable(f"{path} {changed}")
    try:
        found = tensors.load(path.read_bytes())
    except (OSError, SafetensorError) as fault:
        raise BundleUnreadable(f"{path} cannot be read: {fault}") from fault
    if "text" not in found:
        raise BundleUnreadable(f"{path} holds {sorted(found)}, but no tensor `text`")
    if problem := _problem(found["text"], len(manifest.labels), manifest.dim):
        raise BundleUnreadable(f"{path}: text {problem}")
    return found["text"]


def _problem(text: npt.NDArray[Any], classes: int, dim: int) -> str | None:
    """What keeps an array from being class text features (classes, dim) float32 of norm 1; None if nothing does."""
    if text.dtype != np.float32 or text.shape != (classes, dim):
        return f"is {text.dtype} {text.shape}, expected float32 {(classes, dim)}"
    if not np.isfinite(text).all():
        return "holds NaN or Inf"
    norms = np.linalg.norm(text, axis=1)
    worst = float(np.abs(norms - 1).max())
    return None if worst <= NORM_TOLERANCE else f"has rows of norm {norms.min():.4f} to {norms.max():.4f}, expected 1"
