"""What is wrong with a bundle: every file held against the manifest, and the encoder run on small batches."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedmq_models.bundle import digest, manifest, text
from fedmq_models.bundle.encoding import EncoderFile, Preprocess
from fedmq_models.bundle.manifest import Manifest
from fedmq_models.bundle.onnx_file import Signature, signature
from fedmq_models.bundle.reading import folder_of, read_manifest
from fedmq_models.errors import BundleUnreadable, ModelError

# A batch of 3 must give each image the feature that it gets alone; float32 kernels differ by about 1e-6 between shapes.
BATCH_COSINE = {"fp32": 0.99999, "fp16": 0.999}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: the file, and a sentence."""

    file: str
    problem: str

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"


def verify(path_or_name: Path | str) -> list[Finding]:
    """Everything that is wrong with a bundle, worst first; an empty list is a sound one.

    Digests are computed again, and where onnxruntime is installed the encoder runs on batches of 1 and 3.

    raises     BundleUnreadable only where there is no bundle at all
    """
    folder = folder_of(path_or_name)
    try:
        described = read_manifest(folder)
    except BundleUnreadable as fault:
        if not (folder / manifest.FILE).is_file():
            raise
        return [Finding(manifest.FILE, str(fault))]
    found: list[Finding] = []
    try:
        text.read(folder, described)
    except BundleUnreadable as fault:
        found.append(Finding(described.text_file.file, str(fault)))
    if described.encoder is not None and described.preprocess is not None:
        problems = _encoder_problems(folder, described, described.encoder, described.preprocess)
        found += [Finding(described.encoder.file, problem) for problem in problems]
    return found


def can_run_encoders() -> bool:
    """Whether onnxruntime is installed, so that `verify` can run an encoder and not only hash it."""
    return importlib.util.find_spec("onnxruntime") is not None


def _encoder_problems(folder: Path, described: Manifest, encoder: EncoderFile, how: Preprocess) -> list[str]:
    path = folder / encoder.file
    if changed := digest.problem(path, encoder.sha256):
        # Running a file that is not the one described would only add noise to the true finding.
        return [changed]
    if not can_run_encoders():
        return []
    try:
        return _problems(signature(path, encoder.input, encoder.output), described.dim, encoder, how)
    except ModelError as fault:
        return [str(fault)]


def _problems(shape: Signature, dim: int, encoder: EncoderFile, how: Preprocess) -> list[str]:
    problems: list[str] = []
    if shape.precision is not encoder.precision:
        problems.append(f"takes {shape.precision}, {manifest.FILE} says {encoder.precision}")
    if shape.size not in (None, how.size):
        problems.append(f"takes images of {shape.size} pixels, {manifest.FILE} says {how.size}")
    if problems:
        return problems
    rng = np.random.default_rng(0)
    three = rng.normal(size=(3, 3, how.size, how.size)).astype(np.float32)
    together = shape.run(three)
    alone = shape.run(three[:1])
    if together.shape != (3, dim) or alone.shape != (1, dim):
        return [f"gives shapes {alone.shape} and {together.shape} for batches of 1 and 3, expected dim {dim}"]
    if not (np.isfinite(together).all() and np.isfinite(alone).all()):
        return ["gives NaN or Inf for random pixels"]
    norms = float(np.linalg.norm(together[0]) * np.linalg.norm(alone[0]))
    cosine = float(together[0] @ alone[0]) / norms if norms > 0 else 0.0
    floor = BATCH_COSINE[encoder.precision]
    if cosine < floor:
        return [f"gives an image another feature alone than in a batch of 3: cosine {cosine:.6f}, at least {floor}"]
    return []
