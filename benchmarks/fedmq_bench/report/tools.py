"""What the simulation and the command line take, in words."""

from collections.abc import Mapping

from fedmq_bench.report.line import Case, Line, Row, Target, ms


def _scale(row: Row) -> Line:
    what = f"{row['codec']} updates {'from ' + str(row['examples']) + ' images' if row['trained'] else 'generated'}"
    if row["trained"]:
        value, aim = row["per_1000_s"], Target(8.0, unit="s per 1,000 node-rounds")
        said = f"{value:.1f} s per 1,000 node-rounds ({row['per_1000_cpu_s']:.1f} s of processor time)"
    else:
        value, aim = row["wall_s"], Target(60.0, unit="s")
        said = f"{value:.0f} s in all ({row['cpu_s']:.0f} s of processor time), {row['events_per_s']:,.0f} events/s"
    return Line(
        f"{row['nodes']:,} simulated nodes, {row['versions']} versions, {row['updates']:,} {what}",
        f"{said}, {row['node_rounds_per_s']:,.0f} node-rounds/s, {row['peak_rss_bytes'] / 1e9:.2f} GB",
        target=aim.verdict(value),
    )


def _startup(row: Row) -> Line:
    return Line(
        "`fedmq --help`",
        ms(row["median_s"]),
        f"`python -c pass` {ms(row['python_s'])}",
        target=Target(0.3, unit="s").verdict(row["median_s"]),
    )


CASES: Mapping[str, Case] = {
    "scale": Case(_scale, ("nodes", "versions", "goal", "trained", "codec")),
    "startup": Case(_startup),
}
