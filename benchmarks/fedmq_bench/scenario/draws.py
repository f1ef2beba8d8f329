"""Draws: random numbers with names, so that policies which ask in different orders are given the same ones.

A number belongs to (seed, who, what, index): the third training of node `slow-2` takes as long under any policy,
however many frames were carried before it (common random numbers: Law and Kelton, Simulation Modeling and Analysis).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from zlib import crc32

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field

from fedmq.errors import ConfigInvalid
from fedmq.quantities import Amount, Size

Shape = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Draws:
    """All random numbers of one scenario."""

    seed: int

    def rng(self, who: str, what: str, index: int = 0) -> Generator:
        """Return the stream of this name, from its beginning."""
        return np.random.default_rng([self.seed, crc32(who.encode()), crc32(what.encode()), index])

    def chance(self, share: float, who: str, what: str, index: int = 0) -> bool:
        """Say whether something happens that does so in this share of all cases."""
        return share > 0 and float(self.rng(who, what, index).random()) < share


@dataclass(frozen=True)
class Spread:
    """How a duration, or a factor, is spread.

    dist     constant: always `scale`; lognormal: `scale` is the median, `shape` sigma; pareto: `scale` is the least,
             `shape` alpha; exponential: `scale` is the mean; halfnormal: `scale` is sigma; empirical: the numbers of
             `file`, one per line, times `scale`
    most     what is larger is cut to this; 0 cuts nothing
    """

    dist: Literal["constant", "lognormal", "pareto", "exponential", "halfnormal", "empirical"] = "constant"
    scale: Size = 1.0
    shape: Shape = 1.0
    most: Amount = 0.0
    file: Path | None = None

    def __post_init__(self) -> None:
        if (self.dist == "empirical") != (self.file is not None):
            raise ValueError(f"dist is {self.dist!r} and file {self.file}; empirical takes a file, no other does")

    def draw(self, rng: Generator, known: NDArray[np.float64] | None = None) -> float:
        """Return one value.

        known     the numbers of the file, where they were read before
        """
        match self.dist:
            case "lognormal":
                value = self.scale * float(np.exp(self.shape * rng.standard_normal()))
            case "pareto":
                value = self.scale * (1.0 + float(rng.pareto(self.shape)))
            case "exponential":
                value = float(rng.exponential(self.scale))
            case "halfnormal":
                value = self.scale * abs(float(rng.standard_normal()))
            case "empirical":
                value = self.scale * float(rng.choice(self.numbers() if known is None else known))
            case _:
                value = self.scale
        return min(value, self.most) if self.most else value

    def numbers(self) -> NDArray[np.float64]:
        """Return the numbers of the file.

        raises     ConfigInvalid if it has none, or one is not a number above 0
        """
        assert self.file is not None
        try:
            found = np.array(self.file.read_text(encoding="utf-8").split(), np.float64)
        except (OSError, ValueError) as error:
            raise ConfigInvalid(f"{self.file} cannot be read as numbers, one per line: {error}") from error
        if not len(found) or not np.isfinite(found).all() or found.min() <= 0:
            raise ConfigInvalid(f"{self.file} has {len(found)} numbers; it takes one or more, all above 0")
        return found
