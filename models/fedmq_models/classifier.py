"""From features to classes: cosines with the class text features, times the logit scale.

Evaluation and inference share it, so that what is measured is what is used.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedmq_models.errors import BundleMismatch

# Below this a feature has no direction; dividing by it instead of by its norm leaves zeros, not NaN.
NORM_FLOOR = 1e-12


def normalised(features: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Features (n, dim) as float32 rows of norm 1; a row of zeros stays zeros."""
    rows = np.asarray(features, dtype=np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = rows / np.maximum(norms, np.float32(NORM_FLOOR))
    return unit


def logits(
    features: npt.NDArray[np.floating], text: npt.NDArray[np.float32], logit_scale: float
) -> npt.NDArray[np.float32]:
    """Logits (n, classes) float32 of features (n, dim) of any norm against text features (classes, dim) of norm 1.

    raises     BundleMismatch if the dims differ
    """
    if features.ndim != 2 or features.shape[1] != text.shape[1]:
        raise BundleMismatch(f"features have shape {features.shape}, the bundle's text has dim {text.shape[1]}")
    scaled: npt.NDArray[np.float32] = np.float32(logit_scale) * (normalised(features) @ text.T)
    return scaled


def predict(features: npt.NDArray[np.floating], text: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The nearest class (n,) of each feature (n, dim); the first of several that are equally near."""
    nearest: npt.NDArray[np.int64] = logits(features, text, 1.0).argmax(axis=1)
    return nearest


def probabilities(found: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Softmax of logits (n, classes)."""
    shifted = np.exp(found - found.max(axis=1, keepdims=True))
    shares: npt.NDArray[np.float32] = shifted / shifted.sum(axis=1, keepdims=True)
    return shares


def accuracy(
    features: npt.NDArray[np.floating], text: npt.NDArray[np.float32], labels: npt.NDArray[np.integer]
) -> float:
    """The share of features whose nearest class is their label, 0..1; NaN for no features at all.

    raises     BundleMismatch if there are more or fewer labels than features
    """
    if len(features) != len(labels):
        raise BundleMismatch(f"{len(features)} features and {len(labels)} labels; there is one label per feature")
    if not len(labels):
        return float("nan")
    return float((predict(features, text) == labels).mean())
