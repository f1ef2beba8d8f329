"""The report: rows as sentences while they come, and the newest of them as a table for the README."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
HEADINGS = ("measured", "fedmq", "beside it", "ratio", "target", "command")

# Per link of a benchmark, how it is named in a sentence, and what it is held against.
LINKS: Mapping[str, tuple[str, str]] = {
    "zmq": ("", "bare pyzmq"),
    "curve": (" over CURVE", "bare pyzmq with CURVE"),
    "mqtt": (" over MQTT", "bare aiomqtt"),
    "sealed": (" over MQTT, sealed", "bare aiomqtt"),
}


@dataclass(frozen=True)
class Target:
    """What a figure should be: at most, or at least."""

    limit: float
    at_least: bool = False
    unit: str = "x"

    def verdict(self, value: float) -> str:
        """Return the target in words, and whether it was missed."""
        met = value >= self.limit if self.at_least else value <= self.limit
        words = f"{'at least' if self.at_least else 'at most'} {self.limit:,g} {self.unit}"
        return words if met else f"{words}: missed"


@dataclass(frozen=True)
class Line:
    """One row as a person reads it; `ratio` and `target` are empty where there is none."""

    what: str
    ours: str
    beside: str = ""
    ratio: str = ""
    target: str = ""


def sentence(row: Row) -> str:
    """Return a row as one line of text."""
    line = told(row)
    parts = [line.ours, f"beside {line.beside}" if line.beside else "", f"ratio {line.ratio}" if line.ratio else ""]
    return f"{line.what}: {', '.join(filter(None, parts))}" + (f" (target {line.target})" if line.target else "")


def told(row: Row) -> Line:
    """Return a row in words."""
    return _CASES[row["case"]].tell(row)


def markdown(rows: Iterable[Row]) -> str:
    """Return the newest row of each case and size as a Markdown table, with the command that makes each number, and
    below it where each was measured.
    """
    chosen = newest(rows)
    lines = [_cells(HEADINGS), _cells(["---"] * len(HEADINGS))]
    for row in chosen:
        line = told(row)
        cells = (line.what, line.ours, line.beside, line.ratio, line.target, f"`{row['context']['command']}`")
        lines.append(_cells(cells))
    places = dict.fromkeys(place(row["context"]) for row in chosen)
    return "\n".join([*lines, "", *(f"Measured on {text}." for text in places)])


def newest(rows: Iterable[Row]) -> list[Row]:
    """Return the newest row of each case and size, in the order in which cases and sizes are told."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if row["case"] in _CASES and _CASES[row["case"]].in_table:
            key = (row["case"], *(row.get(name) for name in _CASES[row["case"]].sizes))
            if key not in found or found[key]["context"]["at"] <= row["context"]["at"]:
                found[key] = row
    order = list(_CASES)
    return sorted(found.values(), key=lambda row: (order.index(row["case"]), row.get("codec", ""), row.get("nodes", 0)))


def place(context: Row) -> str:
    """Return where a row was measured, in words."""
    versions = " ".join(f"{name} {version}" for name, version in context["versions"].items())
    commit = f"commit {context['commit']}, " if context["commit"] else ""
    return f"{context['cpu']}, {context['cores']} cores, {commit}{context['at'][:10]}, {versions}"


def _latency(row: Row) -> Line:
    kind = ", durable" if row["durable"] else ""
    link, bare = LINKS[row["link"]]
    return Line(
        f"round of {row['nodes']} nodes{link}, {row['codec']} up{kind}",
        _ms(row["median_s"]),
        f"{bare} {_ms(row['floor_median_s'])}",
        _ratio(row),
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
        _ratio(row),
        aim.verdict(row["ratio"]) if aim else "",
    )


def _fold(row: Row) -> Line:
    aim = {"fp32": Target(1.3), "int8": Target(3.0), "eden1": Target(5.0)}.get(row["codec"])
    return Line(
        f"decode, weigh and fold one {row['codec']} update",
        f"{_ms(row['median_s'])} (judged as well {_ms(row['judged_s'])}, ratio {row['judged_ratio']:.2f})",
        f"numpy `acc += w * x` {_ms(row['numpy_s'])}",
        _ratio(row),
        aim.verdict(row["ratio"]) if aim else "",
    )


def _local(row: Row) -> Line:
    return Line(
        f"local epoch of {row['images']} images, {row['model']}",
        _ms(row["cached_epoch_s"]),
        f"both encoders per batch {row['reference_epoch_s']:.1f} s",
        _ratio(row),
        Target(1000.0, at_least=True).verdict(row["ratio"]),
    )


def _encoder(row: Row) -> Line:
    start = {"encode": "pixels in memory", "files": "JPEG files"}[row["stage"]]
    return Line(
        f"encode from {start}, {row['model']} {row['precision']} on {row['device']}",
        f"{row['onnx_images_per_s']:.1f} images/s",
        f"eager PyTorch {row['torch_images_per_s']:.1f} images/s",
        _ratio(row),
    )


def _memory(row: Row) -> Line:
    size = row["peak_rss_bytes"] / 1e6
    return Line(
        f"aggregator's peak memory, {row['nodes']} nodes send {row['codec']}",
        f"{size:.0f} MB",
        target=Target(150.0, unit="MB").verdict(size),
    )


def _load(row: Row) -> Line:
    growth = row["last_rss_bytes"] / row["settled_rss_bytes"] - 1
    return Line(
        f"{row['nodes']} nodes over {row['link']}, {row['updates']:,} updates",
        f"{row['updates_per_s']:,.0f} updates/s, verdict after {_ms(row['verdict_p50_s'])} (p50), "
        f"{_ms(row['verdict_p99_s'])} (p99); {row['bytes_per_node'] / 1e3:.0f} kB a node, "
        f"{row['peak_rss_bytes'] / 1e6:.0f} MB at most, {growth:+.1%} over the run",
    )


def _kills(row: Row) -> Line:
    killed = ", ".join(f"{who} {count} times" for who, count in sorted(row["killed"].items()))
    took = ", ".join(f"{who} {_seconds(found)}" for who, found in sorted(row["recovery_s"].items()))
    back = f"; a node's next update after {_seconds(row['return_s'])}" if row["return_s"] else ""
    return Line(
        f"SIGKILL over {row['link']}: {killed}",
        f"{row['updates']:,} updates accepted, {row['lost']} lost, {row['duplicated']} counted twice; "
        f"a new round's version after {took} (p50, max){back}",
    )


def _comm(row: Row) -> Line:
    sizes = [(name, row[f"{name}_bytes"]) for name in ("payload", "application", "transport", "wire")]
    parts = [", ".join(f"{_size(value)} {name}" for name, value in sizes if value is not None)]
    if row["nmse"] is not None:
        theory = "" if row["nmse_theory"] is None else f" (theory {row['nmse_theory']:.3g})"
        parts.append(f"error {row['nmse']:.3g}{theory}")
    if row["accuracy"] is not None:
        parts.append(f"accuracy {_share(row, 'accuracy')}, {_share(row, 'accuracy_lost')} lost")
    if row["link_round_s"] is not None:
        link = f"{row['link_mbps']:g} Mbit/s and {row['rtt_ms']:g} ms"
        parts.append(f"a round over {link} {_ms(row['link_round_s'])}")
    what = {"up": "an update", "down": "a version", "both": "an update and a version"}[row["direction"]]
    data = "" if row["dataset"] is None else f", {row['dataset']}"
    return Line(f"{what} as {row['codec']}{data}, {row['nodes']} nodes", "; ".join(parts), "float32", _ratio(row))


def _accuracy(row: Row) -> Line:
    skew = "" if row["alpha"] is None else f" of alpha {row['alpha']:g}"
    encoder = f"{row['encoder']}{' (a stand-in)' if row['stand_in'] else ''}"
    figures = {"held out": row["held_out"], "participants": row["participants"], "personal": row["personal"]}
    told = ", ".join(f"{name} {value:.1%}" for name, value in figures.items() if value is not None)
    failing = f"; below zero-shot: {', '.join(row['failing'])}" if row["failing"] else ""
    return Line(
        f"{row['method']}{', transductive,' if row['transductive'] else ''} on {row['dataset']} with {encoder}, "
        f"{row['split']}{skew}, {row['nodes']} nodes, {row['fold']} held out, seed {row['seeds'][0]}",
        f"{told or 'not trained'}{failing}; {_size(row['bytes_up'])} up a node in {row['rounds']} rounds, "
        f"{row['seconds']:.1f} s",
    )


def _scenario_run(row: Row) -> Line:
    curve = row["curve"]
    best = f"accuracy {max(point['accuracy'] for point in curve):.1%} at best; " if curve else ""
    return Line(
        f"{row['preset']} under {row['policy']}, {row['nodes']} nodes, seed {row['seed']}",
        f"{best}{row['versions']} versions of {row['accepted']} updates in {row['ended_s']:.0f} s"
        f"{' of virtual time' if row['engine'] == 'sim' else ''}{_speed(row)}"
        f"{'' if row['finished'] else ' and not finished'}, a round {row['round_s']['p50']:.1f} s, "
        f"{row['round_s']['max']:.1f} s at most; {row['participation_min']} updates or more of each node, "
        f"{_size(row['wasted_bytes'])} wasted; digest {row['digest'][:12]}",
    )


def _scenario_compare(row: Row) -> Line:
    learned = ""
    if "accuracy" in row:
        to_99 = row["time_to_99_s"]
        there = (
            "99 % of sync not reached"
            if to_99 is None
            else f"99 % of sync in {to_99:.1f} s, {_size(row['bytes_to_99'])}"
        )
        learned = f"{there}; accuracy {row['accuracy_settled']:.1%}, stragglers {row['straggler_accuracy']:.1%}; "
    return Line(
        f"{row['preset']} under {row['policy']}, seed {row['seed']}",
        f"{learned}{row['participation_min']} to {row['participation_max']} updates of a node, "
        f"{_size(row['wasted_bytes'])} wasted, a round {row['round_max_s']:.1f} s at most",
    )


def _scenario_agree(row: Row) -> Line:
    goodput, application, ended = row["goodput"], row["application"], row["ended"]
    equal = "equal" if row["goodput_equal"] else f"{goodput['sim']} B in virtual time, {goodput['real']} B for real"
    return Line(
        f"{row['preset']} under {row['policy']}, {row['nodes']} nodes over {row['link']}{_speed(row)}",
        f"{row['versions']} versions; goodput {equal}; application {_size(application['real'])}, "
        f"{100 * row['application_off']:.2f} % off; the last after {ended['real']:.1f} s, "
        f"{ended['sim']:.1f} s in virtual time, {100 * row['time_off']:.1f} % off at most",
        target="agrees" if row["agrees"] else "agrees: missed",
    )


def _speed(row: Row) -> str:
    return "" if row["speed"] == 1 else f", at {row['speed']:g} times the speed"


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
        _ms(row["median_s"]),
        f"`python -c pass` {_ms(row['python_s'])}",
        target=Target(0.3, unit="s").verdict(row["median_s"]),
    )


@dataclass(frozen=True)
class _Case:
    """How a case is told, and which of its keys make it another size; one that is many rows has tables of its own."""

    tell: Callable[[Row], Line]
    sizes: tuple[str, ...] = ()
    in_table: bool = True


_CASES: Mapping[str, _Case] = {
    "latency": _Case(_latency, ("link", "nodes", "codec", "down", "durable")),
    "ledger": _Case(_ledger, ("nodes", "codec", "durable")),
    "fold": _Case(_fold, ("codec",)),
    "local": _Case(_local, ("model", "images")),
    "encoder": _Case(_encoder, ("device", "stage", "model", "precision")),
    "load": _Case(_load, ("link", "nodes")),
    "kills": _Case(_kills, ("link", "kills")),
    "memory": _Case(_memory, ("nodes", "codec")),
    "comm": _Case(_comm, ("dataset", "nodes", "codec", "direction", "link_mbps", "rtt_ms")),
    "accuracy": _Case(_accuracy, in_table=False),
    "scenario run": _Case(_scenario_run, in_table=False),
    "scenario compare": _Case(_scenario_compare, in_table=False),
    "scenario agree": _Case(_scenario_agree, ("preset", "policy", "link", "seed")),
    "scale": _Case(_scale, ("nodes", "versions", "goal", "trained", "codec")),
    "startup": _Case(_startup),
}


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def _seconds(quantiles: Mapping[str, float]) -> str:
    return f"{quantiles['p50']:.1f} s, {quantiles['max']:.1f} s"


def _size(count: float) -> str:
    return f"{count:.0f} B" if count < 1e3 else f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.3f} MB"


def _share(row: Row, key: str) -> str:
    spread = "" if row[f"{key}_std"] is None else f" ± {100 * row[f'{key}_std']:.2f}"
    return f"{100 * row[key]:.2f}{spread} %"


def _ratio(row: Row) -> str:
    return f"{row['ratio']:,.4g}" if row["ratio"] >= 1000 else f"{row['ratio']:.2f}"
