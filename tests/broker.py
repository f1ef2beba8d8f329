"""The benchmarks' Mosquitto, installed where it is missing and we may; where we may not, the test is skipped."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from fedmq_bench import broker
from fedmq_bench.broker import AS_ROOT, Mosquitto, free_port
from fedmq_bench.errors import ProgramMissing

__all__ = ["AS_ROOT", "Mosquitto", "free_port", "installed", "running"]


@cache
def installed() -> str:
    """Return the broker's program, installed just now if need be."""
    try:
        return broker.program()
    except ProgramMissing as missing:
        if os.geteuid() == 0 and shutil.which("apt-get"):
            for words in (["update"], ["install", "--yes", "--no-install-recommends", "mosquitto"]):
                subprocess.run(["apt-get", "--quiet", *words], check=False, capture_output=True, timeout=300)
        try:
            return broker.program()
        except ProgramMissing:
            pytest.skip(f"cannot be installed here: {missing}")


@contextmanager
def running(folder: Path, more: str = "", config: Path | None = None, port: int | None = None) -> Iterator[Mosquitto]:
    """Run a broker meanwhile; `more` is added to a configuration that lets everyone in, `config` replaces it."""
    installed()
    with broker.running(folder, more, config, port) as there:
        yield there
