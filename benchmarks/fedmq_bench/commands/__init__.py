"""The commands that measure, a file for each thing that is measured, and those of what was kept."""

import typer

from fedmq_bench.commands import device, endurance, kept, learning, rounds, tools
from fedmq_bench.scenario.commands import scenario

app = typer.Typer()
bench = typer.Typer(
    no_args_is_help=True,
    help="Measure fedmq on this machine, always beside something to compare with.",
)
for part in (rounds, device, endurance, learning, tools, kept):
    bench.registered_commands += part.app.registered_commands
app.add_typer(bench, name="bench", rich_help_panel="Measure")
app.add_typer(scenario, name="scenario", rich_help_panel="Measure")
