"""Rows: what a benchmark says, one JSON object per case and line, each with the context that it was measured in.

Rows come first, and are only ever appended; tables and plots are made from them afterwards.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmq_bench import machine, report
from fedmq_bench.errors import ResultsUnusable

Row = Mapping[str, Any]
RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Outlet:
    """Where the rows of one benchmark go.

    as_json    to the screen as JSON Lines, otherwise as a sentence each
    keep       to the results of this checkout
    out        to this file as well
    """

    name: str
    as_json: bool = False
    keep: bool = False
    out: Path | None = None

    def files(self) -> Iterator[Path]:
        """Yield the files to append to.

        raises     ResultsUnusable where there is no checkout to keep them in
        """
        if self.out is not None:
            yield self.out
        if self.keep:
            if not (machine.CHECKOUT / "pyproject.toml").is_file():
                raise ResultsUnusable("--keep writes into a checkout, and there is none here; use --out FILE")
            RESULTS.mkdir(exist_ok=True)
            yield RESULTS / f"{self.name}.jsonl"


def publish(found: Iterable[Row], context: Row, outlet: Outlet) -> None:
    """Send each row where it goes, as soon as it is measured.

    raises     ResultsUnusable, before anything is measured, if a file cannot be written
    """
    with ExitStack() as stack:
        try:
            files = [stack.enter_context(path.open("a", encoding="utf-8")) for path in outlet.files()]
        except OSError as error:
            raise ResultsUnusable(f"{error.filename} cannot be written: {error.strerror}") from error
        for figures in found:
            row = {**figures, "context": context}
            line = json.dumps(row)
            print(line if outlet.as_json else report.sentence(row), flush=True)
            for file in files:
                file.write(line + "\n")
                file.flush()


def noted(found: Iterable[Row], into: list[Row]) -> Iterator[Row]:
    """Yield the rows on, and note each: for what is made of all of them."""
    for row in found:
        into.append(row)
        yield row


def read(folder: Path) -> list[Row]:
    """Return the rows that a folder keeps, oldest first within each file.

    raises     ResultsUnusable, naming the file and the line, for one that is no row; if there are none at all
    """
    rows = [row for path in sorted(folder.glob("*.jsonl")) for row in read_file(path)]
    if not rows:
        raise ResultsUnusable(f"no rows are kept in {folder}; fedmq bench fold --keep adds some")
    return rows


def read_file(path: Path) -> Iterator[Row]:
    """Yield the rows of one file.

    raises     ResultsUnusable, naming the file and the line, for one that is no row
    """
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ResultsUnusable(f"{path} line {number} is not JSON: {error}") from error
        if not (isinstance(row, dict) and "case" in row and "context" in row):
            raise ResultsUnusable(f"{path} line {number} is no row of a benchmark: it has no case or no context")
        yield row
