"""A file of features that a user already has: .npz or .safetensors.

    features, labels                                      to be split here, or
    train_features, train_labels, test_features, ...      already split by the user
    classes                                               names of the labels, if they are numbers
    any other array as long as the labels                 may be filtered on, as in --where domain=photo

Features are as the encoder gave them, (n, dim), any float; they are read as float32.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fedmq_nodes.errors import DataUnusable


@dataclass(frozen=True)
class Choice:
    """Which rows of a file: those where each column has this value, and of these every n-th, from the k-th (1..n)."""

    where: Mapping[str, str]
    part: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Rows:
    """Features (n, dim) float32 and the name, or number, of each one's class."""

    features: NDArray[np.float32]
    classes: list[str | int]

    def keys(self) -> list[bytes]:
        """Return the sha256 of each row's bytes."""
        return [hashlib.sha256(row.tobytes()).digest() for row in self.features]


def read(path: Path, choice: Choice) -> tuple[Rows, Rows | None]:
    """Return all rows, or (train, test) where the file has its own split.

    raises     DataUnusable, naming the file and the array
    """
    arrays = _arrays(path)
    if "features" in arrays:
        return _rows(path, arrays, "", choice), None
    if "train_features" in arrays and "test_features" in arrays:
        return _rows(path, arrays, "train_", choice), _rows(path, arrays, "test_", choice)
    raise DataUnusable(f"{path} holds {', '.join(arrays) or 'nothing'}; needed are features and labels")


def unlabelled(path: Path, choice: Choice) -> NDArray[np.float32]:
    """Return the features of the chosen rows, whose labels are neither needed nor looked at.

    raises     DataUnusable, naming the file and the array
    """
    arrays = _arrays(path)
    if "features" not in arrays or arrays["features"].ndim != 2:
        shape = arrays["features"].shape if "features" in arrays else None
        raise DataUnusable(
            f"{path} needs features of shape (n, dim), has {shape} among {', '.join(arrays) or 'nothing'}"
        )
    return _values(path, arrays, "", _chosen(path, arrays, "", choice))


def numbered(rows: Rows, labels: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which rows have a class that is in `labels`, and the number of each of these."""
    numbers = {label: number for number, label in enumerate(labels)}
    found = [name if isinstance(name, int) else numbers.get(name, -1) for name in rows.classes]
    found = [number if 0 <= number < len(labels) else -1 for number in found]
    mask = np.array([number >= 0 for number in found], dtype=np.bool_)
    return mask, np.array([number for number in found if number >= 0], dtype=np.int64)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, SafetensorError) as error:
        raise DataUnusable(f"{path} is not a readable .npz or .safetensors file: {error}") from error


def _rows(path: Path, arrays: Mapping[str, NDArray[Any]], prefix: str, choice: Choice) -> Rows:
    features, labels = arrays[f"{prefix}features"], arrays.get(f"{prefix}labels")
    if labels is None or features.ndim != 2 or labels.shape != (len(features),):
        shape = None if labels is None else labels.shape
        raise DataUnusable(f"{path}: {prefix}features of shape {features.shape} need {prefix}labels, which are {shape}")
    chosen = _chosen(path, arrays, prefix, choice)
    return Rows(_values(path, arrays, prefix, chosen), _names(labels[chosen], arrays.get("classes")))


def _chosen(path: Path, arrays: Mapping[str, NDArray[Any]], prefix: str, choice: Choice) -> NDArray[np.int64]:
    count = len(arrays[f"{prefix}features"])
    mask = np.ones(count, dtype=np.bool_)
    for column, value in choice.where.items():
        values = arrays.get(f"{prefix}{column}", arrays.get(column))
        if values is None or values.shape != (count,):
            raise DataUnusable(f"{path} has no column {column!r} as long as its features; it has {', '.join(arrays)}")
        mask &= values.astype(str) == value
    if not mask.any():
        raise DataUnusable(f"{path} has no row where {dict(choice.where)}")
    k, n = choice.part
    return np.flatnonzero(mask)[k - 1 :: n]


def _values(
    path: Path, arrays: Mapping[str, NDArray[Any]], prefix: str, chosen: NDArray[np.int64]
) -> NDArray[np.float32]:
    values: NDArray[np.float32] = arrays[f"{prefix}features"][chosen].astype(np.float32)
    if not np.isfinite(values).all():
        raise DataUnusable(f"{path}: {prefix}features hold NaN or infinity")
    return values


def _names(labels: NDArray[Any], classes: NDArray[Any] | None) -> list[str | int]:
    if labels.dtype.kind in "US":
        return [str(label) for label in labels]
    if classes is None:
        return [int(label) for label in labels]
    return [str(classes[int(label)]) for label in labels]
