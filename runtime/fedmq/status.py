"""The status: what the aggregator waits for, and why; the same plain values for a person, a live view and a script."""

from collections.abc import Iterable
from typing import Any

from fedmq.aggregator import Aggregator, Phase
from fedmq.roster import Member

Status = dict[str, Any]


def status(aggregator: Aggregator, now: float) -> Status:
    """Return the state of a federation as it is now.

    version, phase, round {have, goal, quorum, deadline_in_s, open_s, waiting_for, reason}, nodes, bytes, accuracy,
    ledger {problem, retry_in_s, waiting_bytes},
    caveat: what the figures must be read with, or nothing;
    stays: what each node keeps to itself of what it learns, or nothing;
    muted: who is not listened to for a while, strangers included, and why
    """
    round_ = aggregator.collector.round
    deadlines = [at for at in (round_.next_deadline(),) if at is not None]
    return {
        "federation": aggregator.settings.federation,
        "version": aggregator.version,
        "versions": aggregator.settings.stop.versions or None,
        "phase": aggregator.phase.value,
        "caveat": aggregator.caveat,
        "stays": aggregator.stays,
        "round": {
            "have": round_.updates,
            "goal": round_.goal,
            "quorum": round_.quorum,
            "open_s": None if round_.opened_at is None else round(now - round_.opened_at, 3),
            "deadline_in_s": round(min(deadlines) - now, 3) if deadlines else None,
            "waiting_for": sorted(_name(aggregator, peer) for peer in round_.waiting_for),
            "gone": sorted(_name(aggregator, peer) for peer in round_.gone),
            "reason": _reason(aggregator),
        },
        "nodes": [_node(aggregator, member, now) for member in aggregator.roster.members.values()],
        "ledger": {
            "problem": aggregator.stall.problem or None,
            "retry_in_s": None if aggregator.stall.retry_at is None else round(aggregator.stall.retry_at - now, 3),
            "waiting_bytes": aggregator.waiting_bytes,
        },
        "muted": [
            {"id": peer, "name": _name(aggregator, peer), "for_s": round(mute.until - now, 3), "reason": mute.reason}
            for peer, mute in aggregator.strikes.mutes(now).items()
        ],
        "bytes": dict(vars(aggregator.traffic)),
        "accuracy": accuracy(aggregator.roster.members.values()),
    }


def accuracy(members: Iterable[Member]) -> dict[str, float | int | None]:
    """Return the mean of what each node last reported, and of its frozen model; `version` is the newest among them.

    personal     over those nodes that have a part of their own, with it
    """
    known = list(members)
    return {
        "version": max((member.reported for member in known), default=-1),
        "federated": _mean(member.accuracy for member in known),
        "personal": _mean(member.personal for member in known),
        "zero_shot": _mean(member.zero_shot for member in known),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return round(sum(present) / len(present), 4) if present else None


def _reason(aggregator: Aggregator) -> str:
    """Say in words what happens next, and what for."""
    round_, settings = aggregator.collector.round, aggregator.settings
    ready = aggregator.roster.ready()
    if aggregator.stall.problem:
        return f"accepting nothing: {aggregator.stall.problem}"
    if aggregator.phase is Phase.COMMITTING:
        return "writing a version to the ledger"
    if aggregator.phase is Phase.FINISHING:
        return "finished; nodes evaluate the last version"
    if aggregator.phase is Phase.DONE:
        return "finished"
    needed = settings.start_nodes if aggregator.version == 0 else 1
    if round_.opened_at is None and ready < needed:
        return f"waiting for nodes: {ready} of {needed} ready"
    coming = round_.updates + len(round_.waiting_for) + len(round_.carried)
    if coming < round_.quorum:
        left = coming - round_.updates
        return f"too few nodes for a quorum of {round_.quorum}: {round_.updates} updates, {left} to come"
    if round_.waiting_for:
        return f"collecting: {round_.updates} of {round_.goal} updates"
    if round_.gone:
        return (
            f"nobody left to wait for: {len(round_.gone)} gone, {round_.updates} of {round_.quorum} updates of a quorum"
        )
    return f"waiting for nodes that are busy with an older version: {round_.updates} of {round_.goal} updates"


def _node(aggregator: Aggregator, member: Member, now: float) -> dict[str, Any]:
    return {
        "id": member.peer,
        "name": member.name,
        "state": member.state,
        "version": member.holds,
        "training_from": member.task,
        "staleness": member.staleness,
        "done": member.done,
        "total": member.total,
        "examples": member.examples,
        "bytes_up": member.bytes_up,
        "bytes_down": member.bytes_down,
        "strikes": member.strikes,
        "accuracy": member.accuracy,
        "personal": member.personal,
        "reason": member.reason,
        "silent_s": round(member.session.silent_for(now), 1),
        "awaited": member.peer in aggregator.collector.round.waiting_for,
    }


def _name(aggregator: Aggregator, peer: str) -> str:
    member = aggregator.roster.members.get(peer)
    return member.name if member and member.name else peer
