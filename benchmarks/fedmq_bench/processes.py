"""Processes: the far ends of a benchmark, each a Python of its own, as nodes are."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Any

PATIENCE_S = 60.0
_SPAWN = get_context("spawn")


@contextmanager
def processes(
    count: int, work: Callable[..., None], *values: object, context: SpawnContext | ForkServerContext = _SPAWN
) -> Iterator[list[Connection]]:
    """Run `work(pipe, number, *values)` in so many processes, and yield our ends of their pipes.

    They are spawned, or forked from one that was, so that none inherits our memory. What has not ended after a minute
    is killed.
    """
    ours, running = [], []
    try:
        for number in range(count):
            here, there = context.Pipe()
            process = context.Process(target=work, args=(there, number, *values), daemon=True)
            process.start()
            there.close()
            ours.append(here)
            running.append(process)
        yield ours
        for process in running:
            process.join(PATIENCE_S)
    finally:
        for process in running:
            process.kill()
            process.join()
        for pipe in ours:
            pipe.close()


def hear(pipe: Connection) -> Any:
    """Return what a process says next.

    raises     RuntimeError if it has ended without a word
    """
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError):
        raise RuntimeError("a process of the benchmark ended early; what it said stands above") from None


def hear_all(pipes: Sequence[Connection]) -> list[Any]:
    """Return what each of these processes says next; that one has ended early is known at once."""
    told: dict[Connection, Any] = {}
    while len(told) < len(pipes):
        for pipe in wait([pipe for pipe in pipes if pipe not in told]):
            assert isinstance(pipe, Connection)
            told[pipe] = hear(pipe)
    return [told[pipe] for pipe in pipes]
