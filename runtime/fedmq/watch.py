"""Watching a run from a terminal: asking its aggregator again and again, until it has finished.

On a terminal it is a view that is drawn anew; anywhere else a line whenever there is something new. An aggregator that
is gone may come back, so it is waited for.
"""

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.live import Live

from fedmq import control, show, view
from fedmq.errors import AddressUnusable
from fedmq.record import LEDGER
from fedmq.status import Status
from fedmq.story import Story
from fedmq.wanted import Wanted

OVER = ("finishing", "done")


def watch(run: Path, wanted: Wanted, every_s: float, once: bool, console: Console | None = None) -> None:
    """Show how the federation in this folder stands until it has finished; `once` shows it once.

    raises     AddressUnusable if none is running there now
    """
    console = console or Console()
    answer = control.ask(run)
    with Story(run / LEDGER) as story:
        story.advance()
        if once:
            console.print(view.render(wanted.of(answer), story, console, whole=True))
        elif console.is_terminal:
            with Live(console=console, auto_refresh=False, screen=True) as live:

                def draw(found: Status, missing: str) -> None:
                    live.update(view.render(wanted.of(found), story, console, missing=missing), refresh=True)

                last = _follow(run, story, answer, every_s, draw)
            console.print(view.render(wanted.of(last), story, console, whole=True))
        else:
            _follow(run, story, answer, every_s, _lines(console, wanted))


def _follow(run: Path, story: Story, answer: Status, every_s: float, draw: Callable[[Status, str], None]) -> Status:
    """Draw what is found until there is nothing more to come; return the last status."""
    missing = ""
    while True:
        draw(answer, missing)
        time.sleep(every_s)
        try:
            answer, missing = control.ask(run), ""
        except AddressUnusable as error:
            missing = f"{error}; waiting for it to come back"
        story.advance()
        last = story.finished()
        if missing and last is None and answer["phase"] in OVER:
            last = answer["version"]  # it had finished before it was started
        if missing and last is not None:
            draw(answer, f"the federation has finished with version {last}")
            return answer


def _lines(console: Console, wanted: Wanted) -> Callable[[Status, str], None]:
    """Return what prints a line for each version, each new reason to wait, and when nobody answers."""
    said = ""

    def draw(found: Status, missing: str) -> None:
        nonlocal said
        round_ = found["round"]
        news = missing or str((found["version"], found["phase"], round_["waiting_for"], round_["gone"]))
        if news != said:
            said = news
            text = missing or show.line(wanted.of(found))
            console.print(f"{time.strftime('%H:%M:%S')}  {text}", highlight=False, soft_wrap=True, markup=False)

    return draw
