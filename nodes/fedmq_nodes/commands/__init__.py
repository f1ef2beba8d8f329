"""The commands that need both the federation core and the neural parts."""

import typer

from fedmq_nodes.commands import ends, fleets, prepare, use

app = typer.Typer()
for part in (ends, fleets, use, prepare):
    app.registered_commands += part.app.registered_commands
