"""The report: rows as sentences while they come, and the newest of them as a table for the README."""

from collections.abc import Iterable, Mapping
from typing import Any

from fedmq_bench.report import device, endurance, learning, rounds, scenarios, tools
from fedmq_bench.report.line import Case, Line, Row

HEADINGS = ("measured", "fedmq", "beside it", "ratio", "target", "command")

CASES: Mapping[str, Case] = {
    case: told for part in (rounds, device, endurance, learning, scenarios, tools) for case, told in part.CASES.items()
}


def sentence(row: Row) -> str:
    """Return a row as one line of text."""
    line = told(row)
    parts = [line.ours, f"beside {line.beside}" if line.beside else "", f"ratio {line.ratio}" if line.ratio else ""]
    return f"{line.what}: {', '.join(filter(None, parts))}" + (f" (target {line.target})" if line.target else "")


def told(row: Row) -> Line:
    """Return a row in words."""
    return CASES[row["case"]].tell(row)


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
        if row["case"] in CASES and CASES[row["case"]].in_table:
            key = (row["case"], *(row.get(name) for name in CASES[row["case"]].sizes))
            if key not in found or found[key]["context"]["at"] <= row["context"]["at"]:
                found[key] = row
    order = list(CASES)
    return sorted(found.values(), key=lambda row: (order.index(row["case"]), row.get("codec", ""), row.get("nodes", 0)))


def place(context: Row) -> str:
    """Return where a row was measured, in words."""
    versions = " ".join(f"{name} {version}" for name, version in context["versions"].items())
    commit = f"commit {context['commit']}, " if context["commit"] else ""
    return f"{context['cpu']}, {context['cores']} cores, {commit}{context['at'][:10]}, {versions}"


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
