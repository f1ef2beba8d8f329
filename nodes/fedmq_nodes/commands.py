"""The commands that need both the federation core and the neural parts."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of text for a person.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as rounds.goal=4.")
]
Metrics = Annotated[
    str | None, typer.Option(metavar="[HOST:]PORT", help="Serve Prometheus metrics there; this machine unless told.")
]
Level = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")]
UntilEof = Annotated[
    bool, typer.Option("--until-eof", help="Stop when standard input ends: with whoever started this, and holds it.")
]


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


def is_typed(context: typer.Context, option: str) -> bool:
    """Whether an option stands on the command line, and is no default."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


Run = Annotated[Path, typer.Argument(help="The run's folder.")]
Version = Annotated[int | None, typer.Option(help="Which version; default the newest.")]
Bundle = Annotated[str | None, typer.Option(help="Where the run's bundle lies now, if it was moved.")]
Personal = Annotated[
    Path | None, typer.Option(help="Folder of one node's state, to use the part that it keeps to itself as well.")
]


@app.command("eval", rich_help_panel="Use")
def evaluate(
    run: Run,
    data: Annotated[Path | None, typer.Option(help="Folder with a folder of images per class.")] = None,
    features: Annotated[Path | None, typer.Option(help="File with features of the bundle's encoder.")] = None,
    where: Annotated[list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Only these rows of them.")] = None,
    version: Version = None,
    bundle: Bundle = None,
    personal: Personal = None,
    device: Annotated[str, typer.Option(help="What the encoder runs on: auto, cpu, cuda, tensorrt.")] = "auto",
    own_head: Annotated[
        bool, typer.Option("--own-head", help="Also with a head of these data's own; measured on their test split.")
    ] = False,
    save: Annotated[str | None, typer.Option(metavar="NAME", help="Show it under this name in the report.")] = None,
    json: Json = False,
) -> None:
    """Measure a version of a run on data of your own, beside the frozen model.

    Example: fedmq eval runs/pacs --data photos/
    """
    from fedmq import show
    from fedmq.config import parse
    from fedmq_nodes import logs, progress, tell, use
    from fedmq_nodes.options import NodeOptions

    logs.configure("warning")
    learned = use.Learned.of(run, version, bundle, personal)
    columns = dict(pair.partition("=")[::2] for pair in where or [])
    given = {"name": "eval", "data": data, "features": features, "where": columns, "device": device}
    options = parse(NodeOptions, given, "fedmq eval")
    with progress.bar("encoding images") as report:
        source = options.source(learned.bundle)
        if own_head:
            found = use.with_own_head(learned, source, options.split(), report)
        else:
            found = use.evaluate(learned, source, report)
    if save:
        use.note(run, save, found)
    if json:
        show.json_line(found)
    else:
        (tell.own_head if own_head else tell.evaluation)(found)


@app.command("classify", rich_help_panel="Use")
def classify(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    run: Annotated[Path, typer.Option(help="The run's folder.")] = Path("run"),
    most: Annotated[int, typer.Option("--most", min=1, help="How many labels per image.")] = 3,
    version: Version = None,
    bundle: Bundle = None,
    personal: Personal = None,
    device: Annotated[str, typer.Option(help="What the encoder runs on: auto, cpu, cuda, tensorrt.")] = "auto",
    json: Json = False,
) -> None:
    """Say what is on images, with the newest version of a run; exit code 3 if one of them cannot be read.

    Example: fedmq classify --run runs/pacs dog.jpg cat.jpg
    """
    from fedmq import show
    from fedmq.errors import EXIT_INPUT
    from fedmq_nodes import logs, tell, use

    logs.configure("warning")
    learned = use.Learned.of(run, version, bundle, personal)
    failed = False
    for found in use.classify(learned, images, device, most):
        failed = failed or "error" in found
        show.json_line(found) if json else tell.labels(found)
    if failed:
        raise typer.Exit(EXIT_INPUT)


@app.command("export-adapted", rich_help_panel="Use")
def export_adapted(
    run: Run,
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")] = Path("adapted.onnx"),
    version: Version = None,
    bundle: Bundle = None,
    personal: Personal = None,
    json: Json = False,
) -> None:
    """Write a version of a run as one ONNX file, pixels to class logits, that plain onnxruntime runs.

    Example: fedmq export-adapted runs/pacs --out pacs.onnx
    """
    from fedmq import show
    from fedmq_nodes import use

    learned = use.Learned.of(run, version, bundle, personal)
    file = str(learned.export(out))
    if json:
        show.json_line({"version": learned.version, "file": file})
    else:
        typer.echo(f"version {learned.version} is in {file}")


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
