"""Arrivals: data that comes while a node runs. Before it trains it looks, not too often, for something new.

Looking reads no file: names, sizes and times are compared. What is new is then encoded like anything else, and who has
only been renamed, or written half and then whole, is found out by its bytes.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Growing(Protocol):
    """A source that can say cheaply whether it is still what it was."""

    def stamp(self) -> Hashable:
        """Return what is equal as long as nothing has changed."""


class Arrivals:
    """When to look at a source, and whether to load it again.

    every_s    at most so often; 0 never looks
    """

    def __init__(self, source: object, every_s: float, now: float) -> None:
        self._source = source if isinstance(source, Growing) and every_s > 0 else None
        self._every_s, self._looked_at = every_s, now
        self._stamp: Hashable = self._source.stamp() if self._source else None

    def due(self, now: float) -> bool:
        """Whether it is time to look."""
        return self._source is not None and now - self._looked_at >= self._every_s

    def look(self, now: float) -> bool:
        """Look, and return whether the source is another than when it was last looked at."""
        assert self._source is not None
        self._looked_at, before = now, self._stamp
        self._stamp = self._source.stamp()
        return self._stamp != before


def stamp(place: Path) -> Hashable:
    """Return names, sizes and times of a file, or of those below a folder; what vanishes meanwhile is left out."""
    found = []
    for path in (place, *place.rglob("*")):
        try:
            told = path.stat()
        except OSError:
            continue
        found.append((str(path), told.st_size, told.st_mtime_ns))
    return frozenset(found)
