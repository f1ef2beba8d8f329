"""Other people's packages: which are installed, what to say where one is missing, and how to keep them quiet."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Any

from fedmq_models.errors import ExportUnavailable


def installed(names: Iterable[str]) -> dict[str, str]:
    """Name -> version of those distributions that are here."""
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def require(name: str) -> Any:
    """Import a module of the export extra.

    raises     ExportUnavailable, with the command that installs it
    """
    try:
        return importlib.import_module(name)
    except ImportError as fault:
        raise ExportUnavailable(
            f'this needs {name}, which cannot be imported ({fault}): pip install "fedmq[export]"'
        ) from fault


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence log lines, warnings and prints: what they say that matters is said in errors and in the provenance."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
