"""The plot: accuracy against bytes on a logarithmic scale, one curve per codec, one panel per direction."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, PercentFormatter

from fedmq.errors import ConfigInvalid
from fedmq.report.plots import STYLE
from fedmq.show import size

Row = Mapping[str, Any]
FEW_DECADES = 10**1.8  # so wide, and labels at 1, 2 and 5 would run into each other
WORDS = {"up": "bytes up, per node", "down": "bytes down, per node", "both": "bytes up and down, per node"}


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the rows that have a curve.

    raises     ConfigInvalid if none has
    """
    curves = [row for row in rows if row["curve"]]
    panels = list(dict.fromkeys((row["dataset"], row["direction"]) for row in curves))
    if not panels:
        raise ConfigInvalid("nothing was learned, so there is no accuracy to draw; leave --part at its default")
    # A codec has one colour in all panels; the legend goes from few bytes to many.
    names = sorted({row["codec"] for row in curves}, key=lambda name: _payload(curves, name))
    palette = mpl.colormaps["tab10" if len(names) <= 10 else "tab20"]
    colours = {name: palette(at) for at, name in enumerate(names)}
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(6.8 * len(panels), 4.2), layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _panel(axes, [row for row in curves if (row["dataset"], row["direction"]) == panel], colours)
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panel(axes: Axes, rows: Sequence[Row], colours: Mapping[str, Any]) -> None:
    first = rows[0]
    for row in sorted(rows, key=lambda row: row["payload_bytes"]):
        # Version 0 has taken no bytes upwards, and a logarithm has no place for it.
        points = [point for point in row["curve"] if point[0] > 0][1 if row["direction"] == "up" else 0 :]
        spent, accuracy, spread = (list(column) for column in zip(*points, strict=True))
        colour = colours[row["codec"]]
        label = f"{row['codec']}, {size(row['payload_bytes'])}"
        axes.plot(spent, accuracy, color=colour, linewidth=1.4, marker="o", markersize=2.5, label=label)
        low, high = ([a + sign * s for a, s in zip(accuracy, spread, strict=True)] for sign in (-1, 1))
        axes.fill_between(spent, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(first["zero_shot"], color="#888888", linestyle=":", linewidth=0.9, label="zero-shot")
    axes.set_title(f"{first['dataset']}: {first['nodes']} nodes, {first['rounds']} rounds, {first['seeds']} seeds")
    axes.set_xscale("log")
    fewest, most = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if most / fewest < FEW_DECADES else (1.0,)))
    axes.xaxis.set_major_formatter(EngFormatter("B"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"{WORDS[first['direction']]} (application layer)")
    axes.set_ylabel("accuracy, all test examples")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)


def _payload(rows: Sequence[Row], name: str) -> float:
    return min(float(row["payload_bytes"]) for row in rows if row["codec"] == name)
