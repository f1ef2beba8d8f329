"""Params and deltas: named float32 arrays, kept as one flat vector that is read through a schema.

One vector, because everything the core does to an update (add, weigh, measure, send) is then one pass over contiguous
memory, whatever the number of arrays. A delta is `after - before`, to be *added*.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NewType

import numpy as np
from numpy.typing import NDArray

from fedmq.errors import ShapeMismatch

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Schema:
    """Names and shapes, in the order in which they stand on the wire."""

    entries: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.float32]]) -> "Schema":
        """Return the schema of these arrays, in their order."""
        return cls(tuple((name, tuple(array.shape)) for name, array in arrays.items()))

    @cached_property
    def size(self) -> int:
        """How many floats."""
        return sum(math.prod(shape) for _, shape in self.entries)

    @cached_property
    def rows(self) -> tuple[tuple[int, int], ...]:
        """Per array (rows, columns): the first axis against the rest; a vector is one row."""
        return tuple(
            (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape)) for _, shape in self.entries
        )

    @cached_property
    def digest(self) -> str:
        """sha256 over names and shapes, hex."""
        return hashlib.sha256(json.dumps(self.entries).encode()).hexdigest()

    def __str__(self) -> str:
        return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in self.entries)


@dataclass(frozen=True, eq=False)
class Arrays:
    """A schema and its values.

    flat       (schema.size,) float32, C-contiguous; never written to by anyone who was handed it
    """

    schema: Schema
    flat: Vector

    def __post_init__(self) -> None:
        if self.flat.shape != (self.schema.size,) or self.flat.dtype != np.float32:
            raise ShapeMismatch(
                f"{self.flat.size} values of {self.flat.dtype} for a schema of {self.schema.size} float32"
            )

    def named(self) -> dict[str, NDArray[np.float32]]:
        """Return name -> view of `flat` in its own shape."""
        views, start = {}, 0
        for name, shape in self.schema.entries:
            stop = start + math.prod(shape)
            views[name] = self.flat[start:stop].reshape(shape)
            start = stop
        return views

    def __repr__(self) -> str:
        return f"<{self.schema.size} float32, norm {np.linalg.norm(self.flat):.4g}>"


Params = NewType("Params", Arrays)
Delta = NewType("Delta", Arrays)


def gather(arrays: Mapping[str, NDArray[np.float32]]) -> Params:
    """Copy named arrays into one vector, in their order."""
    flat = np.concatenate([np.asarray(array, np.float32).ravel() for array in arrays.values()])
    return Params(Arrays(Schema.of(arrays), flat))


def require_same(a: Schema, b: Schema) -> None:
    """Raise ShapeMismatch, naming the first difference, unless both schemas are equal."""
    if a == b:
        return
    for ours, theirs in zip(a.entries, b.entries, strict=False):
        if ours != theirs:
            raise ShapeMismatch(f"{ours[0]} {ours[1]} here, {theirs[0]} {theirs[1]} there")
    raise ShapeMismatch(f"{len(a.entries)} arrays here, {len(b.entries)} there")


def subtract(after: Params, before: Params) -> Delta:
    """Return after - before."""
    require_same(after.schema, before.schema)
    return Delta(Arrays(after.schema, after.flat - before.flat))


def add(params: Params, delta: Delta) -> Params:
    """Return params + delta."""
    require_same(params.schema, delta.schema)
    return Params(Arrays(params.schema, params.flat + delta.flat))


def norm(delta: Delta) -> float:
    """Return the Euclidean norm; not finite exactly if the delta is not.

    One dot product decides both: a NaN or an infinity anywhere makes the sum of squares NaN or infinite. A finite
    float32 vector whose float32 square overflows is measured again in float64.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        square = float(np.dot(delta.flat, delta.flat))
    if math.isfinite(square):
        return math.sqrt(square)
    return float(np.linalg.norm(delta.flat.astype(np.float64)))


def digest(parts: Sequence[bytes | memoryview]) -> str:
    """Return sha256 over the concatenation of the parts, hex."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()


def digest_of(arrays: Arrays) -> str:
    """Return sha256 over the schema and the little-endian float32 bytes, hex: equal digests are equal to the bit."""
    values = np.ascontiguousarray(arrays.flat, dtype="<f4")
    return digest([bytes.fromhex(arrays.schema.digest), values.data.cast("B")])
