"""Observing: logs for a person on a terminal, for a machine elsewhere; the same event, the same keys."""

import logging
import sys
from collections.abc import Callable
from typing import TextIO

import structlog

from fedmq.effects import Log


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Write logs to this stream (standard error), in colour to a terminal, as JSON lines to anything else.

    level      debug, info, warning or error
    """
    stream = stream or sys.stderr
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if stream.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )


def logger(**context: object) -> Callable[[Log], None]:
    """Return what writes a core's Log effects, each with this context."""
    bound = structlog.get_logger(**context)

    def write(log: Log) -> None:
        getattr(bound, log.level)(log.event, **log.fields)

    return write
