"""The view of a run on a terminal: how it stands, how it came there, and the nodes that a person should look at."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedmq import show
from fedmq.attention import first
from fedmq.status import Status
from fedmq.story import Story

BARS = "▁▂▃▄▅▆▇█"
LABEL, FIGURES = 15, 34  # columns beside a line of bars
LEAST_ROWS, BELOW = 3, 3  # BELOW: the table's own head, what it leaves out, and the cursor
WIDE = 110
MOST_STALE = 8  # further ones share a bar


def render(status: Status, story: Story, console: Console, whole: bool = False, missing: str = "") -> RenderableType:
    """Return the view, cut to what fits on this console.

    whole      as many nodes as there are, one below the other
    missing    why there is nothing newer, if so
    """
    absent = [Text(missing, "bold yellow")] if missing else []
    above = Group(*absent, *show.heading(status), _history(story, console.width))
    left = console.height - len(console.render_lines(above)) - BELOW
    shown = first(status["nodes"], len(status["nodes"]) if whole else max(LEAST_ROWS, left))
    table = show.nodes(shown, story.taken, narrow=console.width < WIDE)
    return Group(above, table, *_left_out(status, shown))


def bars(values: Sequence[float], width: int) -> str:
    """Return the last of these values as bars, between the smallest and the largest of them; 0 is always in sight."""
    shown = list(values)[-max(1, width) :]
    low, high = min([*shown, 0.0]), max([*shown, 0.0])
    span = (high - low) or 1.0
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in shown)


def _history(story: Story, width: int) -> RenderableType:
    if not story.rounds:
        return Text("no version yet", "dim")
    room = width - LABEL - FIGURES
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", width=LABEL - 2)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(no_wrap=True)
    last = story.rounds[-1]
    if story.accuracy:
        means = [mean for _, mean in sorted(story.accuracy.items())]
        # Accuracy moves by points, so its bars begin at the lowest that is drawn.
        drawn = means[-max(1, room) :]
        table.add_row(
            "accuracy",
            bars([mean - min(drawn) for mean in drawn], room),
            f"{means[-1]:.1%} after {show.size(last.total)}",
        )
    sizes = [one.up + one.down for one in story.rounds]
    table.add_row("bytes/round", bars(sizes, room), f"{show.size(last.up)} up, {show.size(last.down)} down")
    table.add_row("round open", bars([one.open_s for one in story.rounds], room), f"{last.open_s:.2f} s, {last.cause}")
    table.add_row(
        "updates/round", bars([one.updates for one in story.rounds], room), f"{last.updates} of {last.invited}"
    )
    counts: Counter[int] = Counter()
    for behind, count in story.staleness.items():
        counts[min(behind, MOST_STALE)] += count
    told = "  ".join(f"{n}{'+' if n == MOST_STALE else ''}: {counts[n]}" for n in sorted(counts))
    table.add_row("staleness", bars([counts[n] for n in range(max(counts, default=0) + 1)], room), told)
    return table


def _left_out(status: Status, shown: Sequence[object]) -> list[Text]:
    known, asked = status.get("known", len(status["nodes"])), len(status["nodes"])
    if asked > len(shown):
        states = Counter(node["state"] for node in status["nodes"])
        words = ", ".join(f"{count} {state}" for state, count in states.most_common())
        return [Text(f"{len(shown)} of {asked} nodes; in all {words}", "dim", no_wrap=True, overflow="ellipsis")]
    return [Text(f"{asked} of {known} nodes", "dim")] if known > asked else []
