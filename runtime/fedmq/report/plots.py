"""Plots: one function each, from series to an SVG that stands in a page."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from fedmq.report.series import Series

STYLE = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "fedmq",
}
ACCEPTED, REFUSED, UP, DOWN = "#3b7dd8", "#d1495b", "#3b7dd8", "#8fb8de"
MARKERS = {"lost": ("x", "#d1495b"), "left": ("|", "#888888"), "ready": (">", "#2a9d5c"), "refused": ("X", "#d1495b")}


def accuracy(series: Series) -> str:
    """Accuracy of each node over versions; dashed where the frozen model stands."""
    with canvas("accuracy on each node's own test split", 7.0, 3.6) as (axes, svg):
        for curve in series.accuracy():
            (line,) = axes.plot(curve.x, curve.accuracy, marker="o", markersize=3, linewidth=1.4, label=curve.name)
            if curve.zero_shot is not None:
                axes.axhline(curve.zero_shot, color=line.get_color(), linestyle=":", linewidth=0.9)
        axes.set_xlabel("version (dotted: zero-shot)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        if axes.lines:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return svg()


def accuracy_by_bytes(series: Series) -> str:
    """Mean accuracy over what it cost to get there."""
    with canvas("mean accuracy against bytes", 5.0, 3.6) as (axes, svg):
        curve = series.accuracy_by_bytes()
        axes.plot(curve.x, curve.accuracy, marker="o", markersize=3, color=ACCEPTED)
        if curve.zero_shot is not None:
            axes.axhline(curve.zero_shot, color="#888888", linestyle=":", linewidth=0.9)
        axes.set_xlabel("bytes up and down, application layer")
        axes.xaxis.set_major_formatter(EngFormatter("B"))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    return svg()


def timeline(series: Series) -> str:
    """Who trained when, what became of it, and when versions were committed."""
    names = sorted(series.names.values(), reverse=True)
    row = {name: at for at, name in enumerate(names)}
    with canvas("who trained when", 12.0, 1.0 + 0.34 * max(1, len(names))) as (axes, svg):
        for at in series.commits():
            axes.axvline(at, color="#cccccc", linewidth=0.8, zorder=0)
        for bar in series.trainings():
            colour = ACCEPTED if bar.accepted else REFUSED
            alpha = 1.0 / (1.0 + 0.25 * bar.staleness)
            axes.barh(
                row[bar.node], bar.stop - bar.start, left=bar.start, height=0.6, color=colour, alpha=alpha, linewidth=0
            )
        for mark in (mark for mark in series.marks() if mark.node in row):
            shape, colour = MARKERS[mark.what]
            axes.plot([mark.at], [row[mark.node]], marker=shape, color=colour, markersize=7, markeredgewidth=2)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("seconds; grey: a version; paler: staler; red: refused; green: ready; cross: lost", fontsize=8)
        axes.grid(axis="y", visible=False)
    return svg()


def staleness(series: Series) -> str:
    """How many versions behind accepted updates were."""
    with canvas("staleness of accepted updates", 3.6, 2.8) as (axes, svg):
        counts = series.staleness()
        axes.bar([str(behind) for behind in counts], list(counts.values()), color=ACCEPTED, width=0.7)
        axes.set_xlabel("versions behind")
        axes.grid(axis="x", visible=False)
    return svg()


def rounds(series: Series) -> str:
    """How long each round was open, and how many updates it took."""
    with canvas("rounds", 4.6, 2.8) as (axes, svg):
        found = series.rounds()
        axes.bar([version for version, _, _ in found], [seconds for _, seconds, _ in found], color=DOWN, width=0.7)
        for version, seconds, updates in found if len(found) <= 40 else []:
            axes.annotate(str(updates), (version, seconds), ha="center", va="bottom", fontsize=7, color="#555555")
        axes.set_xlabel("version (above: updates in it)")
        axes.set_ylabel("seconds open")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="x", visible=False)
    return svg()


def traffic(series: Series) -> str:
    """Bytes up and down per version."""
    with canvas("bytes per version: up above, down below", 4.6, 2.8) as (axes, svg):
        found = series.traffic()
        versions = [version for version, _, _ in found]
        axes.bar(versions, [up for _, up, _ in found], color=UP, width=0.7)
        axes.bar(versions, [-down for _, _, down in found], color=DOWN, width=0.7)
        axes.axhline(0, color="#888888", linewidth=0.8)
        engineering = EngFormatter("B")
        axes.yaxis.set_major_formatter(lambda value, _at: engineering(abs(value)))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("version")
        axes.grid(axis="x", visible=False)
    return svg()


@contextmanager
def canvas(title: str, width: float, height: float) -> Iterator[tuple[Axes, Callable[[], str]]]:
    """Yield axes, and what returns them as SVG once they are drawn."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title)

        def svg() -> str:
            with mpl.rc_context(STYLE):  # type: ignore[arg-type]
                out = StringIO()
                figure.savefig(
                    out, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
                )
            text = out.getvalue()
            return text[text.index("<svg") :]

        yield axes, svg
