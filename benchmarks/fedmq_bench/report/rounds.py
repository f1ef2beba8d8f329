"""What a round costs, in words."""

from collections.abc import Mapping

from fedmq_bench.report.line import Case, Line, Row, Target, ms, ratio

# Per link of a benchmark, how it is named in a sentence, and what it is held against.
LINKS: Mapping[str, tuple[str, str]] = {
    "zmq": ("", "bare pyzmq"),
    "curve": (" over CURVE", "bare pyzmq with CURVE"),
    "mqtt": (" over MQTT", "bare aiomqtt"),
    "sealed": (" over MQTT, sealed", "bare aiomqtt"),
}


def _latency(row: Row) -> Line:
    kind = ", durable" if row["durable"] else ""
    link, bare = LINKS[row["link"]]
    return Line(
        f"round of {row['nodes']} nodes{link}, {row['codec']} up{kind}",
        ms(row["median_s"]),
        f"{bare} {ms(row['floor_median_s'])}",
        ratio(row),
        aim.verdict(row["ratio"]) if (aim := _latency_aim(row)) else "",
    )


def _latency_aim(row: Row) -> Target | None:
    if row["durable"] or row["codec"] != "fp32":
        return None
    if row["link"] == "zmq":
        return Target(2.0) if row["nodes"] == 16 else None
    return Target(1.5) if row["link"] == "curve" or row["nodes"] in (4, 8, 16) else None


def _ledger(row: Row) -> Line:
    kind = "durable" if row["durable"] else "without waiting for the disk"
    aim = Target(1.5) if (row["nodes"], row["codec"], row["durable"]) == (16, "int8", True) else None
    return Line(
        f"{row['codec']} updates of {row['nodes']} nodes into the ledger, {kind}",
        f"{row['updates_per_s']:.0f} updates/s (the ledger alone {row['alone_updates_per_s']:.0f})",
        f"no ledger {row['off_updates_per_s']:.0f} updates/s",
        ratio(row),
        aim.verdict(row["ratio"]) if aim else "",
    )


def _fold(row: Row) -> Line:
    aim = {"fp32": Target(1.3), "int8": Target(3.0), "eden1": Target(5.0)}.get(row["codec"])
    return Line(
        f"decode, weigh and fold one {row['codec']} update",
        f"{ms(row['median_s'])} (judged as well {ms(row['judged_s'])}, ratio {row['judged_ratio']:.2f})",
        f"numpy `acc += w * x` {ms(row['numpy_s'])}",
        ratio(row),
        aim.verdict(row["ratio"]) if aim else "",
    )


CASES: Mapping[str, Case] = {
    "latency": Case(_latency, ("link", "nodes", "codec", "down", "durable")),
    "ledger": Case(_ledger, ("nodes", "codec", "durable")),
    "fold": Case(_fold, ("codec",)),
}
