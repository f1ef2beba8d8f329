"""The plot: accuracy against what a node sends, a point with its spread per way, a panel per kind of accuracy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from fedmq.report.plots import STYLE
from fedmq_bench.accuracy.table import Line, Row, parts, title
from fedmq_bench.accuracy.ways import WAYS, ZERO_SHOT

PANELS = {"held_out": "a domain that nobody has seen", "participants": "participants", "personal": "personal models"}
MOST_BYTES = 4e9
LEAST_BYTES = 1e3  # where those stand that send nothing; a logarithm has no place for them


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw a line of panels per corpus and split."""
    found = parts(rows)
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(4.6 * len(PANELS), 4.0 * len(found)), layout="constrained")
        strips = figure.subfigures(len(found), squeeze=False)[:, 0]
        for strip, (part, lines) in zip(strips, found.items(), strict=True):
            strip.suptitle(title(part), fontsize=9)
            panels = [name for name in PANELS if any(line.figures[name].mean is not None for line in lines)]
            for axes, name in zip(strip.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
                _panel(axes, name, lines)
        figure.savefig(path, dpi=90, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panel(axes: Axes, name: str, lines: Sequence[Line]) -> None:
    palette = mpl.colormaps["tab20"]
    for line in lines:
        at = list(WAYS).index(line.method)  # a way has one colour in all panels
        value, sent = line.figures[name], max(LEAST_BYTES, line.bytes_up)
        if value.mean is None:
            continue
        if line.method == ZERO_SHOT:
            axes.axhline(value.mean, color="#888888", linestyle=":", linewidth=0.9)
        style: dict[str, Any] = {"color": palette(at % 20), "marker": "o" if at < 10 else "s", "markersize": 5}
        axes.errorbar(sent, value.mean, value.spread or 0.0, linestyle="none", **style)
        axes.annotate(line.method, (sent, value.mean), (4, 2), textcoords="offset points", fontsize=6)
    axes.set_title(PANELS[name])
    axes.set_xscale("log")
    axes.set_xlim(LEAST_BYTES / 1.6, MOST_BYTES)
    axes.xaxis.set_major_formatter(EngFormatter("B"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("up, a node, until there")
