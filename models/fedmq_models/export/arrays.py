"""Class text features from an array file: npz or safetensors, under whatever keys its author chose.

An npz holds the class names beside the features; a safetensors file cannot hold text as a tensor, so there the names
come from the caller, in row order, or from a JSON list in the file's metadata.
"""

from __future__ import annotations

import difflib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from fedmq_models.errors import OptionInvalid, SourceUnreadable

TEXT_KEY = "text"
LABELS_KEY = "classes"


def class_text(
    path: Path,
    labels: Sequence[str] = (),
    text_key: str = TEXT_KEY,
    labels_key: str = LABELS_KEY,
    drop_empty: bool = False,
) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    """Labels and their text features (labels, dim) from a file.

    labels         the ones to take, in this order; empty takes all. Where the file holds no names, they name its rows
    drop_empty     leave out classes whose text feature is all zeros, as files do that have no text for some
    raises         SourceUnreadable, OptionInvalid
    """
    text, names = (
        _safetensors(path, text_key, labels_key) if path.suffix == ".safetensors" else _npz(path, text_key, labels_key)
    )
    if text.ndim != 2 or text.dtype.kind != "f":
        raise SourceUnreadable(f"{path}: {text_key!r} is {text.dtype} {text.shape}, expected floats (classes, dim)")
    if names is None:
        if len(labels) != len(text):
            raise OptionInvalid(
                f"{path} holds {len(text)} rows and no names under {labels_key!r}, {len(labels)} labels were given; "
                "give one label per row or another --labels-key"
            )
        names = tuple(labels)
    if len(names) != len(text):
        raise SourceUnreadable(f"{path}: {len(names)} names under {labels_key!r}, {len(text)} rows under {text_key!r}")
    rows = _rows(path, names, labels or names)
    if drop_empty:
        rows = [row for row in rows if text[row].any()]
    return tuple(names[row] for row in rows), text[rows]


def _rows(path: Path, names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    row_of = {name: row for row, name in reversed(list(enumerate(names)))}
    missing = [label for label in wanted if label not in row_of]
    if missing:
        near = difflib.get_close_matches(missing[0], names, n=3)
        hint = f" (nearest to {missing[0]!r}: {', '.join(near)})" if near else ""
        raise OptionInvalid(f"{path} has no text for {', '.join(missing[:10])}{hint}")
    return [row_of[label] for label in wanted]


def _npz(path: Path, text_key: str, labels_key: str) -> tuple[npt.NDArray[Any], tuple[str, ...] | None]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise SourceUnreadable(f"{path} is one array; a file of named arrays (npz, safetensors) is needed")
            if text_key not in file.files:
                raise SourceUnreadable(f"{path} has no array {text_key!r}; it has {', '.join(file.files)}")
            text = file[text_key]
            names = tuple(str(name) for name in file[labels_key]) if labels_key in file.files else None
    except OSError as fault:
        raise SourceUnreadable(f"{path} cannot be read: {fault.strerror or fault}") from fault
    except (ValueError, zipfile.BadZipFile, EOFError, TypeError) as fault:
        raise SourceUnreadable(f"{path} is no npz file: {fault}") from fault
    return text, names


def _safetensors(path: Path, text_key: str, labels_key: str) -> tuple[npt.NDArray[Any], tuple[str, ...] | None]:
    try:
        with safe_open(path, framework="numpy") as file:
            keys = list(file.keys())
            if text_key not in keys:
                raise SourceUnreadable(f"{path} has no tensor {text_key!r}; it has {', '.join(keys)}")
            text = file.get_tensor(text_key)
            written = (file.metadata() or {}).get(labels_key)
    except OSError as fault:
        raise SourceUnreadable(f"{path} cannot be read: {fault.strerror or fault}") from fault
    except SafetensorError as fault:
        raise SourceUnreadable(f"{path} is no safetensors file: {fault}") from fault
    if written is None:
        return text, None
    try:
        names = json.loads(written)
    except ValueError as fault:
        raise SourceUnreadable(f"{path}: metadata {labels_key!r} is not JSON: {fault}") from fault
    if not isinstance(names, list):
        raise SourceUnreadable(f"{path}: metadata {labels_key!r} must be a JSON list of names")
    return text, tuple(str(name) for name in names)
