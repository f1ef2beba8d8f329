"""A row in words: what was measured, what came of it, what it is held against; and how figures are written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """What a figure should be: at most, or at least."""

    limit: float
    at_least: bool = False
    unit: str = "x"

    def verdict(self, value: float) -> str:
        """Return the target in words, and whether it was missed."""
        met = value >= self.limit if self.at_least else value <= self.limit
        words = f"{'at least' if self.at_least else 'at most'} {self.limit:,g} {self.unit}"
        return words if met else f"{words}: missed"


@dataclass(frozen=True)
class Line:
    """One row as a person reads it; `ratio` and `target` are empty where there is none."""

    what: str
    ours: str
    beside: str = ""
    ratio: str = ""
    target: str = ""


@dataclass(frozen=True)
class Case:
    """How a case is told, and which of its keys make it another size; one that is many rows has tables of its own."""

    tell: Callable[[Row], Line]
    sizes: tuple[str, ...] = ()
    in_table: bool = True


def ms(seconds: float) -> str:
    """Return a duration, in milliseconds where it is below a second."""
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def seconds(quantiles: Mapping[str, float]) -> str:
    """Return the median and the longest of durations."""
    return f"{quantiles['p50']:.1f} s, {quantiles['max']:.1f} s"


def size(count: float) -> str:
    """Return a count of bytes, in its own unit."""
    return f"{count:.0f} B" if count < 1e3 else f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.3f} MB"


def share(row: Row, key: str) -> str:
    """Return a share as a percentage, with its standard deviation where several seeds have one."""
    spread = "" if row[f"{key}_std"] is None else f" ± {100 * row[f'{key}_std']:.2f}"
    return f"{100 * row[key]:.2f}{spread} %"


def ratio(row: Row) -> str:
    """Return the ratio of both sides."""
    return f"{row['ratio']:,.4g}" if row["ratio"] >= 1000 else f"{row['ratio']:.2f}"
