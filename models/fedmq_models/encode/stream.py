"""Images to features as a stream: pieces decoded in parallel, results in order, a bounded number of pieces in memory.

A piece is a few consecutive images. On a CPU a lane takes a piece all the way to features. Beside a GPU the lanes only
decode, and the caller's thread joins pieces to full batches and encodes them while the lanes decode the next.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fedmq_models.bundle import Preprocess
from fedmq_models.encode.devices import Device
from fedmq_models.encode.images import ImageSource
from fedmq_models.encode.preprocess import read_pixels
from fedmq_models.errors import ImageUnreadable

OnError = Callable[[int, ImageSource, ImageUnreadable], None]
Encoded = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
Numbered = tuple[int, ImageSource]

DECODE_PIECE = 8


class BatchEncoder(Protocol):
    """What a stream needs of an encoder: one run at a time, and what is to be prepared for it."""

    preprocess: Preprocess
    device: Device
    batch: int
    threads: int

    def encode_batch(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Features (n, dim) of at most `batch` images (n, 3, size, size), on the calling thread."""


@dataclass(frozen=True)
class Piece:
    """Some consecutive images: positions (k,), their pixels or features (k, ...), and those that could not be read."""

    positions: npt.NDArray[np.int64]
    rows: npt.NDArray[np.float32]
    skipped: tuple[tuple[int, ImageSource, ImageUnreadable], ...]


def in_order(encoder: BatchEncoder, sources: Iterable[ImageSource], on_error: OnError | None) -> Iterator[Encoded]:
    """See `Encoder.encode_files`."""
    how = encoder.preprocess
    lanes_encode = encoder.device is Device.CPU
    piece_images = encoder.batch if lanes_encode else min(DECODE_PIECE, encoder.batch)

    def work(numbered: list[Numbered]) -> Piece:
        piece = decode(numbered, how)
        if not lanes_encode or not len(piece.positions):
            return piece
        return Piece(piece.positions, encoder.encode_batch(piece.rows), piece.skipped)

    # Enough to keep every lane busy while a batch is encoded, and no more: an image is 600 kB of pixels at 224.
    ahead = encoder.threads + (2 if lanes_encode else -(-2 * encoder.batch // piece_images))
    pieces = _ahead(work, _split(sources, piece_images), encoder.threads, ahead)
    if lanes_encode:
        for piece in pieces:
            _report(piece, on_error)
            if len(piece.positions):
                yield piece.positions, piece.rows
        return
    for positions, pixels in _joined(pieces, encoder.batch, on_error):
        yield positions, encoder.encode_batch(pixels)


def decode(numbered: list[Numbered], how: Preprocess) -> Piece:
    """Read some images into one array (k, 3, size, size), leaving out those that cannot be read."""
    rows = np.empty((len(numbered), 3, how.size, how.size), dtype=np.float32)
    positions: list[int] = []
    skipped: list[tuple[int, ImageSource, ImageUnreadable]] = []
    for position, source in numbered:
        try:
            read_pixels(source, how, rows[len(positions)])
        except ImageUnreadable as fault:
            skipped.append((position, source, fault))
        else:
            positions.append(position)
    return Piece(np.array(positions, dtype=np.int64), rows[: len(positions)], tuple(skipped))


def _split(sources: Iterable[ImageSource], count: int) -> Iterator[list[Numbered]]:
    numbered = enumerate(sources)
    while piece := list(itertools.islice(numbered, count)):
        yield piece


def _ahead(
    work: Callable[[list[Numbered]], Piece], pieces: Iterator[list[Numbered]], threads: int, ahead: int
) -> Iterator[Piece]:
    """Do `work` on pieces in parallel and give the results in order, never more than `ahead` of them waiting."""
    pending: deque[Future[Piece]] = deque()
    lanes = ThreadPoolExecutor(threads, "fedmq-images")
    try:
        for piece in pieces:
            pending.append(lanes.submit(work, piece))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # Also when the caller stops early or is interrupted: what has not begun is not done.
        lanes.shutdown(wait=True, cancel_futures=True)


def _joined(pieces: Iterator[Piece], batch: int, on_error: OnError | None) -> Iterator[Encoded]:
    """Pieces joined to batches of exactly `batch` images; the last may be smaller."""
    positions = np.empty(0, dtype=np.int64)
    rows: npt.NDArray[np.float32] | None = None
    for piece in pieces:
        _report(piece, on_error)
        positions = np.concatenate([positions, piece.positions])
        rows = piece.rows if rows is None else np.concatenate([rows, piece.rows])
        while len(positions) >= batch:
            yield positions[:batch], rows[:batch]
            positions, rows = positions[batch:], rows[batch:]
    if rows is not None and len(positions):
        yield positions, rows


def _report(piece: Piece, on_error: OnError | None) -> None:
    if on_error is not None:
        for position, source, fault in piece.skipped:
            on_error(position, source, fault)
