"""What an aggregator bears, in words."""

from collections.abc import Mapping

from fedmq_bench.report.line import Case, Line, Row, Target, ms, seconds


def _load(row: Row) -> Line:
    growth = row["last_rss_bytes"] / row["settled_rss_bytes"] - 1
    return Line(
        f"{row['nodes']} nodes over {row['link']}, {row['updates']:,} updates",
        f"{row['updates_per_s']:,.0f} updates/s, verdict after {ms(row['verdict_p50_s'])} (p50), "
        f"{ms(row['verdict_p99_s'])} (p99); {row['bytes_per_node'] / 1e3:.0f} kB a node, "
        f"{row['peak_rss_bytes'] / 1e6:.0f} MB at most, {growth:+.1%} over the run",
    )


def _kills(row: Row) -> Line:
    killed = ", ".join(f"{who} {count} times" for who, count in sorted(row["killed"].items()))
    took = ", ".join(f"{who} {seconds(found)}" for who, found in sorted(row["recovery_s"].items()))
    back = f"; a node's next update after {seconds(row['return_s'])}" if row["return_s"] else ""
    return Line(
        f"SIGKILL over {row['link']}: {killed}",
        f"{row['updates']:,} updates accepted, {row['lost']} lost, {row['duplicated']} counted twice; "
        f"a new round's version after {took} (p50, max){back}",
    )


def _memory(row: Row) -> Line:
    size = row["peak_rss_bytes"] / 1e6
    return Line(
        f"aggregator's peak memory, {row['nodes']} nodes send {row['codec']}",
        f"{size:.0f} MB",
        target=Target(150.0, unit="MB").verdict(size),
    )


CASES: Mapping[str, Case] = {
    "load": Case(_load, ("link", "nodes")),
    "kills": Case(_kills, ("link", "kills")),
    "memory": Case(_memory, ("nodes", "codec")),
}
