"""Images as they lie on a device: one folder per class, as photo collections and torchvision's ImageFolder have them.

An image is known by the bytes of its file, so a renamed or moved one is not encoded again, and whether it belongs to
the test split depends on these bytes alone: adding images never moves an old one from one split to the other.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmq_nodes.errors import DataUnusable

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".ppm"})
HASHING_THREADS = 4


@dataclass(frozen=True)
class Image:
    """One file, its class, and the sha256 of its bytes."""

    path: Path
    label: int
    key: bytes


@dataclass(frozen=True)
class Found:
    """What a folder holds: images of known classes, and the class folders that the federation has no name for."""

    images: list[Image]
    unknown: dict[str, int]


# What was read of a file as it was then, by its path, size and time: so that looking again reads only what is new.
Digests = dict[tuple[Path, int, int], bytes]


def scan(folder: Path, labels: Sequence[str], digests: Digests | None = None) -> Found:
    """Find the images below `folder/<label>/`.

    digests    of files that were read before; those that are read now are added
    raises     DataUnusable if there are none, or none of a class that the federation knows
    """
    require_some(folder)
    classes = {label: number for number, label in enumerate(labels)}
    files: list[tuple[Path, int]] = []
    unknown: dict[str, int] = {}
    for child in sorted(folder.iterdir()):
        paths = list(_images(child)) if child.is_dir() else []
        if child.name in classes:
            files += [(path, classes[child.name]) for path in paths]
        elif paths:
            unknown[child.name] = len(paths)
    if not files and unknown:
        raise DataUnusable(
            f"{folder} has the classes {_some(unknown)}, the federation {_some(labels)}: none in common; "
            "rename the class folders, or join another federation"
        )
    if not files:
        raise DataUnusable(_no_images(folder, labels[0]))
    with ThreadPoolExecutor(HASHING_THREADS) as threads:
        known = {} if digests is None else digests
        keys = threads.map(lambda path: _known_digest(path, known), (path for path, _ in files))
        images = [Image(path, label, key) for (path, label), key in zip(files, keys, strict=True)]
    return Found(images, unknown)


def require_some(folder: Path) -> None:
    """Raise DataUnusable if there is no image in any class folder; quick, and whatever the classes are."""
    if not folder.is_dir():
        raise DataUnusable(f"{folder} is not a folder; --data takes one that has a folder of images per class")
    if not any(next(_images(child), None) for child in folder.iterdir() if child.is_dir()):
        raise DataUnusable(_no_images(folder, "label"))


def in_test_split(keys: Sequence[bytes], share: float) -> NDArray[np.bool_]:
    """Return which of these are test examples: a share of all possible keys, always the same ones."""
    limit = share * 2.0**64
    return np.array([int.from_bytes(key[:8], "big") < limit for key in keys], dtype=np.bool_)


def _images(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file():
            yield path


def _no_images(folder: Path, label: str) -> str:
    return f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}) in class folders such as {folder / label}/"


def _known_digest(path: Path, known: Digests) -> bytes:
    told = path.stat()
    was = (path, told.st_size, told.st_mtime_ns)
    if was not in known:
        known[was] = _digest(path)
    return known[was]


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _some(names: Sequence[str] | dict[str, int], most: int = 8) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
