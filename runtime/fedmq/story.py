"""The story of a run: what its ledger has become since it was last looked at, as the series that a live view draws.

A ledger grows while it is read, so whoever looks again reads only what is new. The newest rounds are kept, and of
everything before them only what is counted.
"""

import sqlite3
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fedmq.errors import LedgerUnusable
from fedmq.record import connect
from fedmq.summary import ACCEPTED

KEPT = 400  # rounds; more than a screen has columns


@dataclass(frozen=True)
class Told:
    """One round.

    up, down     bytes since the version before, application layer
    total        bytes in both directions since the beginning
    """

    version: int
    cause: str
    updates: int
    invited: int
    open_s: float
    closed_at: float
    up: int
    down: int
    total: int


class Story:
    """Rounds, accuracies and counts, read from a ledger that somebody may be writing. Use as a context manager.

    rounds        the newest, oldest first
    accuracy      version -> mean over nodes of what each had last reported by then; of the versions in `rounds`
    staleness     versions behind -> accepted updates
    verdicts      code -> updates
    taken         node -> its accepted updates
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise LedgerUnusable(f"there is no ledger at {path}; a run writes one when its aggregator starts")
        self.rounds: deque[Told] = deque(maxlen=KEPT)
        self.accuracy: dict[int, float] = {}
        self.staleness: Counter[int] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        self._connection = connect(path, "ro")
        self._version, self._update, self._report = -1, 0, 0
        self._traffic = (0, 0)
        self._newest: dict[str, tuple[int, float]] = {}
        self._sum, self._measured = 0.0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def advance(self) -> bool:
        """Read what is new, and return whether there was anything; what is read belongs together.

        raises     LedgerUnusable
        """
        before = self._version, self._update, self._report
        try:
            self._connection.execute("begin")
            try:
                self._read_versions()
                self._read_updates()
                self._read_reports()
            finally:
                self._connection.rollback()
        except sqlite3.Error as error:
            raise LedgerUnusable(f"the ledger cannot be read: {error}") from error
        return before != (self._version, self._update, self._report)

    def finished(self) -> int | None:
        """Return the last version of a federation that has finished; None if it goes on, or was interrupted."""
        rows = self._rows(
            "select max(version) as last from versions having max(version) > ? and max(version) in (select"
            " json_extract(fields, '$.version') from events where event = 'federation.finished')",
            -1,
        )
        return next((int(row["last"]) for row in rows), None)

    def _read_versions(self) -> None:
        for row in self._rows("select * from versions where version > ? order by version", self._version):
            self._version = row["version"]
            traffic = row["up_application"], row["down_application"]
            up, down = (max(0, now - then) for now, then in zip(traffic, self._traffic, strict=True))
            self._traffic = traffic
            if row["version"] > 0:
                open_s = row["closed_at"] - row["opened_at"]
                self.rounds.append(
                    Told(row["version"], row["cause"], row["updates"], row["invited"], open_s, row["closed_at"],
                         up, down, sum(traffic))
                )  # fmt: skip

    def _read_updates(self) -> None:
        query = "select rowid, node, code, staleness from updates where rowid > ? order by rowid"
        for row in self._rows(query, self._update):
            self._update = row["rowid"]
            self.verdicts[row["code"]] += 1
            if row["code"] == ACCEPTED:
                self.staleness[row["staleness"]] += 1
                self.taken[row["node"]] += 1

    def _read_reports(self) -> None:
        query = (
            "select rowid, node, version, correct * 1.0 / examples as share from reports"
            " where rowid > ? and version is not null and examples > 0 order by rowid"
        )
        for row in self._rows(query, self._report):
            self._report = row["rowid"]
            version, share = self._newest.get(row["node"], (-1, 0.0))
            if row["version"] < version:
                continue  # it was overtaken
            self._newest[row["node"]] = row["version"], row["share"]
            self._sum += row["share"] - share
            self._measured = max(self._measured, row["version"])
            self.accuracy[self._measured] = self._sum / len(self._newest)
        oldest = self.rounds[0].version if self.rounds else 0
        if len(self.accuracy) > 2 * KEPT:
            self.accuracy = {version: mean for version, mean in self.accuracy.items() if version >= oldest}

    def _rows(self, query: str, after: int) -> Iterator[sqlite3.Row]:
        yield from self._connection.execute(query, (after,))
