"""Segments: the payloads of updates, in append-only files beside the ledger, which says where each of them lies.

A payload of half a megabyte would cost SQLite a checksum and two writes, to its log and to its table. Here the payloads
of a batch are written once, by one call, and synced once. Nothing is found here without the ledger's row, and that row
is written when the payload is on the disk: what a crash leaves behind the last row is not there, and is written over.

A segment begins right after a version and holds all payloads up to another, so that whoever has the params of the first
can compute all the others.
"""

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedmq.errors import LedgerUnusable, PayloadGone
from fedmq.folder import sync
from fedmq.messages import Buffer

SEGMENT_BYTES = 64 * 2**20
MOST_PARTS = 1024  # that the kernel takes at once (IOV_MAX)


@dataclass(frozen=True)
class Place:
    """Where a payload lies, and its CRC-32."""

    segment: int
    start: int
    size: int
    crc: int


class Segments:
    """The segments of one ledger, open for writing.

    ends       the segments that the ledger knows, and how many bytes of each are in use
    """

    def __init__(self, ledger: Path, ends: Mapping[int, int], full_bytes: int = SEGMENT_BYTES) -> None:
        self._ledger, self._ends, self._full_bytes = ledger, dict(ends), full_bytes
        self._current = max(self._ends)
        self._carried = 0  # bytes of earlier segments in the one in use
        self._file: int | None = None
        self._unwritten: list[memoryview] = []
        for found in ledger.parent.glob(f"{ledger.name}-payloads-*"):
            if found not in {path(ledger, segment) for segment in self._ends}:
                found.unlink()  # a drop, or a beginning, that a kill cut short

    @property
    def mark(self) -> tuple[int, int]:
        """The segment in use, and its end."""
        return self._current, self._ends[self._current]

    @property
    def is_full(self) -> bool:
        """Whether the next version should begin another."""
        return self._ends[self._current] - self._carried >= self._full_bytes

    def append(self, payload: Buffer) -> Place:
        """Say where a payload goes; it is written, and durable, after `sync`."""
        place = Place(self._current, self._ends[self._current], len(payload), zlib.crc32(payload))
        self._unwritten.append(memoryview(payload).cast("B"))
        self._ends[self._current] += place.size
        return place

    def carry(self, payload: Buffer) -> Place:
        """Say where a payload of an earlier segment goes, which does not make this one any fuller."""
        self._carried += len(payload)
        return self.append(payload)

    def sync(self) -> None:
        """Have everything that was appended on the disk."""
        if not self._unwritten:
            return
        file, parts = self._open(), self._unwritten
        at = self._ends[self._current] - sum(map(len, parts))
        while parts:
            written = os.pwritev(file, parts[:MOST_PARTS], at)
            at += written
            while parts and written >= len(parts[0]):
                written -= len(parts.pop(0))
            if written:
                parts[0] = parts[0][written:]
        os.fdatasync(file)
        # Nobody reads them soon: their pages, given back, are the next batch's, which spares the kernel finding others.
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)

    def roll(self) -> int:
        """Begin another segment and return its number."""
        self.sync()
        self.close()
        self._current += 1
        self._carried = 0
        self._ends[self._current] = 0
        return self._current

    def rewind(self, mark: tuple[int, int]) -> None:
        """Forget what was written since `mark`: the ledger does not know of it."""
        self._unwritten = []
        segment, end = mark
        if segment != self._current:
            self.close()
            for later in range(segment + 1, self._current + 1):
                del self._ends[later]
                path(self._ledger, later).unlink(missing_ok=True)
            self._current, self._carried = segment, 0
        self._ends[segment] = end

    def beyond(self, most_bytes: int) -> list[int]:
        """Return the oldest segments, without which the others but the one in use take no more than so many bytes."""
        closed = sorted(set(self._ends) - {self._current})
        total, found = sum(self._ends[segment] for segment in closed), []
        for segment in closed:
            if total <= most_bytes:
                break
            total -= self._ends[segment]
            found.append(segment)
        return found

    def drop(self, segment: int) -> None:
        """Delete a segment that the ledger no longer knows."""
        del self._ends[segment]
        path(self._ledger, segment).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)

    def _open(self) -> int:
        if self._file is None:
            self._file = os.open(path(self._ledger, self._current), os.O_RDWR | os.O_CREAT, 0o644)
            sync(self._ledger.parent)
        return self._file


def path(ledger: Path, segment: int) -> Path:
    """Return the file of a segment."""
    return ledger.with_name(f"{ledger.name}-payloads-{segment}")


def read(ledger: Path, place: Place) -> bytes:
    """Return a payload.

    raises     PayloadGone if it cannot be read, LedgerUnusable if it is not what was written
    """
    file = path(ledger, place.segment)
    try:
        with file.open("rb") as found:
            found.seek(place.start)
            data = found.read(place.size)
    except OSError as error:
        raise PayloadGone(f"{file} cannot be read: {error.strerror}") from error
    if (crc := zlib.crc32(data)) != place.crc:
        raise LedgerUnusable(
            f"the {place.size} bytes at {place.start} of {file.name} are damaged: their checksum is {crc:08x}, "
            f"written was {place.crc:08x}"
        )
    return data
