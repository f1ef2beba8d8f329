"""The feature cache: what the frozen encoder said of an image, once and for all.

One folder per feature space, so another encoder, precision or preprocessing never meets old features. Two files that
only grow: `keys`, 32 bytes per row, the sha256 of an image file's bytes; `values`, the feature, `dim` float32. Values
are on the disk before their keys are written, so a row that has a key is whole; what lies behind the last whole row was
cut off by a crash, and is overwritten. Several nodes on one device may share a cache: writers take turns.

Where it may not grow for ever, features that nobody here needs are left out of a copy that takes its place, the oldest
first. The keys are gone before the values are others, and come back last, so a crash in between costs the features, and
never mixes them up; a process that has read the old keys notices by `generation`, a count, and reads the new ones.
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
        self._generation = 0  # of the keys that were read
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for name in ("keys", "values", "lock"):
                (self._folder / name).touch()
        except OSError as error:
            raise CacheUnusable(f"{self._folder} cannot hold a feature cache: {error.strerror}") from error
        with self._turn():
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

    def take(self, keys: Sequence[bytes]) -> tuple[list[int | None], NDArray[np.float32]]:
        """Return the rows of these images, None where there is none any more, and the features that they are of."""
        with self._turn():
            self._read_keys()
            return [self.row(key) for key in keys], self.values()

    def room(self, images: int) -> int:
        """Return how many bytes so many images take."""
        return images * (KEY_BYTES + 4 * self._dim)

    def evict(self, most_bytes: int, needed: Sequence[bytes]) -> int:
        """Leave out so many features that `most_bytes` are held, and return how many; `needed` are held in any case.

        Of the others the oldest go first.
        """
        with self._turn():
            self._read_keys()
            if self.room(len(self)) <= most_bytes:
                return 0
            kept = set(needed) & set(self._rows)
            for key in reversed(self._rows):  # the newest last
                if self.room(len(kept) + 1) > most_bytes:
                    break
                kept.add(key)
            before, rows = len(self), [row for key, row in self._rows.items() if key in kept]
            values = np.ascontiguousarray(self.values()[rows], dtype="<f4")
            keys = b"".join(key for key in self._rows if key in kept)
            try:
                self._replace(values.tobytes(), keys)
            finally:
                (self._folder / "keys").touch()
                self._read_keys()
            return before - len(self)

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
        if (generation := self._newest_generation()) != self._generation:
            self._generation, self._rows = generation, {}
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

    def _replace(self, values: bytes, keys: bytes) -> None:
        """Have these in place of what there is, or, if that fails midway, nothing."""
        for name, data in (("values.new", values), ("keys.new", keys)):
            (self._folder / name).touch()
            self._write(name, 0, data)
        (self._folder / "generation.new").write_text(str(self._newest_generation() + 1))
        os.replace(self._folder / "generation.new", self._folder / "generation")
        (self._folder / "keys").unlink()
        self._sync_folder()
        os.replace(self._folder / "values.new", self._folder / "values")
        self._sync_folder()
        os.replace(self._folder / "keys.new", self._folder / "keys")
        self._sync_folder()

    def _newest_generation(self) -> int:
        try:
            return int((self._folder / "generation").read_text())
        except FileNotFoundError:
            return 0  # nothing was ever left out

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _cut(self, rows: int) -> None:
        os.truncate(self._folder / "keys", rows * KEY_BYTES)
        os.truncate(self._folder / "values", rows * self._dim * 4)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with (self._folder / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
