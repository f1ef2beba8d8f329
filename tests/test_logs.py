"""What libraries warn of reaches the log as a line with the name of the file, and not the terminal as text."""

import io
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from fedmq_models import bundle as bundles
from fedmq_models.encode import read_pixels
from linear_encoder import HOW

PATIENCE_S = 240.0
EXIF = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x1a\x01\x05\0"  # five entries are announced, and the first one ends midway
TEXT = "Corrupt EXIF data.  Expecting to read 12 bytes but only got 4."
FLEET = """
[federation]
federation = "damaged"
run = "run"
stop.versions = 1
[[nodes]]
name = "a"
data = "data"
"""


def photograph(exif: bytes, seed: int) -> bytes:
    """A JPEG whose header says nothing of its resolution, for which Pillow then looks in its EXIF data."""
    file = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    Image.fromarray(values).save(file, "JPEG", exif=exif)
    at = file.getvalue().index(b"JFIF\0") + len(b"JFIF\0\1\1")
    return file.getvalue()[:at] + b"\0\0\1\0\1" + file.getvalue()[at + 5 :]


def fedmq(folder: Path, *words: str) -> str:
    """Run a command in a folder to its end and return what it wrote to standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "fedmq", *words],
        cwd=folder, env={"PATH": "", "PYTHONPATH": ":".join(sys.path), "XDG_CACHE_HOME": str(folder)},
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def warned(log: str) -> list[tuple[str, str]]:
    """Return path and text of every warning in a log, all of whose lines must be JSON."""
    lines = [json.loads(line) for line in log.splitlines()]
    return [(Path(line["path"]).name, line["text"]) for line in lines if line["event"] == "library.warned"]


def test_a_photograph_with_damaged_exif_data_is_used_and_every_such_file_is_named_in_the_log(tmp_path: Path) -> None:
    label = bundles.load("tiny").labels[0]
    pictures = tmp_path / "data" / label
    pictures.mkdir(parents=True)
    for seed, (name, exif) in enumerate({"bad": EXIF, "good": b"", "worse": EXIF, "fine": b""}.items()):
        (pictures / f"{name}.jpg").write_bytes(photograph(exif, seed))
    (tmp_path / "fleet.toml").write_text(FLEET)
    fedmq(tmp_path, "up", "fleet.toml")
    log = (tmp_path / "run" / "logs" / "a.log").read_text()
    assert sorted(warned(log)) == [("bad.jpg", TEXT), ("worse.jpg", TEXT)]
    (ready,) = [line for line in map(json.loads, log.splitlines()) if line["event"] == "data.ready"]
    assert (ready["encoded"], ready["skipped"]) == (4, 0)
    said = fedmq(tmp_path, "classify", "--run", "run", str(pictures / "bad.jpg"))
    assert warned(said) == [("bad.jpg", TEXT)]
    said = fedmq(tmp_path, "eval", "run", "--data", "data", "--save", "again")
    assert warned(said) == []  # its features are in the cache, so it is not read again


def test_damaged_exif_data_does_not_touch_the_pixels() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = read_pixels(photograph(EXIF, 0), HOW)
    assert [str(one.message).strip() for one in heard] == [TEXT]
    np.testing.assert_array_equal(found, read_pixels(photograph(b"", 0), HOW))
