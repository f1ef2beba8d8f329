"""The plot: accuracy against what a node sends, a point with its spread per way, a panel per kind of accuracy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from fedmq.report.plots import STYLE
from fedmq_bench.accuracy.table import Line, Part, Row, parts, title
from fedmq_bench.accuracy.ways import ZERO_SHOT

PANELS = {"held_out": "a domain that nobody has seen", "participants": "participants", "personal": "personal models"}
LEAST_BYTES = 1e3  # where those stand that send nothing; a logarithm has no place for them


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw a line of panels per corpus and split."""
    found = parts(rows)
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(4.6 * len(PANELS), 4.0 * len(found)), layout="constrained")
        grid = figure.subplots(len(found), len(PANELS), squeeze=False)
        for axes, (part, lines) in zip(grid, found.items(), strict=True):
            _row(list(axes), part, lines)
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)


def _row(axes: Sequence[Axes], part: Part, lines: Sequence[Line]) -> None:
    palette = mpl.colormaps["tab20"]
    for axis, (figure, words) in zip(axes, PANELS.items(), strict=True):
        for at, line in enumerate(lines):
            value = line.figures[figure]
            if value.mean is None:
                continue
            if line.method == ZERO_SHOT:
                axis.axhline(value.mean, color="#888888", linestyle=":", linewidth=0.9)
            style: dict[str, Any] = {"color": palette(at % 20), "marker": "o" if at < 10 else "s", "markersize": 5}
            axis.errorbar(max(LEAST_BYTES, line.bytes_up), value.mean, value.spread or 0.0, linestyle="none", **style)
            axis.annotate(
                line.method,
                (max(LEAST_BYTES, line.bytes_up), value.mean),
                (4, 2),
                textcoords="offset points",
                fontsize=6,
            )
        axis.set_title(words)
        axis.set_xscale("log")
        axis.set_xlim(LEAST_BYTES / 1.6, 4e9)
        axis.xaxis.set_major_formatter(EngFormatter("B"))
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
        axis.set_xlabel("up, a node, until there")
    axes[0].set_ylabel(title(part), fontsize=7)
