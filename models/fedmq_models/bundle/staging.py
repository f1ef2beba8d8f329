"""Staging: a folder or a file is written beside its place and renamed into it, so that it is never there by halves."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fedmq_models.bundle.manifest import FILE
from fedmq_models.errors import BundleUnwritable


def require_free(out: Path, replace: bool) -> None:
    """Refuse a bundle's place that is taken, before the work that would fill it.

    replace    a bundle may be there; anything else is never removed
    raises     BundleUnwritable
    """
    is_ours = (out / FILE).is_file()
    if out.exists() and not (replace and is_ours):
        advice = "use --replace to put a new one there" if is_ours else "choose another place"
        raise BundleUnwritable(f"{out} exists already; {advice}")


@contextlib.contextmanager
def staged(out: Path, replace: bool) -> Iterator[Path]:
    """A folder that becomes the bundle `out` when the block ends well, and vanishes when it does not.

    raises     BundleUnwritable if `out` is taken, or if the disk refuses on the way
    """
    require_free(out, replace)
    with _beside(out) as folder:
        yield folder
        _settle(folder)
        _swap(folder, out)


@contextlib.contextmanager
def staged_file(out: Path) -> Iterator[Path]:
    """A path that becomes the file `out` when the block ends well; whatever was there stays when it does not.

    raises     BundleUnwritable if the disk refuses
    """
    with _beside(out) as folder:
        yield folder / out.name
        _settle(folder)
        (folder / out.name).replace(out)


@contextlib.contextmanager
def _beside(out: Path) -> Iterator[Path]:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    except OSError as fault:
        raise BundleUnwritable(f"cannot make a folder beside {out}: {fault.strerror}") from fault
    try:
        yield folder
    except OSError as fault:
        raise BundleUnwritable(f"cannot write {out}: {fault.strerror or fault}; it is as it was") from fault
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _settle(folder: Path) -> None:
    """Bring files to the disk before the rename: after a power cut, a name must not outlive its content."""
    folder.chmod(0o755)  # mkdtemp makes it private; a bundle is read by other users' nodes too
    for path in folder.iterdir():
        path.chmod(0o644)
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _swap(folder: Path, out: Path) -> None:
    if not out.exists():
        folder.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent))
    out.rename(old / out.name)
    try:
        folder.rename(out)
    except OSError:
        (old / out.name).rename(out)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
