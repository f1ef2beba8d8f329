"""Before a federation starts: `fedmq estimate`, `broker-config`, `provision` and `doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from fedmq_nodes.commands.options import Json, Set

app = typer.Typer()


@app.command("estimate", rich_help_panel="Prepare")
def estimate(
    file: Annotated[Path, typer.Argument(help="A federation file, or a fleet file.")],
    nodes: Annotated[str | None, typer.Option(help="Numbers of nodes, such as 4,20,100; default those of it.")] = None,
    link_mbps: Annotated[float | None, typer.Option(min=0.001, help="Each node's link, in Mbit/s both ways.")] = None,
    rtt_ms: Annotated[float, typer.Option(min=0.0, help="Round trip of that link.")] = 0.0,
    train_s: Annotated[float, typer.Option(min=0.0, help="How long a node trains per update.")] = 5.0,
    interval_s: Annotated[float | None, typer.Option(min=0.001, help="Rounds come no faster than this.")] = None,
    overrides: Set = None,
    json: Json = False,
) -> None:
    """Say what a federation will cost before anyone starts: bytes per round and day, time per round, memory.

    Example: fedmq estimate federation.toml --nodes 20,100 --link-mbps 1 --rtt-ms 50
    """
    from fedmq import config, show
    from fedmq.forecast import Assumed, Link
    from fedmq_nodes import estimate as estimates
    from fedmq_nodes import fleetfile

    federation = fleetfile.federation(file, overrides or [])
    counts = config.counts("--nodes", nodes, "4,20,100") if nodes else [estimates.nodes_of(file, overrides or [])]
    assumed = Assumed(
        train_s=train_s,
        interval_s=interval_s,
        link=None if link_mbps is None else Link(link_mbps, rtt_ms),
        curve=federation.link.secure,
        broker=config.is_broker(federation.link.address),
    )
    found = estimates.estimate(federation, str(file), counts, assumed)
    if json:
        for one in found:
            show.json_line(estimates.as_json(one))
    else:
        estimates.show(federation, found, assumed)


@app.command("broker-config", rich_help_panel="Prepare")
def broker_config(
    file: Annotated[Path, typer.Argument(help="A federation file, or a fleet file, whose nodes are then let in.")],
    nodes: Annotated[str, typer.Option(metavar="A,B,C", help="Names of the nodes to let in.")] = "",
    out: Annotated[Path, typer.Option(help="The folder to write to; passwords that lie there are kept.")] = Path(
        "broker"
    ),
    overrides: Set = None,
) -> None:
    """Write what a Mosquitto needs to serve a federation: configuration, passwords, and who may say and hear what.

    Example: fedmq broker-config federation.toml --nodes edge-1,edge-2
    """
    import secrets

    from fedmq import config, mosquitto
    from fedmq_nodes import fleetfile

    names = [name.strip() for name in nodes.split(",") if name.strip()]
    if "nodes" in config.read(file):
        fleet = fleetfile.read(file, overrides or [])
        federation = fleet.federation
        names += [node.name for node in fleet.nodes if node.name not in names]
    else:
        federation = fleetfile.federation(file, overrides or [])
    path = mosquitto.write(out, federation, names, secrets.token_bytes)
    typer.echo(f"{path}\n\n{path.read_text()}\n{(path.parent / 'access').read_text()}")
    typer.echo(f"start it with: mosquitto -c {path}\npasswords, each for its own machine: {path.parent / 'secrets'}")


@app.command("provision", rich_help_panel="Prepare")
def provision(
    file: Annotated[Path, typer.Argument(help=r"fleet.toml: \[federation], \[defaults] and \[\[nodes]].")],
    out: Annotated[Path, typer.Option(help="The folder to write to; what lies there is kept.")] = Path("fleet"),
    with_keys: Annotated[
        bool,
        typer.Option("--with-keys", help="Make the nodes' keys here too, and put each in what is sent to it."),
    ] = False,
    broker_at: Annotated[
        Path | None, typer.Option(help="Where the broker will find its folder, if elsewhere, as in a container.")
    ] = None,
    overrides: Set = None,
    json: Json = False,
) -> None:
    """Make of one fleet file what each machine needs: keys, the broker's files, a folder per node, and what to type.

    Example: fedmq provision fleet.toml --out fleet
    """
    import secrets

    from fedmq import show
    from fedmq_nodes import provision as provisions

    done = provisions.provision(file, overrides or [], out, with_keys, broker_at, secrets.token_bytes)
    if json:
        show.json_line(done.as_json())
    else:
        typer.echo(done.text)


@app.command("doctor", rich_help_panel="Prepare")
def doctor(
    file: Annotated[Path | None, typer.Argument(help="Also look at what this federation or fleet file needs.")] = None,
    bundle: Annotated[str, typer.Option(help="The bundle to look at, where no file is given.")] = "tiny",
    broker: Annotated[str | None, typer.Option(metavar="HOST[:PORT]", help="An MQTT broker to knock at.")] = None,
    json: Json = False,
) -> None:
    """Look for what would keep fedmq from working here; exit code 1 if something would.

    Example: fedmq doctor federation.toml
    """
    from fedmq import show
    from fedmq.errors import EXIT_FAILED
    from fedmq_nodes import doctor as doctors
    from fedmq_nodes import fleetfile, tell

    federation = fleetfile.federation(file, []) if file else None
    failed = False
    for finding in doctors.examine(federation, bundle, broker):
        failed = failed or finding.state == doctors.FAILED
        show.json_line(finding.as_json()) if json else tell.finding(finding)
    if failed:
        raise typer.Exit(EXIT_FAILED)
