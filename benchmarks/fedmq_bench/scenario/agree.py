"""Agreement: both engines on the same scenario at a size that one machine can run for real, and how far they are apart.

What virtual time leaves out, or has wrong, shows here and nowhere else: a real run has no model of the runtime, of its
sockets, or of its disk. Goodput and time are compared version by version, as many as both have; application bytes with
the last one, because a version that is sent to a node counts as soon as it is sent, before a commit or after it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedmq.errors import ConfigInvalid
from fedmq_bench.harness import Say
from fedmq_bench.scenario import real, simulated
from fedmq_bench.scenario.data import Pool
from fedmq_bench.scenario.form import Group, Scenario

CASE = "scenario agree"
NODES = 8
APPLICATION, TIME = 0.02, 0.15  # of what virtual time says, by which a real run may differ
HEADINGS = (
    "preset",
    "policy",
    "seed",
    "speed",
    "versions",
    "goodput, equal",
    "application",
    "last version, real and virtual",
    "time off, at most",
)
SHORT = ("stop.updates_per_node=4", "stop.others=1.0")
SLOWER_DISK_S, SEEDS = 0.05, 50
# Goals of presets are for fleets of their own size.
GOALS = {"fedbuff": {"rounds": {"goal": NODES // 2}}}


def resized(scenario: Scenario, nodes: int = NODES) -> Scenario:
    """Return it with so many nodes in all, of each group about the same share and at least one."""
    policies = {**scenario.policies, **{name: table for name, table in GOALS.items() if name not in scenario.policies}}
    return replace(scenario, groups=tuple(_resized(scenario.groups, nodes)), policies=policies)


def _resized(groups: Sequence[Group], nodes: int) -> Iterator[Group]:
    whole, left = sum(group.count for group in groups), nodes
    for place, group in enumerate(groups):
        rest = len(groups) - 1 - place
        count = left if not rest else min(left - rest, max(1, round(group.count * nodes / whole)))
        left -= count
        yield replace(group, count=count)


def steady(scenario: Scenario, policy: str, pool: Pool) -> tuple[Scenario, dict[str, Any]]:
    """Return it with the first seed from its own on with which a little more or less time changes little, and its row.

    With others, a node goes just before its update arrives, or just after, and rounds differ from then on: what such a
    run did for real says nothing about the model. Virtual time is held against itself, with disks that are slower.
    raises     ConfigInvalid if there is no such seed among the first few
    """
    for offset in range(SEEDS):
        found = replace(scenario, seed=scenario.seed + offset)
        modelled = simulated.run(found, policy, pool, trains=False)
        slower = simulated.run(found, policy, pool, trains=False, disk_s=SLOWER_DISK_S)
        if _figures(modelled, slower)["agrees"]:
            return found, modelled
    raise ConfigInvalid(f"{scenario.name} under {policy}: none of {SEEDS} seeds bears a disk of {SLOWER_DISK_S} s")


def agreement(scenario: Scenario, policy: str, pool: Pool, say: Say) -> dict[str, Any]:
    """Run it with both engines, without training, and return the row that says how far they are apart."""
    found, modelled = steady(scenario, policy, pool)
    say(f"{scenario.name}, {policy}: {modelled['versions']} versions, about {modelled['ended_s']:.0f} s in real time")
    measured = real.run(found, policy, pool, trains=False, say=say)
    same = {key: measured[key] for key in ("preset", "policy", "seed", "speed", "nodes", "link", "wall_s")}
    return {"case": CASE, **same, **_figures(modelled, measured)}


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the newest row of each preset and policy as a Markdown table."""
    newest = {(row["preset"], row["policy"]): row for row in rows}
    lines = [f"| {' | '.join(HEADINGS)} |", f"| {' | '.join('---' for _ in HEADINGS)} |"]
    return "\n".join(lines + [_line(newest[key]) for key in sorted(newest)])


def _line(row: Mapping[str, Any]) -> str:
    goodput, ended = row["goodput"], row["ended"]
    equal = (
        f"{goodput['real']:,} B" if row["goodput_equal"] else f"{goodput['sim']:,} B, {goodput['real']:,} B for real"
    )
    cells = (
        row["preset"],
        row["policy"],
        row["seed"],
        f"{row['speed']:g}",
        row["versions"],
        equal,
        f"{row['application']['real']:,} B, {100 * row['application_off']:.3f} % off",
        f"{ended['real']:.1f} s, {ended['sim']:.1f} s",
        f"{100 * row['time_off']:.1f} %{'' if row['agrees'] else ': missed'}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def _figures(modelled: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return how far two runs are apart."""
    pairs = list(zip(modelled["commits"], measured["commits"], strict=False))
    times = [(there[0], here[0]) for there, here in pairs]
    (_, goodput, application), (_, real_goodput, real_application) = pairs[-1] if pairs else ((0, 0, 0), (0, 0, 0))
    equal = bool(pairs) and all(there[1] == here[1] for there, here in pairs)
    application_off = abs(real_application / application - 1.0) if pairs else 1.0
    time_off = max((abs(here / there - 1.0) for there, here in times), default=1.0)
    return {
        "versions": len(pairs),
        "goodput": {"sim": goodput, "real": real_goodput},
        "application": {"sim": application, "real": real_application},
        "goodput_equal": equal,
        "application_off": application_off,
        "time_off": time_off,
        "ended": {"sim": times[-1][0] if times else 0.0, "real": times[-1][1] if times else 0.0},
        "times": times,
        "agrees": equal and application_off <= APPLICATION and time_off <= TIME,
    }
