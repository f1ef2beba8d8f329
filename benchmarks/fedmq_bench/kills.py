"""Kills: SIGKILL at random moments in a federation of real processes, and what its ledger says afterwards.

Whoever is killed, the aggregator, a node or the broker, is started again at once. A federation has recovered with the
first version of a round that was opened after that: a version that was already on its way shows nothing. A node is
back when the ledger has an update of its own again. In both, Python starts first, and with the aggregator the ledger is
read. In the end the federation is brought to its end, so that every update that was acknowledged must be in a version:
nothing may be lost, nothing may count twice, versions must have risen by one, and each must be what its updates give.
"""

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from fedmq.errors import LedgerUnusable
from fedmq.record import LEDGER, Record, Row
from fedmq.replay import replay
from fedmq.summary import ACCEPTED
from fedmq_bench.broker import program
from fedmq_bench.harness import Say
from fedmq_bench.killable import NODE, Killable
from fedmq_nodes.audit import audit

LOOK_S = 0.05
PATIENCE_S = 120.0
LAST_VERSIONS = 2  # committed after everyone is back


@dataclass(frozen=True)
class Kill:
    """Who was killed, when they were started again, and how long the federation then took to its next round's version.

    kind       aggregator, node or broker
    """

    kind: str
    name: str
    at: float
    recovery_s: float


def measure(
    kills: int, link: str, seed: int, say: Say, nodes: int = 4, dim: int = 64, most_s: float = 0.5
) -> Iterator[dict[str, Any]]:
    """Yield one row. Each kill takes a few seconds.

    most_s     the longest that a federation which has recovered is left in peace
    raises     RuntimeError, naming the folder with the logs, if a promise is broken; ProgramMissing without a broker
    """
    if link == "mqtt":
        program()
    rng = np.random.default_rng(seed)
    folder = Path(tempfile.mkdtemp(prefix="fedmq-bench-"))
    try:
        killable = Killable(folder, link, nodes, dim, seed, rng)
        found = asyncio.run(_run(killable, kills, rng, say, most_s))
        figures = _figures(killable, found)
    except Exception as error:
        error.add_note(f"logs and ledger are in {folder}")
        raise
    shutil.rmtree(folder)
    yield {"case": "kills", "link": link, "nodes": nodes, "kills": kills, **figures}


async def _run(killable: Killable, kills: int, rng: Generator, say: Say, most_s: float) -> list[Kill]:
    """Kill and start again, and bring the federation to its end; return who was killed."""
    found: list[Kill] = []
    ledger = killable.run / LEDGER
    async with killable:
        await _until(lambda: _opened_at(ledger) > 0, killable, "no first version")
        for number in range(kills):
            # A moment of its own within a round, which takes about as long.
            await asyncio.sleep(float(rng.uniform(0.0, most_s)))
            kind = str(rng.choice(killable.kinds))
            name = str(rng.choice(killable.nodes)) if kind == NODE else kind
            await killable.kill(name)
            began = time.time()
            await killable.restart(name)
            await _until(lambda: _opened_at(ledger) > began, killable, f"no version since {name} was killed")  # noqa: B023
            found.append(Kill(kind, name, began, time.time() - began))
            say(f"kill {number + 1} of {kills}: {name}, {found[-1].recovery_s:.2f} s to the version of a new round")
        last = {kill.name: kill.at for kill in found if kill.kind == NODE}
        await _until(lambda: not _missing(ledger, last), killable, f"not all of {', '.join(last)} have come back")
        async with asyncio.timeout(PATIENCE_S):
            await killable.finish(_newest(ledger) + LAST_VERSIONS)
    return found


def _figures(killable: Killable, kills: Sequence[Kill]) -> dict[str, Any]:
    """Return what the ledger says in the end; raises RuntimeError where that cannot be."""
    with Record.open(killable.run / LEDGER) as record:
        versions = [row["version"] for row in record.versions()]
        updates = [row for row in record.updates() if row["code"] == ACCEPTED]
        found = audit(record, killable.run / "logs")
        differ = [replayed.version for replayed in replay(record) if not replayed.same]
    if versions != list(range(len(versions))):
        raise RuntimeError(f"versions do not rise by one: {versions}")
    if differ:
        raise RuntimeError(f"versions {differ} are not what their updates give")
    if found["lost"] or found["duplicated"]:
        raise RuntimeError(f"{found['lost']} updates were lost, {found['duplicated']} counted twice")
    killed = Counter(kill.kind for kill in kills)
    recovery_s = {kind: _quantiles([kill.recovery_s for kill in kills if kill.kind == kind]) for kind in killed}
    return {
        "killed": dict(killed),
        "versions": versions[-1],
        "updates": len(updates),
        **found,
        "recovery_s": recovery_s,
        "return_s": _quantiles(list(_returns(updates, [kill for kill in kills if kill.kind == NODE]))),
    }


def _returns(updates: Sequence[Row], kills: Sequence[Kill]) -> Iterator[float]:
    """Yield how long each killed node took to an update of its own, unless it was killed again before."""
    for position, kill in enumerate(kills):
        again = [later.at for later in kills[position + 1 :] if later.name == kill.name]
        own = [row["at"] for row in updates if row["node"] == kill.name and row["at"] > kill.at]
        if own and (not again or own[0] < again[0]):
            yield own[0] - kill.at


def _quantiles(seconds: Sequence[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    return {"p50": float(np.percentile(seconds, 50)), "p95": float(np.percentile(seconds, 95)), "max": max(seconds)}


async def _until(holds: Callable[[], bool], killable: Killable, problem: str) -> None:
    """Look again and again; raises RuntimeError with the problem if it does not hold within two minutes."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise RuntimeError(f"{problem}, after {PATIENCE_S:.0f} s; {killable.last_words()}") from None


def _opened_at(ledger: Path) -> float:
    """Return when the round of the newest version was opened; 0 if none came of a round."""
    with suppress(LedgerUnusable), Record.open(ledger) as record:
        last = record.versions()[-1]
        return float(last["opened_at"]) if last["version"] else 0.0
    return 0.0


def _newest(ledger: Path) -> int:
    with Record.open(ledger) as record:
        return int(record.versions()[-1]["version"])


def _missing(ledger: Path, since: dict[str, float]) -> set[str]:
    """Return the nodes without an accepted update since they were started again."""
    with Record.open(ledger) as record:
        updates = [row for row in record.updates() if row["code"] == ACCEPTED]
    return {name for name, at in since.items() if not any(row["node"] == name and row["at"] > at for row in updates)}
