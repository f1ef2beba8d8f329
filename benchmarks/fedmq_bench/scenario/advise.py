"""Advice: which policy to choose, in words, with its reasons and with what speaks against the others.

First who leaves nobody out and gets there at all; of these, who is not worse for the stragglers; of these, the fastest,
unless one that takes about as long needs clearly fewer bytes. Fast is in times as fast as sync, seed by seed: the draws
of a seed make more of a difference than the policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fedmq_bench.scenario.compare import Summary
from fedmq_bench.scenario.policies import SYNC

POINT = 0.01  # of accuracy, by which stragglers may be worse off than under sync
ABOUT, FEWER = 1.15, 0.8  # times as long is about as long; of the bytes are clearly fewer


@dataclass(frozen=True)
class Advice:
    """The policy, or None: none can be recommended; and why, a sentence each."""

    policy: str | None
    reasons: tuple[str, ...]


def advise(found: Sequence[Summary]) -> Advice:
    """Return what to choose of these policies."""
    sync = next(one for one in found if one.policy == SYNC)
    if "time_to_99_s" not in sync.values:
        return Advice(None, ("Nothing was trained, so this says how long rounds take, and not what to choose.",))
    against = {one.policy: _objection(one, sync) for one in found}
    good = [one for one in found if not against[one.policy]]
    said = tuple(f"{name}: {why}." for name, why in against.items() if why)
    if not good:
        return Advice(None, ("No policy reaches 99 % of the synchronous accuracy and leaves nobody behind.", *said))
    fastest = max(good, key=lambda one: _of(one, "times_as_fast"))
    near = [one for one in good if ABOUT * _of(one, "times_as_fast") >= _of(fastest, "times_as_fast")]
    thrifty = min(near, key=lambda one: _of(one, "bytes_to_99"))
    chosen = thrifty if _of(thrifty, "bytes_to_99") <= FEWER * _of(fastest, "bytes_to_99") else fastest
    return Advice(chosen.policy, (*_reasons(chosen, fastest, sync), *said))


def _reasons(chosen: Summary, fastest: Summary, sync: Summary) -> list[str]:
    said = [
        f"It reaches 99 % of the best synchronous accuracy in {_of(chosen, 'time_to_99_s'):.0f} s, "
        + (
            f"{_of(chosen, 'times_as_fast'):.1f} times as fast as sync"
            if chosen.policy != SYNC
            else "and nothing else is faster"
        )
        + f", with {_of(chosen, 'bytes_to_99') / 1e6:.1f} MB beside {_of(sync, 'bytes_to_99') / 1e6:.1f} MB of sync "
        f"(medians over {chosen.seeds} seed{'s' if chosen.seeds > 1 else ''}).",
        f"Nobody is left out: each node has {_of(chosen, 'participation_min'):.0f} updates or more in it; stragglers "
        f"end at {_of(chosen, 'straggler_accuracy'):.1%}, {_of(sync, 'straggler_accuracy'):.1%} under sync.",
    ]
    if chosen is not fastest:
        said.append(f"{fastest.policy} is as fast, and takes {_of(fastest, 'bytes_to_99') / 1e6:.1f} MB.")
    return said


def _objection(one: Summary, sync: Summary) -> str:
    """Return why not to choose this policy, empty if nothing speaks against it."""
    if one.median("time_to_99_s") is None:
        return f"99 % of the synchronous accuracy was not reached in {one.seeds - one.finished} of {one.seeds} runs"
    if not _of(one, "participation_min"):
        return "at least one node has no update in it"
    behind = _of(one, "straggler_gap")
    if behind > POINT:
        return f"stragglers end {100 * behind:.1f} points below where sync brings them"
    return ""


def _of(one: Summary, key: str) -> float:
    value = one.median(key)
    return float("inf") if value is None else value
