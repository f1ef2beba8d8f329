"""Startup: wall-clock time of `fedmq --help`, beside that of a Python that does nothing."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from fedmq_bench.harness import Say, figures, in_turns

HELP = (sys.executable, "-m", "fedmq", "--help")
NOTHING = (sys.executable, "-c", "pass")


def measure(repeats: int, say: Say) -> Iterator[dict[str, Any]]:
    """Yield one row."""
    cpu: list[float] = []

    def ours() -> None:
        before = _cpu_s()
        _run(HELP)
        cpu.append(_cpu_s() - before)

    turns = in_turns(ours, lambda: _run(NOTHING), repeats, say=say)
    counted = sorted(cpu[-repeats:])
    yield {
        "case": "startup",
        "median_s": turns.median_s,
        "python_s": turns.other_s,
        **figures(turns),
        "min_s": min(turns.ours),
        "cpu_s": counted[len(counted) // 2],
    }


def _run(words: tuple[str, ...]) -> None:
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)  # noqa: S603


def _cpu_s() -> float:
    """Return the CPU seconds of the processes that we have started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
