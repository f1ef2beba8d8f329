"""The feature cache: what the frozen encoder said of an image, once and for all.

One folder per feature space, so another encoder, precision or preprocessing never meets old features. Two files that
only grow: `keys`, 32 bytes per row, the sha256 of an image file's bytes; `values`, the feature, `dim` float32. Values
are on the disk before their keys are written, so a row that has a key is whole; what lies behind the last whole row was
cut off by a crash, and is overwritten. Several nodes on one device may share a cache: writers take turns.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmq_nodes.errors import CacheUnusable

KEY_BYTES = 32


class FeatureCache:
    """The features of one feature space.

    folder     of all caches; this one's is named after the space
    """

    def __init__(self, folder: Path, feature_space: str, dim: int) -> None:
        self._folder = folder / feature_space[:KEY_BYTES]
        self._dim = dim
        self._rows: dict[bytes, int] = {}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for name in ("keys", "values", "lock"):
                (self._folder / name).touch()
        except OSError as error:
            raise CacheUnusable(f"{self._folder} cannot hold a feature cache: {error.strerror}") from error
        self._read_keys()

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, key: bytes) -> int | None:
        """Return the row of this image's feature, or None: it was never encoded."""
        return self._rows.get(key)

    def values(self) -> NDArray[np.float32]:
        """Return all features, (rows, dim), memory-mapped and read-only."""
        if not self._rows:
            return np.empty((0, self._dim), np.float32)
        return np.memmap(self._folder / "values", np.float32, "r", shape=(len(self), self._dim))

    def add(self, keys: Sequence[bytes], features: NDArray[np.float32]) -> None:
        """Append features (n, dim) of the images with these keys, less those that are there already.

        raises     CacheUnusable if the disk is full; nothing of this batch is then kept
        """
        with self._turn():
            self._read_keys()
            fresh = {key: i for i, key in enumerate(keys) if key not in self._rows}
            values = np.ascontiguousarray(features[list(fresh.values())], dtype="<f4")
            rows = len(self)
            try:
                self._write("values", rows * self._dim * 4, values.tobytes())
                self._write("keys", rows * KEY_BYTES, b"".join(fresh))
            except OSError as error:
                self._cut(rows)
                free = os.statvfs(self._folder)
                raise CacheUnusable(
                    f"cannot write {values.nbytes} bytes to {self._folder}: {error.strerror}, "
                    f"{free.f_bavail * free.f_frsize} bytes free; make room, what was encoded before is kept"
                ) from error
            self._read_keys()

    def _read_keys(self) -> None:
        """Learn of the rows that were added since, here or by another process. No two rows have the same key."""
        known = len(self)
        with (self._folder / "keys").open("rb") as file:
            file.seek(known * KEY_BYTES)
            data = file.read()
        whole = min(known + len(data) // KEY_BYTES, (self._folder / "values").stat().st_size // (4 * self._dim))
        for row in range(known, whole):
            start = (row - known) * KEY_BYTES
            self._rows[data[start : start + KEY_BYTES]] = row

    def _write(self, name: str, offset: int, data: bytes) -> None:
        with (self._folder / name).open("r+b", buffering=0) as file:
            file.truncate(offset)
            file.seek(offset)
            written = 0
            while written < len(data):
                written += file.write(data[written:]) or 0
            os.fsync(file.fileno())

    def _cut(self, rows: int) -> None:
        os.truncate(self._folder / "keys", rows * KEY_BYTES)
        os.truncate(self._folder / "values", rows * self._dim * 4)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with (self._folder / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
