"""The tables: rows of one run as a person compares them, bytes first, then what they bought."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from fedmq.show import size

Row = Mapping[str, Any]
WIDTH = 140  # in a file, where no terminal says how wide it is


def show(rows: Sequence[Row]) -> None:
    """Print the tables that there is something to say in."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    if any(row["application_bytes"] is not None for row in rows):
        console.print(_bytes(rows))
    if any(row["nmse"] is not None for row in rows):
        console.print(_squeezed(rows))
    if any(row["accuracy"] is not None for row in rows):
        console.print(_learned(rows))


def _bytes(rows: Sequence[Row]) -> Table:
    table = _table("bytes per node and round", "goodput", "application", "transport", "wire", "goodput/wire")
    table.add_column("x float32", justify="right")
    table.add_column("round", justify="right")
    link = next((row for row in rows if row["link_round_s"] is not None), None)
    if link is not None:
        table.add_column(f"at {link['link_mbps']:g} Mbit/s, {link['rtt_ms']:g} ms", justify="right")
    for row in rows:
        sizes = [row[f"{name}_bytes"] for name in ("payload", "application", "transport", "wire")]
        cells = [*map(_count, sizes), _percent(row["efficiency"]), f"{row['ratio']:.3g}", _seconds(row["round_s"])]
        table.add_row(row["codec"], row["direction"], *cells, *([_seconds(row["link_round_s"])] if link else []))
    return table


def _squeezed(rows: Sequence[Row]) -> Table:
    table = _table("one update of real training", "packing", "of an epoch", "unpacking", "error", "theory")
    told = set()
    for row in rows:
        if row["nmse"] is not None and row["codec"] not in told:
            told.add(row["codec"])
            share = row["encode_s"] / row["epoch_s"]
            errors = [_error(row[key]) for key in ("nmse", "nmse_theory")]
            table.add_row(
                row["codec"], "", _seconds(row["encode_s"]), _percent(share), _seconds(row["decode_s"]), *errors
            )
    return table


def _learned(rows: Sequence[Row]) -> Table:
    first = rows[0]
    title = f"{first['dataset']}: accuracy after {first['rounds']} rounds, {first['seeds']} seeds; bytes per node"
    table = _table(title, "accuracy", "lost", "to 95 %", "", "to 99 %", "", "99 % of gain", "")
    for row in rows:
        cells = [_spread(row, "accuracy"), _spread(row, "accuracy_lost")]
        for name in ("to_95", "to_99", "to_99_of_gain"):
            costs = row["targets"][name]
            there = costs["rounds"] is not None
            cells.append(f"{costs['rounds']:g} rounds" if there else f"{costs['reached']} of {row['seeds']}")
            cells.append(_count(costs["application"]))
        table.add_row(row["codec"], row["direction"], *cells)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=None, pad_edge=False, header_style="dim", title_justify="left")
    table.add_column("codec")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _count(value: float | None) -> str:
    return "-" if value is None else size(value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def _spread(row: Row, key: str) -> str:
    spread = "" if row[f"{key}_std"] is None else f" ± {100 * row[f'{key}_std']:.2f}"
    return f"{100 * row[key]:.2f}{spread} %"
