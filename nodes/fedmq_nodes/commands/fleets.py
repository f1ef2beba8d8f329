"""Both ends on this machine, as processes: `fedmq up` and `fedmq demo`."""

from pathlib import Path
from typing import Annotated

import typer

from fedmq_nodes.commands.options import Json, Set

app = typer.Typer()


@app.command("up", rich_help_panel="Run")
def up(
    file: Annotated[Path, typer.Argument(help=r"fleet.toml: \[federation], \[defaults] and \[\[nodes]].")],
    hold_out: Annotated[
        str | None, typer.Option(metavar="NODE|each", help="Only evaluate on this node, or on each in turn.")
    ] = None,
    overrides: Set = None,
    json: Json = False,
) -> None:
    """Run an aggregator and its nodes as processes on this machine, to the end, and say what came of it.

    Example: fedmq up fleet.toml --hold-out each
    """
    import asyncio

    from fedmq import show
    from fedmq_nodes import fleetfile, tell
    from fedmq_nodes import up as ups
    from fedmq_nodes.live import View

    fleet = fleetfile.read(file, overrides or [])
    names = [node.name for node in fleet.nodes] if hold_out == "each" else [hold_out]
    summaries = []
    for name in names:
        chosen, more = (fleet, []) if name is None else ups.held_out(fleet, name)
        with View() as view:
            summary = asyncio.run(ups.run(chosen, file, [*(overrides or []), *more], view))
        summaries.append(summary if name is None else {"held_out": name, **summary})
    if json:
        for summary in summaries:
            show.json_line(summary)
    else:
        tell.summaries(summaries)


@app.command("demo", rich_help_panel="Run")
def demo(
    folder: Annotated[Path | None, typer.Option(help="A new folder; default the next free runs/demo-N.")] = None,
    json: Json = False,
) -> None:
    """Run a federation of six nodes on drawn images in under a minute, with a straggler and a SIGKILL, and report it.

    Example: fedmq demo
    """
    from fedmq import show
    from fedmq.errors import ConfigInvalid
    from fedmq_nodes import demo as demos
    from fedmq_nodes import tell

    chosen = folder or next(path for n in range(1, 10_000) if not (path := Path("runs") / f"demo-{n}").exists())
    if chosen.exists():
        raise ConfigInvalid(f"{chosen} exists already; the demo begins in a new folder")
    found = demos.run(chosen, quiet=json)
    show.json_line(found) if json else tell.demo(found)
