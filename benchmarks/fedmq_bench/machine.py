"""The machine: what a number was measured on, which goes into every row. Without it a number says nothing."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("fedmq", "numpy", "torch", "onnxruntime", "onnxruntime-gpu", "open_clip_torch", "pyzmq")
CHECKOUT = Path(__file__).resolve().parents[2]


def context(command: str, seed: int) -> dict[str, Any]:
    """Return where and when a row comes from; ask before the run, or its load is the run's own.

    command    what a person types to get the row
    """
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "commit": commit(),
        "cpu": cpu(),
        "cores": cores(),
        "load": round(os.getloadavg()[0], 2),
        "seed": seed,
        "versions": versions(),
    }


def commit() -> str | None:
    """Return what git calls this checkout, with -dirty where files differ from it; None where there is no checkout."""
    git = shutil.which("git")
    if git is None or not (CHECKOUT / ".git").exists():
        return None
    # Without optional locks, or asking would rewrite the index of whoever works here.
    words = [git, "--no-optional-locks", "-C", str(CHECKOUT), "describe", "--always", "--dirty", "--abbrev=12"]
    said = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    return said.stdout.strip() or None


def cpu() -> str:
    """Return what the processor calls itself."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def torch_threads(count: int | None) -> Iterator[int]:
    """Have PyTorch use so many threads, or as many as there are cores, and yield how many; then as before."""
    import torch

    before, wanted = torch.get_num_threads(), count or cores()
    torch.set_num_threads(wanted)
    try:
        yield wanted
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Have PyTorch and numpy's products use one thread.

    With more, on a machine that does other things too, they wait for each other in busy loops.
    """
    from threadpoolctl import threadpool_limits

    with torch_threads(1), threadpool_limits(1):
        yield


def versions() -> dict[str, str]:
    """Return the versions of Python, fedmq and what its speed depends on."""
    return {"python": platform.python_version(), **dict(_installed())}


def _installed() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            yield name, metadata.version(name)
