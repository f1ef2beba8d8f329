"""A comparison as a Markdown table: medians over seeds (quartiles) per scenario and policy, what to choose bold."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fedmq.show import size
from fedmq_bench.scenario.advise import advise
from fedmq_bench.scenario.compare import FAST, Summary, summaries

Form = Callable[[float], str]
HEADINGS = (
    "scenario",
    "policy",
    "to 99 % of sync",
    "times as fast",
    "bytes",
    "not there",
    "fewest updates of a node",
    "stragglers",
    "points behind sync",
    "longest round",
)


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the table of the newest row of each scenario, policy and seed; what is advised is bold."""
    newest = {(row["preset"], row["engine"], row["policy"], row["seed"]): row for row in rows}
    by_preset: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for (preset, engine, _, _), row in newest.items():
        by_preset.setdefault((preset, engine), []).append(row)
    lines = [_cells(HEADINGS), _cells("---" for _ in HEADINGS)]
    for (preset, engine), found in by_preset.items():
        lines += _of(f"{preset}, {found[0]['nodes']} nodes{'' if engine == 'sim' else ', for real'}", found)
    return "\n".join(lines)


def _of(name: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    found = summaries(rows)
    chosen = advise(found).policy
    for number, one in enumerate(found):
        policy = f"**{one.policy}**" if one.policy == chosen else one.policy
        yield _cells(("" if number else f"{name}, {one.seeds} seeds", policy, *_figures(one)))


def _figures(one: Summary) -> Iterator[str]:
    yield _median(one, "time_to_99_s", lambda value: f"{value:.0f} s")
    yield _quartiles(one, FAST, lambda value: f"{value:.1f}")
    yield _median(one, "bytes_to_99", size)
    yield f"{one.seeds - one.finished} of {one.seeds}"
    yield _median(one, "participation_min", lambda value: f"{value:.0f}")
    yield _median(one, "straggler_accuracy", lambda value: f"{value:.1%}")
    yield _quartiles(one, "straggler_gap", lambda value: f"{100 * value:.1f}")
    yield _median(one, "round_max_s", lambda value: f"{value:.1f} s")


def _median(one: Summary, key: str, form: Form) -> str:
    found = one.median(key)
    return "-" if found is None else form(found)


def _quartiles(one: Summary, key: str, form: Form) -> str:
    low, middle, high = ("-" if value is None else form(value) for value in one.values.get(key, (None,) * 3))
    return middle if low == high else f"{middle} ({low} to {high})"


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
