"""Forms: statistics to a payload and back. A form is the codec of an update that carries statistics.

    u32        counts          4 C bytes
    sums       (C, dim)        float32 as they are, or halves of the class means
    then the Gram matrix: its triangle in float32; halves of the triangle over the count; or r vectors of halves

The last is the r largest eigenpairs and an isotropic remainder. With eigenvalues E_k and m the mean of the others, the
vectors are sqrt((E_k - m) / n) v_k: their lengths tell the eigenvalues, and the trace, which is n, tells m. So 2 r dim
bytes say it all: 11,292 bytes at r = 4, dim 512 and seven classes.

What is decoded has the same bits everywhere. Halves of at most 1 are multiples of 2^-24, so their products are exact in
float64, and so is a sum of them that stays within 1.
"""

import struct
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from fedmq.compress.sizes import require_size
from fedmq.errors import BadPayload, Rejection
from fedmq.messages import Buffer, Code
from fedmq.stats.layout import Float, Int, Layout, Statistics, square, triangle

ROUNDED = 2.0**-9  # by how much halves may take a sum of squares beyond 1


class Form(Protocol):
    """What every form offers.

    slack      of the smallest eigenvalue of a Gram matrix below 0, per example: what rounding may do to an honest one
    """

    name: str
    slack: float

    def size_bytes(self, layout: Layout) -> int:
        """Return the size of a payload."""

    def pack(self, found: Statistics) -> Buffer:
        """Return the payload."""

    def unpack(self, payload: Buffer, layout: Layout) -> Statistics:
        """Return the statistics. Raises BadPayload, or Rejection if something is not finite."""


class Fp32:
    """4 bytes per value."""

    name = "stats-fp32"
    slack = 1e-6

    def size_bytes(self, layout: Layout) -> int:
        """Return 4 bytes per count, sum and value of the triangle."""
        return 4 * (layout.classes * (1 + layout.dim) + layout.triangle)

    def pack(self, found: Statistics) -> Buffer:
        """Round to float32."""
        return _counts(found.counts) + found.sums.astype("<f4").tobytes() + found.gram.astype("<f4").tobytes()

    def unpack(self, payload: Buffer, layout: Layout) -> Statistics:
        """Widen each value."""
        require_size(self.name, payload, self.size_bytes(layout))
        counts, values = _split(payload, layout.classes, "<f4")
        sums, gram = np.split(values, [layout.classes * layout.dim])
        return Statistics(counts, sums.reshape(layout.classes, layout.dim), gram)


class Fp16:
    """2 bytes per value, of class means and of the Gram matrix over the count."""

    name = "stats-fp16"
    slack = 6e-4  # 2^-11 of the matrix's Frobenius norm, which is at most its trace, and what subnormal halves lose

    def size_bytes(self, layout: Layout) -> int:
        """Return 4 bytes per count, 2 per sum and value of the triangle."""
        return 4 * layout.classes + 2 * (layout.classes * layout.dim + layout.triangle)

    def pack(self, found: Statistics) -> Buffer:
        """Round to halves."""
        gram = found.gram / max(1, found.examples)
        return _counts(found.counts) + _means(found) + gram.astype("<f2").tobytes()

    def unpack(self, payload: Buffer, layout: Layout) -> Statistics:
        """Widen each value and multiply by its count."""
        require_size(self.name, payload, self.size_bytes(layout))
        counts, values = _split(payload, layout.classes, "<f2")
        means, gram = np.split(values, [layout.classes * layout.dim])
        return Statistics(counts, _sums(counts, means, layout), gram * float(counts.sum()))


class Rank:
    """2 bytes per value of class means and of `rank` vectors."""

    def __init__(self, rank: int) -> None:
        self.name, self.slack, self._rank = f"stats-rank{rank}", 0.0, rank

    def size_bytes(self, layout: Layout) -> int:
        """Return 4 bytes per count, 2 per sum and value of a vector."""
        return 4 * layout.classes + 2 * layout.dim * (layout.classes + self._rank)

    def pack(self, found: Statistics) -> Buffer:
        """Keep the largest eigenpairs of the Gram matrix, and the mean of the other eigenvalues by leaving it out."""
        dim, kept = found.sums.shape[1], min(self._rank, found.sums.shape[1])
        values, vectors = np.linalg.eigh(square(found.gram, dim) / max(1, found.examples))
        remainder = float(np.mean(values[: dim - kept])) if kept < dim else 0.0
        lengths = np.sqrt(np.maximum(values[dim - kept :] - remainder, 0.0))
        rows = np.zeros((self._rank, dim))
        rows[:kept] = (vectors[:, dim - kept :] * lengths).T
        return _counts(found.counts) + _means(found) + rows.astype("<f2").tobytes()

    def unpack(self, payload: Buffer, layout: Layout) -> Statistics:
        """Put the matrix together again: U'U and what the trace lacks, spread over all directions."""
        require_size(self.name, payload, self.size_bytes(layout))
        counts, values = _split(payload, layout.classes, "<f2")
        means, flat = np.split(values, [layout.classes * layout.dim])
        rows = flat.reshape(self._rank, layout.dim)
        if (share := float(np.sum(rows * rows))) > 1 + ROUNDED:
            raise BadPayload(f"{self.name}: its vectors make up {share:.4g} of the trace, limit is 1")
        gram = rows.T @ rows
        gram[np.diag_indices(layout.dim)] += max(0.0, 1.0 - share) / layout.dim
        return Statistics(counts, _sums(counts, means, layout), triangle(gram) * float(counts.sum()))


_ALL: tuple[Form, ...] = (Fp32(), Fp16(), *(Rank(rank) for rank in (2, 4, 8, 16, 64)))
FORMS: Mapping[str, Form] = {form.name: form for form in _ALL}


def _counts(counts: Int) -> bytes:
    return struct.pack(f"<{len(counts)}I", *counts.tolist())


def _means(found: Statistics) -> bytes:
    return (found.sums / np.maximum(found.counts, 1)[:, None]).astype("<f2").tobytes()


def _sums(counts: Int, means: Float, layout: Layout) -> Float:
    sums: Float = means.reshape(layout.classes, layout.dim) * counts.astype(np.float64)[:, None]
    return sums


def _split(payload: Buffer, classes: int, kind: str) -> tuple[Int, Float]:
    """Return the counts, and all that follows as float64.

    raises     Rejection if it is not finite
    """
    view = memoryview(payload).cast("B")
    counts = np.frombuffer(view[: 4 * classes], "<u4").astype(np.int64)
    rest: Float = np.frombuffer(view[4 * classes :], kind).astype(np.float64)
    if not np.isfinite(rest).all():
        raise Rejection(Code.NOT_FINITE, "the statistics hold NaN or infinity; look at the node's features")
    return counts, rest
