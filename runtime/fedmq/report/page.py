"""The page: numbers, tables and plots of a run, as one HTML file."""

import json
import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fedmq.record import EVALUATIONS, Record
from fedmq.report import plots
from fedmq.report.series import Series, notable
from fedmq.show import size
from fedmq.summary import ACCEPTED, summarise

MOST_EVENTS = 200


def write(folder: Path, ledger: Path, out: Path) -> Path:
    """Write the report of the run in `folder` to `out`, whole or not at all, and return where it is."""
    with Record.open(ledger) as record:
        html = render(record, evaluations(folder))
    return publish(html, out)


def publish(html: str, out: Path) -> Path:
    """Write a page, whole or not at all, and return where it is."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".part")
    partial.write_text(html, encoding="utf-8")
    os.replace(partial, out)
    return out


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """Return what `fedmq eval --save` has noted in this run's folder, the last of each name."""
    try:
        lines = (folder / EVALUATIONS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return list({row["name"]: row for row in map(json.loads, lines)}.values())


def render(record: Record, evaluated: list[dict[str, Any]]) -> str:
    """Return the page."""
    environment = Environment(loader=PackageLoader("fedmq.report"), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"percent": _percent, "size": size}
    series, events = Series(record), notable(record.events())
    figures = (plots.accuracy, plots.accuracy_by_bytes, plots.timeline, plots.staleness, plots.rounds, plots.traffic)
    return environment.get_template("page.html").render(
        summary=summarise(record),
        meta=record.meta(),
        nodes=_nodes(record),
        evaluated=evaluated,
        events=[{**event, "fields": json.loads(event["fields"])} for event in events[-MOST_EVENTS:]],
        hidden_events=max(0, len(events) - MOST_EVENTS),
        plots={plot.__name__: plot(series) for plot in figures},
    )


def _nodes(record: Record) -> list[dict[str, Any]]:
    """Return each node with what it contributed."""
    accuracies = {row["node"]: row for row in summarise(record)["nodes"]}
    updates, rows = record.updates(), []
    total = sum(row["weight"] * row["damping"] * row["scale"] for row in updates) or 1.0
    for node in record.nodes():
        own = [row for row in updates if row["node"] == node["node"]]
        accepted = [row for row in own if row["code"] == ACCEPTED]
        rows.append(
            {
                **node,
                **accuracies[node["name"] or node["node"]],
                "accepted": len(accepted),
                "refused": len(own) - len(accepted),
                "staleness": sum(row["staleness"] for row in accepted) / max(1, len(accepted)),
                "share": sum(row["weight"] * row["damping"] * row["scale"] for row in own) / total,
                "up": sum(row["frame_bytes"] for row in own),
            }
        )
    return rows


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
