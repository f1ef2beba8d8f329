"""What fleets in files did, in words."""

from collections.abc import Mapping

from fedmq_bench.report.line import Case, Line, Row, size


def _scenario_run(row: Row) -> Line:
    curve = row["curve"]
    best = f"accuracy {max(point['accuracy'] for point in curve):.1%} at best; " if curve else ""
    return Line(
        f"{row['preset']} under {row['policy']}, {row['nodes']} nodes, seed {row['seed']}",
        f"{best}{row['versions']} versions of {row['accepted']} updates in {row['ended_s']:.0f} s"
        f"{' of virtual time' if row['engine'] == 'sim' else ''}{_speed(row)}"
        f"{'' if row['finished'] else ' and not finished'}, a round {row['round_s']['p50']:.1f} s, "
        f"{row['round_s']['max']:.1f} s at most; {row['participation_min']} updates or more of each node, "
        f"{size(row['wasted_bytes'])} wasted; digest {row['digest'][:12]}",
    )


def _scenario_compare(row: Row) -> Line:
    learned = ""
    if "accuracy" in row:
        to_99 = row["time_to_99_s"]
        there = (
            "99 % of sync not reached"
            if to_99 is None
            else f"99 % of sync in {to_99:.1f} s, {size(row['bytes_to_99'])}"
        )
        learned = f"{there}; accuracy {row['accuracy_settled']:.1%}, stragglers {row['straggler_accuracy']:.1%}; "
    return Line(
        f"{row['preset']} under {row['policy']}, seed {row['seed']}",
        f"{learned}{row['participation_min']} to {row['participation_max']} updates of a node, "
        f"{size(row['wasted_bytes'])} wasted, a round {row['round_max_s']:.1f} s at most",
    )


def _scenario_agree(row: Row) -> Line:
    goodput, application, ended = row["goodput"], row["application"], row["ended"]
    equal = "equal" if row["goodput_equal"] else f"{goodput['sim']} B in virtual time, {goodput['real']} B for real"
    return Line(
        f"{row['preset']} under {row['policy']}, {row['nodes']} nodes over {row['link']}{_speed(row)}",
        f"{row['versions']} versions; goodput {equal}; application {size(application['real'])}, "
        f"{100 * row['application_off']:.2f} % off; the last after {ended['real']:.1f} s, "
        f"{ended['sim']:.1f} s in virtual time, {100 * row['time_off']:.1f} % off at most",
        target="agrees" if row["agrees"] else "agrees: missed",
    )


def _speed(row: Row) -> str:
    return "" if row["speed"] == 1 else f", at {row['speed']:g} times the speed"


CASES: Mapping[str, Case] = {
    "scenario run": Case(_scenario_run, in_table=False),
    "scenario compare": Case(_scenario_compare, in_table=False),
    "scenario agree": Case(_scenario_agree, ("preset", "policy", "link", "seed")),
}
