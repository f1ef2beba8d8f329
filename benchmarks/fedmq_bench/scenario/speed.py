"""Speed: a scenario whose time runs faster, so that hours of a fleet can be run for real. The same for both engines.

Everything that a file says in time is divided: trainings, links, absences, heartbeats, deadlines. What protocols have
of their own is not: the timeouts of TCP and ZeroMQ, and how long a node waits before it greets again.
"""

from dataclasses import replace

from fedmq.config import Federation
from fedmq.errors import ConfigInvalid
from fedmq_bench.scenario.form import Group, Partition, Presence, Scenario, Way


def scenario(what: Scenario) -> Scenario:
    """Return it with its times as they are run.

    raises     ConfigInvalid for one with a trace, whose times stand in a file of their own
    """
    by = what.speed
    if by == 1:
        return what
    return replace(
        what,
        groups=tuple(_group(group, by) for group in what.groups),
        partitions=tuple(Partition(one.at_s / by, one.for_s / by, one.groups) for one in what.partitions),
        stop=replace(what.stop, time_s=what.stop.time_s / by),
    )


def settings(what: Federation, by: float) -> Federation:
    """Return the settings of a federation with their times as they are run."""
    deadline_s, pulse = what.rounds.deadline_s, what.pulse
    return replace(
        what,
        rounds=replace(what.rounds, deadline_s=None if deadline_s is None else deadline_s / by),
        pulse=replace(pulse, heartbeat_s=pulse.heartbeat_s / by, lost_after_s=pulse.lost_after_s / by),
    )


def _group(group: Group, by: float) -> Group:
    return replace(
        group,
        compute=replace(group.compute, scale=group.compute.scale / by, most=group.compute.most / by),
        up=_way(group.up, by),
        down=_way(group.down, by),
        present=_presence(group, group.present, by),
        reachable=_presence(group, group.reachable, by),
        drop=replace(group.drop, back_s=group.drop.back_s / by),
        crash=replace(group.crash, every_s=group.crash.every_s / by, back_s=group.crash.back_s / by),
        skew=replace(group.skew, offset_s=group.skew.offset_s / by),
        joins_s=group.joins_s / by,
        joins_within_s=group.joins_within_s / by,
        leaves_s=group.leaves_s / by,
    )


def _way(way: Way, by: float) -> Way:
    return replace(
        way,
        mbps=way.mbps * by,
        rtt_ms=way.rtt_ms / by,
        jitter_ms=way.jitter_ms / by,
        reorder_ms=way.reorder_ms / by,
    )


def _presence(group: Group, presence: Presence, by: float) -> Presence:
    if presence.kind == "trace":
        raise ConfigInvalid(
            f"speed is {by:g}, and group {group.name} has a trace, whose times stand in a file: set speed to 1, or "
            "divide the times of the file"
        )
    return replace(
        presence,
        on_s=presence.on_s / by,
        off_s=presence.off_s / by,
        period_s=presence.period_s / by,
        phase_s=presence.phase_s / by if presence.phase_s >= 0 else presence.phase_s,
    )
