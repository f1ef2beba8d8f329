"""The live view of a fleet: the status table while it runs on a terminal, a line per version elsewhere."""

import sys
from collections.abc import Sequence
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fedmq import show
from fedmq_nodes.fleet import Ended


class View:
    """Shows a status whenever it is told one. Use as a context manager."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False) if sys.stderr.isatty() and not quiet else None
        self._quiet, self._version = quiet, -1

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, status: dict[str, Any], ended: Sequence[Ended]) -> None:
        """Show how the federation stands, and which nodes' processes are no more."""
        if self._live:
            parts = [show.render(status), *(Text(_obituary(one), "red") for one in ended)]
            self._live.update(Group(*parts), refresh=True)
        elif not self._quiet and status["version"] > self._version:
            self._version = status["version"]
            self._console.print(show.line(status), highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Tell what happens, above the table."""
        if not self._quiet:
            self._console.print(text, style="bold magenta", highlight=False, soft_wrap=True)


def _obituary(one: Ended) -> str:
    how = f"was killed by signal {-one.code}" if one.code < 0 else f"has ended with code {one.code}"
    return f"{one.name} {how}" + (f": {one.last_words[:160]}" if one.code > 0 else "")
