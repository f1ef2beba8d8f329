"""Observing: logs for a person on a terminal, for a machine elsewhere; the same event, the same keys."""

import logging
import sys
import warnings
from collections.abc import Callable
from typing import TextIO

import structlog

from fedmq.effects import Log


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Write logs to this stream (standard error), in colour to a terminal, as JSON lines to anything else.

    What libraries warn of becomes a log line too, with what is bound to the context in which they do: a warning by
    itself names a line of the library, and not the input that it is about.

    level      debug, info, warning or error
    """
    stream = stream or sys.stderr
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if stream.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    warnings.showwarning = _warned


def logger(**context: object) -> Callable[[Log], None]:
    """Return what writes a core's Log effects, each with this context."""
    bound = structlog.get_logger(**context)

    def write(log: Log) -> None:
        getattr(bound, log.level)(log.event, **log.fields)

    return write


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Take the place of `warnings.showwarning`, which Python asks only for what its filters let through."""
    where = f"{filename}:{lineno}"
    structlog.get_logger().warning("library.warned", text=str(message).strip(), kind=category.__name__, where=where)
