"""Sources: where a node's features come from: images, which the frozen encoder sees once, or a file of features."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedmq_models.bundle import Bundle
from fedmq_models.encode import Encoder
from fedmq_models.examples import Examples
from fedmq_nodes.arrivals import stamp
from fedmq_nodes.cache import FeatureCache
from fedmq_nodes.errors import CacheUnusable, DataUnusable
from fedmq_nodes.files import Choice, Rows, numbered, read
from fedmq_nodes.images import Digests, Image, in_test_split, scan

Progress = Callable[[int, int], None]
KEPT_TOGETHER = 64  # images whose features share one fsync
ATTEMPTS = 3  # at filling a cache that others on this device empty


@dataclass(frozen=True)
class Data:
    """A node's examples, and what a person should know about them.

    train        empty on a node that only evaluates
    skipped      path -> why it could not be read
    unknown      class that the federation has no name for -> how many images it has
    encoded      how many images went through the encoder now; the others were in the cache
    encoder      what it ran on, and why; empty where nothing was encoded
    """

    train: Examples
    test: Examples
    skipped: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    encoded: int = 0
    encoder: str = ""


@dataclass(frozen=True)
class Split:
    """test_share: of the examples held back for evaluation; train: False holds back all of them."""

    test_share: float = 0.2
    train: bool = True

    def apply(self, examples: Examples, keys: Sequence[bytes]) -> tuple[Examples, Examples]:
        """Return (train, test)."""
        test = in_test_split(keys, self.test_share if self.train else 1.0)
        return examples.where(~test), examples.where(test)


class Source(Protocol):
    """What every source offers."""

    def load(self, labels: Sequence[str], split: Split, progress: Progress) -> Data:
        """Return the examples of these classes; may take as long as encoding takes.

        raises     DataUnusable if there are none
        """


@dataclass(frozen=True)
class Images:
    """A folder of images, encoded once per feature space."""

    folder: Path
    bundle: Bundle
    cache: Path
    device: str = "auto"
    threads: int | None = None
    batch: int | None = None
    cache_bytes: int = 0
    digests: Digests = field(default_factory=dict, repr=False, compare=False)

    def stamp(self) -> Hashable:
        """Return what is equal as long as the folder is what it was."""
        return stamp(self.folder)

    def load(self, labels: Sequence[str], split: Split, progress: Progress) -> Data:
        """Encode what is not in the cache yet, and keep it as it comes: an interruption loses a few images' work."""
        found = scan(self.folder, labels, self.digests)
        cache = FeatureCache(self.cache, self.bundle.feature_space, self.bundle.dim)
        keys = [image.key for image in found.images]
        images, limit = len(set(keys)), self.cache_bytes
        if limit and (needed := cache.room(images)) > limit:
            raise CacheUnusable(
                f"the features of {images} images take {needed} bytes, cache_bytes is {limit}; raise it"
            )
        skipped: dict[str, str] = {}
        encoded, encoder = 0, ""
        for _ in range(ATTEMPTS):
            readable = [image for image in found.images if str(image.path) not in skipped]
            if missing := [image for image in readable if cache.row(image.key) is None]:
                refused, encoder = self._encode(missing, cache, progress)
                skipped |= refused
                encoded += len(missing) - len(refused)
            if limit:
                cache.evict(limit, keys)
            rows, values = cache.take(keys)
            usable = [(image, row) for image, row in zip(found.images, rows, strict=True) if row is not None]
            if len(usable) == sum(str(image.path) not in skipped for image in found.images):
                break
        else:
            raise CacheUnusable(
                f"{self.cache} was emptied {ATTEMPTS} times by other nodes while this one filled it; raise cache_bytes"
            )
        if not usable:
            path, why = next(iter(skipped.items()))
            raise DataUnusable(f"{self.folder}: none of {len(skipped)} images can be read, such as {path}: {why}")
        examples = Examples(
            values,
            np.array([row for _, row in usable], dtype=np.int64),
            np.array([image.label for image, _ in usable], dtype=np.int64),
        )
        train, test = split.apply(examples, [image.key for image, _ in usable])
        return Data(train, test, skipped, found.unknown, encoded, encoder)

    def _encode(self, images: list[Image], cache: FeatureCache, progress: Progress) -> tuple[dict[str, str], str]:
        """Return path -> reason of those that cannot be read, and what the encoder ran on."""
        skipped: dict[str, str] = {}
        encoder = Encoder(self.bundle, self.device, threads=self.threads, batch=self.batch)
        progress(0, len(images))
        keys: list[bytes] = []
        rows: list[NDArray[np.float32]] = []

        def skip(position: int, _source: object, why: Exception) -> None:
            skipped[str(images[position].path)] = str(why)

        for positions, features in encoder.encode_files([image.path for image in images], skip):
            keys += [images[position].key for position in positions]
            rows.append(features)
            if len(keys) >= KEPT_TOGETHER:
                cache.add(keys, np.concatenate(rows))
                keys, rows = [], []
            progress(int(positions[-1]) + 1, len(images))
        if keys:
            cache.add(keys, np.concatenate(rows))
        return skipped, " ".join(filter(None, (str(encoder.device), encoder.note)))


@dataclass(frozen=True)
class FeatureFile:
    """A file of features that the bundle's encoder gave."""

    path: Path
    bundle: Bundle
    choice: Choice

    def stamp(self) -> Hashable:
        """Return what is equal as long as the file is what it was."""
        return stamp(self.path)

    def load(self, labels: Sequence[str], split: Split, progress: Progress) -> Data:
        """Read the file; its own split is kept where it has one."""
        whole, held_back = read(self.path, self.choice)
        examples, keys = self._examples(whole, labels)
        if held_back is None:
            return Data(*split.apply(examples, keys))
        test, _ = self._examples(held_back, labels)
        return Data(examples.where(np.full(len(examples), split.train)), test)

    def _examples(self, rows: Rows, labels: Sequence[str]) -> tuple[Examples, list[bytes]]:
        dim = rows.features.shape[1]
        if dim != self.bundle.dim:
            raise DataUnusable(
                f"{self.path} has features of {dim} dimensions, {self.bundle.name} has {self.bundle.dim}"
            )
        known, numbers = numbered(rows, labels)
        if not known.any():
            raise DataUnusable(f"{self.path} has no class that the federation knows: {', '.join(labels[:8])}")
        keys = [key for key, is_known in zip(rows.keys(), known, strict=True) if is_known]
        features = (rows.features * self.bundle.scale).astype(np.float32)
        return Examples(features, np.flatnonzero(known), numbers), keys
