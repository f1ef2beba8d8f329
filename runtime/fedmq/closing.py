"""Closing: what is written down of a round that has ended with a new version. Part of step 11 of the walk."""

from fedmq.journal import Traffic, VersionEntry
from fedmq.rounds import Cause, Round
from fedmq.versions import Versions


def closing(
    ended: Round, versions: Versions, folded: int, cause: Cause, step_norm: float, traffic: Traffic, now: float
) -> VersionEntry:
    """Return the entry of the newest version, which this round has come to.

    folded     updates since the federation began
    """
    exact, broadcast = versions.exact, versions.broadcast
    return VersionEntry(
        version=versions.number,
        cause=cause,
        updates=ended.updates,
        folded=folded,
        quorum=ended.quorum,
        invited=len(ended.invited),
        opened_at=now if ended.opened_at is None else ended.opened_at,
        closed_at=now,
        step_norm=step_norm,
        traffic=traffic,
        params=exact,
        broadcast=None if broadcast is exact else broadcast,
    )
