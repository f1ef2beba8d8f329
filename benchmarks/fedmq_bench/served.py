"""Served: `fedmq serve` itself, started from the command line, and what the kernel says of its process."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedmq_models import bundle

LABELS = ("dog", "cat", "fish")
HEAVY = ("torch", "onnxruntime")


@dataclass
class Seen:
    """What was seen of a process: resident bytes at first, at last and at most, and which heavy libraries it had."""

    pid: int
    first: int = 0
    last: int = 0
    peak: int = 0
    loaded: set[str] = field(default_factory=set)

    def look(self) -> None:
        """Look again; a process that has ended leaves what was seen last."""
        folder = Path(f"/proc/{self.pid}")
        with suppress(OSError, KeyError):
            facts = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            self.last, self.peak = (1024 * int(facts[key].split()[0]) for key in ("VmRSS", "VmHWM"))
            self.first = self.first or self.last
            maps = (folder / "maps").read_text()
            self.loaded |= {name for name in HEAVY if f"/{name}/" in maps}

    def follow(self, process: "subprocess.Popen[str]", every_s: float) -> list[tuple[float, int]]:
        """Look again and again until the process ends; return (seconds since 1970, resident bytes) of each look.

        raises     RuntimeError if it ends with an error
        """
        sizes = []
        while process.poll() is None:
            self.look()
            sizes.append((time.time(), self.last))
            time.sleep(every_s)
        if process.returncode != 0:
            raise RuntimeError(f"fedmq serve ended with code {process.returncode}")
        return sizes


@contextmanager
def aggregator(file: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run `fedmq serve` and yield its process and its address, once it listens."""
    words = [sys.executable, "-m", "fedmq", "serve", str(file), "--json", "--log-level", "error"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)  # noqa: S603
    assert process.stdout is not None
    try:
        told = process.stdout.readline()
        if not told:
            raise RuntimeError(f"fedmq serve did not start: code {process.wait()}")
        yield process, json.loads(told)["listening"]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def write_bundle(folder: Path, dim: int, seed: int) -> str:
    """Write a bundle of the size of CLIP's, without an encoder, and return its feature space."""
    text = np.random.default_rng(seed).standard_normal((len(LABELS), dim))
    return bundle.write(folder, name="bench", labels=LABELS, text=text, declared_space="bench").feature_space
