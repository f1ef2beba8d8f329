"""The harness: two sides of a ratio, timed in turn, so that whatever else the machine does hits both alike.

Absolute seconds on a shared machine are weather. A ratio holds if its two sides took turns, A B A B, within one run;
medians are compared, because noise on a machine only ever adds.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

Work = Callable[[], object]
Say = Callable[[str], None]
REDRAWS = 1000


@dataclass(frozen=True)
class Pair:
    """Seconds of our side and of the other, the k-th of one measured beside the k-th of the other."""

    ours: Sequence[float]
    theirs: Sequence[float]

    @property
    def median_s(self) -> float:
        """Our side's median."""
        return median(self.ours)

    @property
    def other_s(self) -> float:
        """The other side's median."""
        return median(self.theirs)

    @property
    def ratio(self) -> float:
        """Our median over theirs."""
        return self.median_s / self.other_s

    @property
    def spread(self) -> tuple[float, float]:
        """Where the ratio would lie in nine of ten such runs: quantiles over redrawn turns (Efron's bootstrap)."""
        rng = np.random.default_rng(0)
        turns = rng.integers(0, len(self.ours), (REDRAWS, len(self.ours)))
        ratios = np.median(np.array(self.ours)[turns], axis=1) / np.median(np.array(self.theirs)[turns], axis=1)
        low, high = np.quantile(ratios, (0.05, 0.95))
        return float(low), float(high)


def seconds(work: Work) -> float:
    """Return how long the work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(ours: Work, theirs: Work, repeats: int, warm_up: int = 1, say: Say = lambda _line: None) -> Pair:
    """Time both sides in turn.

    warm_up    turns that are not counted: imports, page faults and caches are not what is compared
    say        told after each turn, for benchmarks that take minutes
    """
    for _ in range(warm_up):
        ours()
        theirs()
    pair: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats):
        pair[0].append(seconds(ours))
        pair[1].append(seconds(theirs))
        say(f"turn {turn + 1} of {repeats}: {pair[0][-1]:.4g} s beside {pair[1][-1]:.4g} s")
    return Pair(*pair)


def figures(pair: Pair, *, faster: bool = False) -> dict[str, float]:
    """Return what every row with two sides says of its ratio, beside its own names for the medians.

    faster     the ratio says how many times as fast we are, not how many times as long we take
    """
    low, high = pair.spread
    ratios = (1 / pair.ratio, 1 / high, 1 / low) if faster else (pair.ratio, low, high)
    return {**dict(zip(("ratio", "ratio_low", "ratio_high"), ratios, strict=True)), "repeats": len(pair.ours)}
