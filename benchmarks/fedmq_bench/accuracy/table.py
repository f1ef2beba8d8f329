"""The table: rows of several folds and seeds as one line per way.

A seed's figure is the mean over folds; a line has the mean over seeds and, after the sign, their standard deviation. A
seed of which folds are missing is left out, unless all are like that: domains differ by more than ways do.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from fedmq.show import size
from fedmq_bench.accuracy.ways import PAPER_ROUNDS, WAYS

Row = Mapping[str, Any]
FIGURES = ("held_out", "participants", "personal", "worst_node")
HEADINGS = ("held-out", "participants", "personal", "worst node", "up, a node", "x less", "all frames", "rounds", "s")
PAPER_BYTES = PAPER_ROUNDS * 2_101_248  # what a node sends in FedCLIP as published
WIDTH = 160  # in a file, where no terminal says how wide it is


@dataclass(frozen=True)
class Figure:
    """Mean and spread over seeds; None where there is no such figure, or one seed."""

    mean: float | None
    spread: float | None = None

    def __str__(self) -> str:
        if self.mean is None:
            return "-"
        return f"{100 * self.mean:.1f}" + ("" if self.spread is None else f" ± {100 * self.spread:.1f}")


@dataclass(frozen=True)
class Line:
    """One way, on one corpus, split in one way.

    less       how many times less a node sends than in FedCLIP as published; None if it sends nothing
    failing    node -> in how many of the runs that it was in it ends below zero-shot
    """

    method: str
    figures: Mapping[str, Figure]
    bytes_up: float
    bytes_total: float
    rounds: float
    seconds: float
    seeds: int
    runs: int
    failing: Mapping[str, int]
    transductive: bool

    @property
    def less(self) -> float | None:
        """How many times less a node sends than FedCLIP's does in the 200 rounds of its authors."""
        return PAPER_BYTES / self.bytes_up if self.bytes_up else None

    def cells(self) -> list[str]:
        """Return what stands below the headings."""
        less = "-" if self.less is None else f"{self.less:,.3g}"
        sizes = [size(value) if value else "0" for value in (self.bytes_up, self.bytes_total)]
        figures = [str(self.figures[name]) for name in FIGURES]
        return [*figures, sizes[0], less, sizes[1], f"{self.rounds:.3g}", f"{self.seconds:.2g}"]


Part = tuple[str, str, bool | None, str, float | None]  # dataset, encoder, stand-in, split, alpha


def parts(rows: Iterable[Row]) -> dict[Part, list[Line]]:
    """Return the lines of each corpus and split, ways in the order in which they are told."""
    found: dict[Part, dict[tuple[str, bool], dict[tuple[int, str], Row]]] = {}
    for row in rows:
        part = row["dataset"], row["encoder"], row["stand_in"], row["split"], row["alpha"]
        way = found.setdefault(part, {}).setdefault((row["method"], row["transductive"]), {})
        way[row["seeds"][0], row["fold"]] = row  # the newest of several
    order = list(WAYS)
    return {
        part: [_line(list(ways[way].values())) for way in sorted(ways, key=lambda way: (order.index(way[0]), way[1]))]
        for part, ways in found.items()
    }


def title(part: Part) -> str:
    """Return what a table is of, with its encoder called what it is."""
    dataset, encoder, stand_in, split, alpha = part
    kind = "Dirichlet" if split == "dirichlet" else "a node per domain"
    skew = "" if alpha is None else f", alpha {alpha:g}"
    caveat = " (a stand-in, not CLIP)" if stand_in else ""
    return f"{dataset}, {kind}{skew}, features of {encoder}{caveat}"


def show(rows: Sequence[Row]) -> None:
    """Print a table per corpus and split."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for part, lines in parts(rows).items():
        table = Table(title=title(part), box=None, pad_edge=False, header_style="dim", title_justify="left")
        for name in ("", *HEADINGS):
            table.add_column(name, justify="right" if name else "left", no_wrap=True)
        for line in lines:
            table.add_row(_name(line), *line.cells())
        console.print(table)
        for words in failures(lines):
            console.print(words)


def markdown(rows: Sequence[Row]) -> str:
    """Return the tables for a page."""
    text = []
    for part, lines in parts(rows).items():
        text += [f"**{title(part)}**", "", _cells(["", *HEADINGS]), _cells(["---"] * (len(HEADINGS) + 1))]
        text += [_cells([_name(line), *line.cells()]) for line in lines]
        text += ["", *(f"- {words}" for words in failures(lines)), ""]
    return "\n".join(text)


def failures(lines: Sequence[Line]) -> Iterator[str]:
    """Yield, for every way that somebody loses by, who does."""
    for line in lines:
        if line.failing:
            nodes = ", ".join(f"{name} ({count})" for name, count in line.failing.items())
            yield f"{_name(line)} ends below zero-shot, in so many of {line.runs} runs, on {nodes}"


def _whole(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the seeds that have most folds."""
    folds = Counter(row["seeds"][0] for row in rows)
    return [row for row in rows if folds[row["seeds"][0]] == max(folds.values())]


def _line(rows: Sequence[Row]) -> Line:
    rows = _whole(rows)
    seeds = sorted({row["seeds"][0] for row in rows})
    figures = {}
    for name in FIGURES:
        each = [[row[name] for row in rows if row["seeds"][0] == seed and row[name] is not None] for seed in seeds]
        means = [fmean(values) for values in each if values]
        figures[name] = Figure(fmean(means) if means else None, stdev(means) if len(means) > 1 else None)
    failing: dict[str, int] = {}
    for row in rows:
        for node in row["failing"]:
            failing[node] = failing.get(node, 0) + 1
    costs = {name: fmean(row[name] for row in rows) for name in ("bytes_up", "bytes_total", "rounds", "seconds")}
    first = rows[0]
    return Line(
        first["method"],
        figures,
        seeds=len(seeds),
        runs=len(rows),
        failing=dict(sorted(failing.items())),
        transductive=first["transductive"],
        **costs,
    )


def _name(line: Line) -> str:
    return f"{line.method}, transductive" if line.transductive else line.method


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
