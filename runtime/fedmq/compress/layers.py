"""The layer-wise choice: vectors as half precision, matrices by a codec that is made for them.

Arrays with fewer than two axes (biases, normalisation parameters) are a thousandth of an adapter and not alike: no
codec wins bytes on them that it is worth losing them for. A matrix is the first axis against the rest.

Payload: the fp16 values of all vectors, in the order of the schema, then what the inner codec makes of the matrices.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedmq.compress.halves import from_fp16, to_fp16
from fedmq.delta import Arrays, Schema, Vector
from fedmq.errors import BadPayload
from fedmq.messages import Buffer

Matrix = NDArray[np.float32]  # (rows, columns)
Shapes = Sequence[tuple[int, int]]


class MatrixCodec(Protocol):
    """What packs matrices. Both methods are pure; randomness comes from the seed alone.

    feedback   it is biased: only correct where what it loses is added to what is sent next
    """

    name: str
    feedback: bool

    def most_bytes(self, shapes: Shapes) -> int:
        """Return the most bytes that matrices of these shapes can take: exactly what they take if that is fixed."""

    def pack(self, matrices: Sequence[Matrix], seed: int) -> Buffer:
        """Return the payload of views of the matrices, any number, any shape, empty ones included."""

    def unpack(self, payload: Buffer, into: Sequence[Matrix]) -> None:
        """Write the matrices, which are C-contiguous, in place. Raises BadPayload."""


class Layered:
    """2 bytes per value of a vector, and what the inner codec needs for the matrices."""

    lossless = False

    def __init__(self, inner: MatrixCodec) -> None:
        self.inner = inner
        self.name, self.feedback = inner.name, inner.feedback

    def size_bytes(self, schema: Schema) -> int:
        """Return 2 bytes per value of a vector, and the most that the matrices can take."""
        rows = zip(schema.entries, schema.rows, strict=True)
        return 2 * _vector_size(schema) + self.inner.most_bytes([two for (_, shape), two in rows if len(shape) > 1])

    def pack(self, arrays: Arrays, seed: int) -> Buffer:
        """Halve the vectors and pack the matrices."""
        vectors, matrices = _split(arrays)
        return to_fp16(np.concatenate([np.zeros(0, np.float32), *vectors])) + self.inner.pack(matrices, seed)

    def unpack(self, payload: Buffer, schema: Schema) -> Arrays:
        """Unpack both into one vector; a payload that cannot have the right size is refused unread."""
        halves_bytes, most_bytes = 2 * _vector_size(schema), self.size_bytes(schema)
        if not halves_bytes <= len(payload) <= most_bytes:
            raise BadPayload(
                f"{self.name} payload of {len(payload)} bytes, the schema needs {halves_bytes} to {most_bytes}"
            )
        arrays = Arrays(schema, np.empty(schema.size, np.float32))
        vectors, matrices = _split(arrays)
        self.inner.unpack(memoryview(payload)[halves_bytes:], matrices)
        start = 0
        for vector in vectors:
            halves = np.frombuffer(payload, dtype="<u2", count=vector.size, offset=start)
            from_fp16(halves, out=vector)
            start += halves.nbytes
        return arrays


def _vector_size(schema: Schema) -> int:
    return sum(math.prod(shape) for _, shape in schema.entries if len(shape) < 2)


def _split(arrays: Arrays) -> tuple[list[Vector], list[Matrix]]:
    """Return views of the vectors, and of the matrices, in the order of the schema."""
    vectors, matrices, start = [], [], 0
    for (_, shape), (rows, columns) in zip(arrays.schema.entries, arrays.schema.rows, strict=True):
        values = arrays.flat[start : start + rows * columns]
        if len(shape) > 1:
            matrices.append(values.reshape(rows, columns))
        else:
            vectors.append(values)
        start += rows * columns
    return vectors, matrices
