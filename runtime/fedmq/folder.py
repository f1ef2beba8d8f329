"""The folder of a run, or of a node: one process at a time, and files that are still there after a power cut."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmq.errors import LedgerUnusable


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold the folder, which is made if need be, for as long as this process lives.

    raises     LedgerUnusable if it cannot be made, or another process holds it
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise LedgerUnusable(f"{folder} cannot be used: {error.strerror}") from error
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def sync(folder: Path) -> None:
    """Have the names of the files in it on the disk, those that were just made or replaced included."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LedgerUnusable(f"{folder} is in use by another process; stop it, or choose another folder") from None
