"""The page of a comparison: what to choose and why, figures and plots, as one HTML file that needs no network."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from fedmq.report import page
from fedmq.show import size
from fedmq_bench import report
from fedmq_bench.scenario import plots
from fedmq_bench.scenario.advise import Advice
from fedmq_bench.scenario.compare import Summary
from fedmq_bench.scenario.policies import SYNC

Row = Mapping[str, Any]
LONGEST_S, ROUNDS = 600.0, 8  # of a timeline, and about as many synchronous rounds are in it


def write(
    rows: Sequence[Row],
    found: Sequence[Summary],
    advice: Advice,
    recipe: Sequence[str],
    describe: str,
    context: Row,
    out: Path,
) -> Path:
    """Write the page, whole or not at all, and return where it is.

    rows        of the runs
    recipe      what is advised, as lines of a federation file
    context     what they were measured on
    """
    loader = ChoiceLoader([PackageLoader("fedmq_bench.scenario"), PackageLoader("fedmq.report")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"count": _count, "filter_by": lambda value, how: FORMS[how](value)}
    trained = [row for row in rows if row["curve"]]
    html = environment.get_template("comparison.html").render(
        first=rows[0],
        describe=describe,
        summaries=found,
        advice=advice,
        recipe=recipe,
        trained=bool(trained),
        place=report.place(context),
        command=context["command"],
        plots={
            "time": plots.curves(trained, "at") if trained else "",
            "bytes": plots.curves(trained, "bytes") if trained else "",
            "staleness": plots.staleness(found),
            "participation": plots.participation(rows),
            "timelines": _timelines(rows, advice.policy),
        },
    )
    return page.publish(html, out)


def _timelines(rows: Sequence[Row], chosen: str | None) -> list[str]:
    """Return who trained when, under sync and under the policy to choose, over the same time."""
    first = {row["policy"]: row for row in reversed(rows)}
    sync = first.get(SYNC, rows[0])
    until_s = min(LONGEST_S, sync["ended_s"], max(1.0, ROUNDS * sync["round_s"]["p50"]))
    others = [policy for policy in (chosen or "quorum",) if policy in first and policy != SYNC]
    return [plots.timeline(row, until_s) for row in (sync, *(first[policy] for policy in others))]


def _seconds(value: float) -> str:
    return f"{value:,.0f} s" if value >= 100 else f"{value:.1f} s"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _told(form: Callable[[float], str]) -> Callable[[float | None], str]:
    return lambda value: "-" if value is None else form(value)


FORMS: Mapping[str, Callable[[float | None], str]] = {
    "percent": _told(lambda value: f"{value:.1%}"),
    "seconds": _told(_seconds),
    "count": _told(_count),
    "size": _told(size),
    "times": _told(lambda value: f"{value:.1f}"),
    "two": _told(lambda value: f"{value:.2f}"),
}
