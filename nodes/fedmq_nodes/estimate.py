"""The estimate that a person reads: what a federation file will cost, for several numbers of nodes."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fedmq import config
from fedmq.config import Federation, parse
from fedmq.forecast import Assumed, Forecast, Forecaster
from fedmq.show import size
from fedmq_models import bundle as bundles
from fedmq_models.training import Training
from fedmq_nodes import fleetfile, pool, task


def nodes_of(file: Path, overrides: Sequence[str]) -> int:
    """Return how many nodes a fleet file has, or how many a federation file waits for."""
    if "nodes" in config.read(file):
        return len(fleetfile.read(file, overrides).nodes)
    return fleetfile.federation(file, overrides).start_nodes


def estimate(federation: Federation, where: str, counts: Sequence[int], assumed: Assumed) -> list[Forecast]:
    """Return one forecast per number of nodes; where is what to call the settings in an error."""
    training = parse(Training, federation.task, where, "task.")
    task.require_agreed(training, federation.codec.up, where)
    bundle = bundles.load(federation.bundle)
    job = task.job(bundle, training, pool=pool.published(training, bundle))
    federation.require_room(job.params.schema)
    forecaster = Forecaster(federation, job, assumed)
    return [forecaster.of(count) for count in counts]


def as_json(found: Forecast) -> dict[str, Any]:
    """Return a forecast as scripts read it."""
    return asdict(found) | {"rounds_per_day": found.rounds_per_day, "per_day": _per_day(found)}


def show(federation: Federation, found: Sequence[Forecast], assumed: Assumed) -> None:
    """Print a column per number of nodes."""
    console, day = Console(), [_per_day(one) for one in found]
    title = f"{federation.federation}: updates as {federation.codec.up}, versions as {federation.codec.down}"
    table = Table("", *(f"{one.nodes:,} nodes" for one in found), title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for words, direction in (("up", "node_up"), ("down", "node_down")):
        for layer in ("goodput", "application", "transport", "wire"):
            values = [getattr(getattr(one, direction), layer) for one in found]
            table.add_row(f"per node and round, {words}: {layer}", *map(_size, values))
    table.add_section()
    table.add_row("once per node: application", *(_size(one.join.application) for one in found))
    table.add_row("updates per round", *(f"{one.updates:,}" for one in found))
    table.add_row("per round, up: application", *(_size(one.up.application) for one in found))
    table.add_row("per round, down: application", *(_size(one.down.application) for one in found))
    table.add_section()
    table.add_row("time per round", *(_seconds(one.round_s) for one in found))
    table.add_row(
        "rounds per day", *("-" if one.rounds_per_day is None else f"{one.rounds_per_day:,.0f}" for one in found)
    )
    table.add_row("per day, up: application", *(_size(one["up"] if one else None) for one in day))
    table.add_row("per day, down: application", *(_size(one["down"] if one else None) for one in day))
    table.add_row("memory of the aggregator", *(_size(one.memory_bytes) for one in found))
    console.print(table)
    console.print(_assumptions(assumed), highlight=False, soft_wrap=True)
    for warning in dict.fromkeys(warning for one in found for warning in one.warnings):
        console.print(warning, style="yellow", highlight=False, soft_wrap=True)


def _per_day(found: Forecast) -> dict[str, float] | None:
    """Return the bytes of a day as the aggregator sees them, application layer; None if rounds take no known time."""
    rounds = found.rounds_per_day
    return None if rounds is None else {"up": rounds * found.up.application, "down": rounds * found.down.application}


def _assumptions(assumed: Assumed) -> str:
    link = assumed.link
    over = "bytes that take no time" if link is None else f"links of {link.mbps:g} Mbit/s and {link.rtt_ms:g} ms"
    pace = "" if assumed.interval_s is None else f", a round every {assumed.interval_s:g} s at most"
    return f"assumed: {assumed.train_s:g} s of training, {over}{pace}; all nodes there, and none late"


def _size(value: float | None) -> str:
    return "-" if value is None else size(value)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} s"
