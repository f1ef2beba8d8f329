"""One end of a federation: `fedmq serve` and `fedmq join`."""

from pathlib import Path
from typing import Annotated

import typer

from fedmq_nodes.commands.options import Json, Level, Metrics, Set, UntilEof

app = typer.Typer()


@app.command("serve", rich_help_panel="Run")
def serve(
    file: Annotated[Path, typer.Argument(help=r"federation.toml, or a fleet file with a \[federation] table.")],
    overrides: Set = None,
    metrics: Metrics = None,
    dashboard: Annotated[
        str | None,
        typer.Option(metavar=r"[HOST:]PORT", help="Serve a live page there, for browsers; this machine unless told."),
    ] = None,
    until_eof: UntilEof = False,
    log_level: Level = "info",
    json: Json = False,
) -> None:
    """Run the aggregator of a federation, from where its run folder left off, until it has finished or Ctrl-C.

    Example: fedmq serve federation.toml --set rounds.preset=quorum
    """
    import asyncio

    from fedmq import observe, show
    from fedmq_nodes import fleetfile, lifeline
    from fedmq_nodes.wiring import serve_federation

    if until_eof:
        lifeline.hold()
    observe.configure(log_level)
    shown = [f'see.{key}="{place}"' for key, place in (("metrics", metrics), ("page", dashboard)) if place is not None]
    federation = fleetfile.federation(file, [*(overrides or []), *shown])

    def listening(urls: dict[str, str]) -> None:
        if json:
            show.json_line({**urls, "run": str(federation.run)})
            return
        text = f"{federation.federation} listens at {urls.pop('listening')}, its run folder is {federation.run}"
        typer.echo("\n".join([text, *(f"{what} at {url}" for what, url in urls.items())]), err=True)

    done = asyncio.run(serve_federation(federation, str(file), listening))
    if done.reason == "interrupted":
        raise KeyboardInterrupt


@app.command("join", rich_help_panel="Run")
def join(
    context: typer.Context,
    address: Annotated[
        str,
        typer.Argument(
            help="Where the aggregator listens, such as tcp://10.0.0.5:5600, or the broker, mqtts://host; or a "
            "file that says it, node.toml, to whose settings options here are preferred."
        ),
    ],
    data: Annotated[Path | None, typer.Option(help="Folder with a folder of images per class.")] = None,
    features: Annotated[Path | None, typer.Option(help="File with features of the bundle's encoder.")] = None,
    where: Annotated[list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Only these rows of them.")] = None,
    part: Annotated[str, typer.Option(metavar="K/N", help="Only the k-th of n equal parts of the features.")] = "1/1",
    bundle: Annotated[str, typer.Option(help="Embedded bundle, or folder, that the federation uses.")] = "tiny",
    name: Annotated[str | None, typer.Option(help="This node's name; default: this host and what it works on.")] = None,
    federation: Annotated[str, typer.Option(help="Join only a federation of this name.")] = "",
    cache: Annotated[Path | None, typer.Option(help="Folder of encoded features.")] = None,
    state: Annotated[Path | None, typer.Option(help="Folder of what it must not lose: an unsent update.")] = None,
    device: Annotated[str, typer.Option(help="What the encoder runs on: auto, cpu, cuda, tensorrt.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Cores to use.")] = None,
    test_share: Annotated[float, typer.Option(help="Share of the examples held back for evaluation.")] = 0.2,
    train: Annotated[bool, typer.Option(help="Train; with --no-train only evaluate, on all examples.")] = True,
    examples_per_s: Annotated[float, typer.Option(help="Pretend to be a device that trains no faster.")] = 0.0,
    key: Annotated[Path | None, typer.Option(help="This node's .key_secret, for an encrypted link.")] = None,
    aggregator_key: Annotated[Path | None, typer.Option(help="The aggregator's .key, for an encrypted link.")] = None,
    user: Annotated[str | None, typer.Option(help="Who this node is to a broker; default its name.")] = None,
    password: Annotated[Path | None, typer.Option(help="File with its password there.")] = None,
    ca: Annotated[Path | None, typer.Option(help="Certificates that the broker's must descend from.")] = None,
    cert: Annotated[Path | None, typer.Option(help="This node's certificate, for a broker that asks for one.")] = None,
    cert_key: Annotated[Path | None, typer.Option(help="The key of that certificate.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Send everything in the clear, also off this machine.")
    ] = False,
    metrics: Metrics = None,
    cache_bytes: Annotated[int, typer.Option(help="The most that encoded features may take; 0 is no bound.")] = 0,
    batch: Annotated[int | None, typer.Option(help="Images encoded at once; fewer need less memory.")] = None,
    arrivals_s: Annotated[
        float, typer.Option(help="Look for new data before a local run, at most so often; 0 never.")
    ] = 0.0,
    hours: Annotated[str | None, typer.Option(metavar="HH:MM-HH:MM", help="Train only then, in local time.")] = None,
    when: Annotated[str | None, typer.Option(metavar="COMMAND", help="Train only while this ends with code 0.")] = None,
    nice: Annotated[int, typer.Option(help="How far all else on this device comes first, up to 19.")] = 0,
    until_eof: UntilEof = False,
    log_level: Level = "info",
    json: Json = False,
) -> None:
    """Take part in a federation with the images, or the features, of this device.

    Example: fedmq join tcp://10.0.0.5:5600 --data photos/
    """
    import asyncio

    from fedmq import show
    from fedmq.config import parse
    from fedmq_nodes import lifeline, logs, nodefile, progress
    from fedmq_nodes.options import NodeOptions, default_name
    from fedmq_nodes.wiring import join_federation

    if until_eof:
        lifeline.hold()
    logs.configure(log_level)
    given = {
        "name": name,
        "data": data,
        "features": features,
        "where": dict(pair.partition("=")[::2] for pair in where or []),
        "part": part,
        "bundle": bundle,
        "cache": cache,
        "state": state,
        "device": device,
        "threads": threads,
        "test_share": test_share,
        "train": train,
        "examples_per_s": examples_per_s,
        "key": key,
        "aggregator_key": aggregator_key,
        "user": user,
        "password": password,
        "ca": ca,
        "cert": cert,
        "cert_key": cert_key,
        "metrics": metrics,
        "cache_bytes": cache_bytes,
        "batch": batch,
        "arrivals_s": arrivals_s,
        "hours": hours,
        "when": when,
        "nice": nice,
    }
    if nodefile.is_one(address):
        typed = {key: value for key, value in given.items() if is_typed(context, key)}
        found = nodefile.read(Path(address), typed)
        address, federation, options = found.address, federation or found.federation, found.node
        insecure = insecure or found.insecure
    else:
        given["name"] = name or default_name(data or features or Path("node"))
        options = parse(NodeOptions, given, "fedmq join")
    with progress.bar("encoding images") as report:
        done = asyncio.run(join_federation(address, federation, options, insecure, report))
    if done.reason == "interrupted":
        raise KeyboardInterrupt
    if json:
        show.json_line({"node": options.name, "reason": done.reason, "text": done.text})
    else:
        typer.echo(done.text)


def is_typed(context: typer.Context, option: str) -> bool:
    """Whether an option stands on the command line, and is no default."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"
