"""Telling: what a person reads at the end of a run."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedmq.show import CAUTION, size
from fedmq_nodes.doctor import FAILED, OK, WARNING, Finding

Summary = dict[str, Any]


def summaries(found: Sequence[Summary]) -> None:
    """Print what came of one run, or of several of which each held out another node."""
    console = Console()
    if "held_out" in found[0]:
        console.print(_held_out_table(found))
    for summary in found:
        if "held_out" not in summary:
            console.print(_accuracy_table(summary))
        caution(summary)
        if summary["stays"]:
            console.print(f"stays on each node: {summary['stays']}", highlight=False, soft_wrap=True)
        console.print(_cost(summary), highlight=False, soft_wrap=True)


def caution(found: Summary) -> None:
    """Print what the figures above must be read with, if anything."""
    if found["caveat"]:
        Console().print(found["caveat"], style=CAUTION, highlight=False, soft_wrap=True)


def demo(found: Summary) -> None:
    """Print what the demo showed."""
    table = Table("domain", "zero-shot", "federated", "points", title="accuracy on images that no node has seen")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = [*found["per_domain"].items(), ("mean", {key: found[key] for key in ("zero_shot", "federated")})]
    for name, row in rows:
        if name == "mean":
            table.add_section()
        points = f"{100 * (row['federated'] - row['zero_shot']):+.1f}"
        table.add_row(name, percent(row["zero_shot"]), percent(row["federated"]), points)
    console = Console()
    console.print(table)
    console.print(_cost(found), highlight=False, soft_wrap=True)
    console.print(f"the report is in {found['report']}", highlight=False, soft_wrap=True)


def evaluation(found: Summary) -> None:
    """Print the accuracy of a version on other data, in all and per class."""
    table = Table("class", "images", "zero-shot", "federated", title=f"accuracy of version {found['version']}")
    for column in table.columns[1:]:
        column.justify = "right"
    for label, row in found["classes"].items():
        table.add_row(label, str(row["examples"]), percent(row["zero_shot"]), percent(row["federated"]))
    table.add_section()
    table.add_row("all", str(found["examples"]), percent(found["zero_shot"]), percent(found["federated"]))
    Console().print(table)
    caution(found)
    for path, why in found["skipped"].items():
        Console(stderr=True).print(f"skipped {path}: {why}", style="yellow", highlight=False, soft_wrap=True)


def own_head(found: Summary) -> None:
    """Print the accuracy of a version on a test split, and that with a head of the data's own beside it."""
    table = Table("images", "zero-shot", "federated", "personal", title=f"accuracy of version {found['version']}")
    shares = [percent(found[key]) for key in ("zero_shot", "federated", "personal")]
    table.add_row(str(found["examples"]), *shares)
    Console().print(table)


def labels(found: Summary) -> None:
    """Print what is on one image."""
    if "error" in found:
        Console(stderr=True).print(f"{found['image']}: {found['error']}", style="red", highlight=False, soft_wrap=True)
        return
    ranked = "  ".join(f"{one['label']} {one['probability']:.1%}" for one in found["labels"])
    Console().print(f"{found['image']}: {ranked}", highlight=False, soft_wrap=True)


def finding(found: Finding) -> None:
    """Print one thing that the doctor looked at."""
    colour = {OK: "green", WARNING: "yellow", FAILED: "red"}[found.state]
    line = Text.assemble((f"{found.state:8}", colour), f"{found.what:12}", found.text)
    Console().print(line, soft_wrap=True)


def percent(value: float | None) -> str:
    """Return a share as a percentage."""
    return "-" if value is None else f"{value:.1%}"


def _accuracy_table(summary: Summary) -> Table:
    keys = ["zero_shot", "federated", *([] if summary["personal"] is None else ["personal"])]
    names = [key.replace("_", "-") for key in keys]
    table = Table("node", "tests", *names, title=f"accuracy at version {summary['versions']}")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in summary["nodes"]:
        note = "" if row["trains"] else " (held out)"
        table.add_row(row["node"] + note, str(row["tests"]), *(percent(row[key]) for key in keys))
    table.add_section()
    table.add_row("mean", "", *(percent(summary[key]) for key in keys))
    return table


def _held_out_table(found: Sequence[Summary]) -> Table:
    """Per held-out node: the others' own test splits, and the held-out node's whole data, before and after."""
    keys = ["zero_shot", "federated"]
    own = [] if all(summary["personal"] is None for summary in found) else ["personal"]
    table = Table(title="participants on their own test split; held out on all of its data")
    for name in ("held out", "participants zero-shot", "federated", *own, "held out zero-shot", "federated"):
        table.add_column(name, justify="left" if name == "held out" else "right")
    rows = []
    for summary in found:
        takes_part = [row for row in summary["nodes"] if row["trains"]]
        apart = [row for row in summary["nodes"] if row["node"] == summary["held_out"]]
        rows.append([_mean(takes_part, key) for key in keys + own] + [_mean(apart, key) for key in keys])
        table.add_row(summary["held_out"], *map(percent, rows[-1]))
    table.add_section()
    columns = [[value for value in column if value is not None] for column in zip(*rows, strict=True)]
    table.add_row("mean", *(percent(mean(column) if column else None) for column in columns))
    return table


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return mean(values) if values else None


def _cost(summary: Summary) -> str:
    updates, traffic, seconds = summary["updates"], summary["bytes"], summary["round_s"]
    refused = ", ".join(f"{count} {code}" for code, count in updates["by_code"].items() if code != "accepted")
    ratio = traffic["fp32_per_update"] / max(1, traffic["up_per_update"])
    lines = [
        f"{summary['versions']} versions in {summary['seconds']:.1f} s, a round took {seconds['p50']} s (p50), "
        f"{seconds['p95']} s (p95)",
        f"{updates['accepted']} updates accepted, {updates['refused']} refused{f' ({refused})' if refused else ''}, "
        f"{updates['lost']} lost, {updates['duplicated']} duplicated",
        f"{size(traffic['up_per_update'])} per accepted update on the way up, {ratio:.1f} times less than fp32 "
        f"({size(traffic['fp32_per_update'])}); {size(traffic['down_per_update'])} on the way down (application layer)",
        f"its record is in {summary['run']}",
    ]
    lines += [f"node {name} failed: {words}" for name, words in summary["failed"].items()]
    return "\n".join(lines)
