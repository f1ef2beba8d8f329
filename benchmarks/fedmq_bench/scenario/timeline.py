"""Timelines: when a node is away and when its link is, as spells (start, end) that never end to come.

They depend on the node and on time alone, never on what a federation does: the same for each policy.
"""

import heapq
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from fedmq.errors import ConfigInvalid
from fedmq_bench.scenario.draws import Draws
from fedmq_bench.scenario.form import Crash, Presence

Spell = tuple[float, float]
FOREVER_S = float("inf")


def absences(presence: Presence, draws: Draws, who: str, what: str, place: int = 0) -> Iterator[Spell]:
    """Yield when something is not there.

    place     of the node among those of its group: which trace of a file is its
    """
    match presence.kind:
        case "markov":
            yield from _alternating(draws, who, what, presence.on_s, presence.off_s)
        case "diurnal":
            phase = presence.phase_s
            if phase < 0:
                phase = presence.period_s * float(draws.rng(who, what).random())
            on_s = presence.share * presence.period_s
            for day in count(-1):
                off, on = phase + day * presence.period_s + on_s, phase + (day + 1) * presence.period_s
                if on > 0:
                    yield max(0.0, off), on
        case "trace":
            assert presence.file is not None
            traces = read_traces(presence.file)
            yield from _traced(traces[place % len(traces)])


def crashes(crash: Crash, draws: Draws, who: str) -> Iterator[Spell]:
    """Yield from when to when a process is down because it has crashed."""
    if crash.every_s:
        at = 0.0
        for index in count():
            at += float(draws.rng(who, "crash", index).exponential(crash.every_s))
            yield at, at + crash.back_s
            at += crash.back_s


def merged(*spells: Iterable[Spell]) -> Iterator[Spell]:
    """Yield the spells of all, in order, as one where they meet."""
    found = heapq.merge(*spells)
    current = next(found, None)
    for start, end in found:
        assert current is not None
        if start <= current[1]:
            current = current[0], max(current[1], end)
        else:
            yield current
            current = start, end
    if current is not None:
        yield current


class Outages:
    """The same spells, asked for by the time; no earlier time than the spells know is ever forgotten."""

    def __init__(self, spells: Iterable[Spell]) -> None:
        self._rest = iter(spells)
        self._starts: list[float] = []
        self._ends: list[float] = []

    def next(self, at: float) -> Spell:
        """Return the spell that holds at this time, or the next one; (inf, inf) if there is none any more."""
        while not self._ends or self._ends[-1] <= at:
            start, end = next(self._rest, (FOREVER_S, FOREVER_S))
            self._starts.append(start)
            self._ends.append(end)
        place = bisect_right(self._ends, at)
        return self._starts[place], self._ends[place]


def read_traces(path: Path) -> list[Any]:
    """Return the traces of a file: a list of {"finish_time", "active", "inactive"}, as FedScale's, in JSON.

    active, inactive     times in seconds at which a device came and went, by turns
    finish_time          after which it begins anew
    raises               ConfigInvalid if it is anything else
    """
    try:
        traces = json.loads(path.read_text(encoding="utf-8"))
        for trace in traces:
            times = [float(at) for pair in zip(trace["active"], trace["inactive"], strict=True) for at in pair]
            if not times or sorted(times) != times or times[0] < 0 or times[-1] > float(trace["finish_time"]):
                raise ValueError("active and inactive are to take turns, from 0 to finish_time")
        if not traces:
            raise ValueError("there is no trace in it")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigInvalid(
            f"{path} cannot be read as traces: {error}; docs/scenarios.md says what they are"
        ) from error
    return list(traces)


def _traced(trace: Any) -> Iterator[Spell]:
    length = float(trace["finish_time"])
    for turn in count():
        gone = 0.0
        for active, inactive in zip(trace["active"], trace["inactive"], strict=True):
            if active > gone:
                yield turn * length + gone, turn * length + float(active)
            gone = float(inactive)
        if gone < length:
            yield turn * length + gone, (turn + 1) * length


def _alternating(draws: Draws, who: str, what: str, on_s: float, off_s: float) -> Iterator[Spell]:
    """Begin on or off as often as either holds in the long run; exponential times have no memory of when they began."""
    at = 0.0
    if draws.chance(off_s / (on_s + off_s), who, f"{what} begins off"):
        at = float(draws.rng(who, f"{what} first").exponential(off_s))
        yield 0.0, at
    for index in count():
        rng = draws.rng(who, what, index)
        off = at + float(rng.exponential(on_s))
        at = off + float(rng.exponential(off_s))
        yield off, at
