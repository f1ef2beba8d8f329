"""Progress of long work: a bar on a terminal, nothing elsewhere (the logs tell)."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fedmq_nodes.sources import Progress


@contextmanager
def bar(what: str) -> Iterator[Progress]:
    """Yield what is called with (done, total); the bar appears with the first call."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as shown:
        tasks: list[TaskID] = []

        def report(done: int, total: int) -> None:
            if not tasks:
                tasks.append(shown.add_task(what, total=total))
            shown.update(tasks[0], completed=done)

        yield report
