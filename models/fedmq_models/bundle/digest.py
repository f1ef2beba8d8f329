"""Digests: what a file is, and what a feature space is.

Two nodes may be summed only if their features mean the same, so the feature space covers everything that shapes a
feature: the encoder's bytes, which of its outputs is read, its precision, the factor on it, and the preprocessing.
Labels and prompts are not in it: two federations with other classes share cached features.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from fedmq_models.bundle.encoding import EncoderFile, Preprocess


def sha256_file(path: Path) -> str:
    """The hex digest of a file, read in pieces: an encoder may be larger than a small device's memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def problem(path: Path, expected: str) -> str | None:
    """What keeps a file from being the one that its bundle describes; None if nothing does."""
    try:
        found = sha256_file(path)
    except OSError as fault:
        return f"cannot be read: {fault.strerror}"
    if found != expected:
        return f"has digest {found}, its bundle says {expected}: it was changed or cut; copy the bundle again"
    return None


def feature_space(encoder: EncoderFile, preprocess: Preprocess, scale: float = 1.0) -> str:
    """The hex digest of everything that turns an image into a feature."""
    # 1 and 1.0 are one number, but two digests.
    channels = {"mean": [*map(float, preprocess.mean)], "std": [*map(float, preprocess.std)]}
    return _digest(
        {
            "encoder": encoder.sha256,
            "output": encoder.output,
            "precision": encoder.precision,
            "scale": float(scale),
            "preprocess": asdict(preprocess) | channels,
        }
    )


def declared_space(name: str, scale: float = 1.0) -> str:
    """The hex digest of a feature space that has only a name, where nodes bring features that were made elsewhere."""
    return _digest({"declared": name} if scale == 1 else {"declared": name, "scale": float(scale)})


def _digest(content: dict[str, object]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
