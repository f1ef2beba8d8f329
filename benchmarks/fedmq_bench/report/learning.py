"""What is learned, and at which bytes, in words."""

from collections.abc import Mapping

from fedmq_bench.report.line import Case, Line, Row, ms, ratio, share, size


def _comm(row: Row) -> Line:
    sizes = [(name, row[f"{name}_bytes"]) for name in ("payload", "application", "transport", "wire")]
    parts = [", ".join(f"{size(value)} {name}" for name, value in sizes if value is not None)]
    if row["nmse"] is not None:
        theory = "" if row["nmse_theory"] is None else f" (theory {row['nmse_theory']:.3g})"
        parts.append(f"error {row['nmse']:.3g}{theory}")
    if row["accuracy"] is not None:
        parts.append(f"accuracy {share(row, 'accuracy')}, {share(row, 'accuracy_lost')} lost")
    if row["link_round_s"] is not None:
        link = f"{row['link_mbps']:g} Mbit/s and {row['rtt_ms']:g} ms"
        parts.append(f"a round over {link} {ms(row['link_round_s'])}")
    what = {"up": "an update", "down": "a version", "both": "an update and a version"}[row["direction"]]
    data = "" if row["dataset"] is None else f", {row['dataset']}"
    return Line(f"{what} as {row['codec']}{data}, {row['nodes']} nodes", "; ".join(parts), "float32", ratio(row))


def _accuracy(row: Row) -> Line:
    skew = "" if row["alpha"] is None else f" of alpha {row['alpha']:g}"
    encoder = f"{row['encoder']}{' (a stand-in)' if row['stand_in'] else ''}"
    figures = {"held out": row["held_out"], "participants": row["participants"], "personal": row["personal"]}
    told = ", ".join(f"{name} {value:.1%}" for name, value in figures.items() if value is not None)
    failing = f"; below zero-shot: {', '.join(row['failing'])}" if row["failing"] else ""
    return Line(
        f"{row['method']}{', transductive,' if row['transductive'] else ''} on {row['dataset']} with {encoder}, "
        f"{row['split']}{skew}, {row['nodes']} nodes, {row['fold']} held out, seed {row['seeds'][0]}",
        f"{told or 'not trained'}{failing}; {size(row['bytes_up'])} up a node in {row['rounds']} rounds, "
        f"{row['seconds']:.1f} s",
    )


CASES: Mapping[str, Case] = {
    "comm": Case(_comm, ("dataset", "nodes", "codec", "direction", "link_mbps", "rtt_ms")),
    "accuracy": Case(_accuracy, in_table=False),
}
