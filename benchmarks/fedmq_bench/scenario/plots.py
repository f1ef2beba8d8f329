"""Plots of a comparison: one function each, from the rows of runs to an SVG that stands in a page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from fedmq.report.plots import ACCEPTED, REFUSED, canvas
from fedmq_bench.scenario.compare import Summary

Row = Mapping[str, Any]

COLOURS = ("#888888", "#3b7dd8", "#2a9d5c", "#e9a03b", "#7a5195", "#d1495b", "#8fb8de", "#444444")
GRID = 200
MOST_NODES = 40  # in a timeline


def curves(rows: Sequence[Row], what: str) -> str:
    """Accuracy over time (`at`) or over bytes, per policy: the median over seeds, and quartiles."""
    title = {"at": "accuracy over time", "bytes": "accuracy over bytes"}[what]
    with canvas(title, 6.0, 3.8) as (axes, svg):
        for colour, (policy, runs) in zip(_colours(rows), _by_policy(rows).items(), strict=True):
            first = min(run["curve"][1][what] for run in runs if len(run["curve"]) > 1)
            last = float(np.median([run["curve"][-1][what] for run in runs]))
            at = np.geomspace(max(first, 1e-3), last, GRID)
            lines = np.array([_held(run["curve"], what, at) for run in runs])
            low, middle, high = np.nanquantile(lines, (0.25, 0.5, 0.75), axis=0)
            axes.plot(at, middle, color=colour, label=policy, linewidth=1.5)
            if len(runs) > 1:
                axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        axes.set_xlabel("seconds, logarithmic" if what == "at" else "bytes up and down, application layer, logarithmic")
        axes.xaxis.set_major_formatter(EngFormatter("s" if what == "at" else "B"))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend(loc="lower right")
    return svg()


def timeline(row: Row, until_s: float) -> str:
    """Who trained when in one run, and who waited; stragglers first."""
    slow = row["stragglers"]
    names = [*slow, *(name for name in row["participation"] if name not in slow)][:MOST_NODES][::-1]
    place = {name: at for at, name in enumerate(names)}
    title = f"{row['policy']}: who trained when, the first {until_s:.0f} s"
    with canvas(title, 12.0, 0.9 + 0.2 * len(names)) as (axes, svg):
        for name, start, stop, staleness in row["bars"]:
            if name in place and start < until_s:
                colour = ACCEPTED if staleness >= 0 else REFUSED
                alpha = 1.0 / (1.0 + 0.15 * max(0, staleness))
                width = min(stop, until_s) - start
                axes.barh(place[name], width, left=start, height=0.7, color=colour, alpha=alpha, linewidth=0)
        axes.set_xlim(0, until_s)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set_xlabel("seconds; paler: staler; red: refused; white: waiting, sending, away", fontsize=8)
        axes.grid(axis="y", visible=False)
    return svg()


def staleness(found: Sequence[Summary]) -> str:
    """How many versions behind accepted updates were, as shares of them, per policy."""
    with canvas("staleness of accepted updates", 6.0, 3.2) as (axes, svg):
        for colour, one in zip(COLOURS * 2, found, strict=False):
            total = max(1, sum(one.staleness.values()))
            steps = sorted(one.staleness)
            axes.plot(
                steps,
                np.cumsum([one.staleness[step] for step in steps]) / total,
                color=colour,
                label=one.policy,
                drawstyle="steps-post",
                marker=".",
                markersize=4,
            )
        axes.set_xlabel("versions behind, at most")
        axes.set_ylim(0, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower right")
    return svg()


def participation(rows: Sequence[Row]) -> str:
    """How many updates of each node were accepted, from the fewest to the most, per policy: the mean over seeds."""
    with canvas("updates of each node, from the fewest to the most", 6.0, 3.2) as (axes, svg):
        for colour, (policy, runs) in zip(_colours(rows), _by_policy(rows).items(), strict=True):
            counts = np.mean([sorted(run["participation"].values()) for run in runs], axis=0)
            axes.plot(np.arange(1, len(counts) + 1), counts, color=colour, label=policy, marker=".", markersize=4)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("node")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower right")
    return svg()


def _by_policy(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["policy"], []).append(row)
    return found


def _colours(rows: Sequence[Row]) -> Sequence[str]:
    many = len(_by_policy(rows))
    return (COLOURS * (1 + many // len(COLOURS)))[:many]


def _held(curve: Sequence[Mapping[str, float]], what: str, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the accuracy that was there at each of these; NaN after the end of the run."""
    known = np.array([point[what] for point in curve])
    values = np.array([point["accuracy"] for point in curve])
    found = values[np.maximum(0, np.searchsorted(known, at, side="right") - 1)]
    return np.where(at > known[-1] * (1 + 1e-9), np.nan, found)
