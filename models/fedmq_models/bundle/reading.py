"""Reading a bundle: a folder, or the name of an embedded one, as one frozen object.

The text features are held against their digest here; the encoder, which may be large, when it is opened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedmq_models.bundle import manifest, text
from fedmq_models.bundle.manifest import Manifest
from fedmq_models.errors import BundleUnreadable

MANIFEST_LIMIT_BYTES = 16 << 20
EMBEDDED = {"tiny": Path(__file__).parents[1] / "tiny" / "bundle"}


@dataclass(frozen=True, kw_only=True)
class Bundle(Manifest):
    """A bundle in memory: its manifest, the folder that it came from, and the text features (classes, dim)."""

    path: Path
    text: npt.NDArray[np.float32] = field(repr=False, compare=False)

    @property
    def encoder_path(self) -> Path:
        """Where the encoder lies.

        raises     BundleUnreadable for a features-only bundle, which has none
        """
        if self.encoder is None:
            raise BundleUnreadable(
                f"bundle {self.name} has no encoder: it takes features, not images; "
                "give a node --features, or use a bundle with an encoder"
            )
        return self.path / self.encoder.file


def load(path_or_name: Path | str) -> Bundle:
    """Read a bundle, without its encoder's bytes.

    raises     BundleUnreadable, naming the file and the key
    """
    return load_folder(folder_of(path_or_name))


def reference(bundle: Bundle) -> str:
    """What to pass to `load` to get this bundle again on this machine: an embedded one's name, or an absolute path."""
    embedded = (name for name, path in EMBEDDED.items() if path == bundle.path)
    return next(embedded, str(bundle.path.absolute()))


def folder_of(path_or_name: Path | str) -> Path:
    """The folder of a bundle: an embedded one by its name ("tiny"), any other by its path ("./tiny" is a path)."""
    return EMBEDDED.get(str(path_or_name), Path(path_or_name))


def load_folder(folder: Path) -> Bundle:
    """Read the bundle in a folder, whatever it is called. See `load`."""
    found = read_manifest(folder)
    rows = text.read(folder, found)
    if found.encoder is not None and not (folder / found.encoder.file).is_file():
        raise BundleUnreadable(f"{folder / found.encoder.file} is missing; copy the whole bundle folder")
    return Bundle(path=folder, text=rows, **vars(found))


def read_manifest(folder: Path) -> Manifest:
    """Read `bundle.json` of a folder.

    raises     BundleUnreadable
    """
    path = folder / manifest.FILE
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MANIFEST_LIMIT_BYTES:
            raise BundleUnreadable(f"{path} has {size_bytes} bytes, limit is {MANIFEST_LIMIT_BYTES}")
        content = path.read_bytes()
    except OSError as fault:
        what = f"holds no readable {manifest.FILE}" if folder.is_dir() else "is no bundle"
        raise BundleUnreadable(
            f"{folder} {what} ({fault.strerror}); name a bundle folder or one of: {', '.join(EMBEDDED)}"
        ) from fault
    return manifest.parse(content, str(path))
