"""The commands of the federation core: ask a run how it stands, and make keys."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
keys_app = typer.Typer(help="Make, enrol, list and revoke the keys of encrypted links.", no_args_is_help=True)
app.add_typer(keys_app, name="keys", rich_help_panel="Prepare")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of text for a person.")]

Folder = Annotated[Path, typer.Option(help="The aggregator's folder of enrolled keys.")]


Running = Annotated[Path, typer.Argument(help="The run folder of a running aggregator.")]
States = Annotated[
    list[str] | None, typer.Option("--state", metavar="STATE", help="Only nodes in this state; several with commas.")
]
Nodes = Annotated[
    list[str] | None, typer.Option("--node", metavar="GLOB", help="Only nodes of such a name or id, as 'edge-*'.")
]
Stale = Annotated[
    int | None, typer.Option("--stale", metavar="N", min=1, help="Only nodes whose last update was so far behind.")
]


@app.command("status", rich_help_panel="Ask")
def status(run: Running, state: States = None, node: Nodes = None, stale: Stale = None, json: Json = False) -> None:
    """Say how a running federation stands: what it waits for, why, and where each node is.

    Example: fedmq status runs/pacs --state gone,training
    """
    from fedmq import control, show
    from fedmq.wanted import Wanted, words

    wanted = Wanted(words(state), words(node), stale)
    answer = wanted.of(control.ask(run))
    show.json_line(answer) if json else show.status(answer)


@app.command("watch", rich_help_panel="Ask")
def watch(
    run: Running,
    once: Annotated[bool, typer.Option("--once", help="Show it once, and end.")] = False,
    every_s: Annotated[float, typer.Option(min=0.1, help="How often to ask.")] = 1.0,
    state: States = None,
    node: Nodes = None,
    stale: Stale = None,
) -> None:
    """Look on while a federation runs: rounds, accuracy, bytes and nodes; lines where there is no terminal.

    Example: fedmq watch runs/pacs
    """
    from fedmq import watch as watching
    from fedmq.wanted import Wanted, words

    watching.watch(run, Wanted(words(state), words(node), stale), every_s, once)


@app.command("log", rich_help_panel="Ask")
def log(
    run: Annotated[Path, typer.Argument(help="The folder of a run, finished or not.")],
    node: Nodes = None,
    update: Annotated[
        str | None, typer.Option(metavar="NODE/SEQ", help="One update, and the version that it is in.")
    ] = None,
    verdict: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="Only updates with this verdict, as too_stale.")
    ] = None,
    version: Annotated[int | None, typer.Option(help="Only this version and the updates in it.")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many lines, the newest.")] = None,
    json: Json = False,
) -> None:
    """Say what happened in a run, from its ledger: each update and the version that it is in, versions, nodes.

    Example: fedmq log runs/pacs --node 'edge-*' --verdict too_stale
    """
    from fedmq import chronicle, lines, show
    from fedmq.record import LEDGER, Record
    from fedmq.wanted import Wanted, words

    asked = chronicle.Asked(Wanted(names=words(node)), update, words(verdict), version)
    with Record.open(run / LEDGER) as record:
        found = chronicle.lines(record, asked)
    for line in found[-(last or len(found)) :]:
        show.json_line(line) if json else typer.echo(lines.text(line))


@keys_app.command("new")
def keys_new(
    name: Annotated[str, typer.Argument(help="Whose key: aggregator, or the name of a node.")],
    folder: Annotated[Path, typer.Option(help="Where to write it.")] = Path("keys"),
) -> None:
    """Make a pair of keys. The secret half stays here; the public half is to be enrolled, or told to the nodes.

    Example: fedmq keys new edge-1
    """
    from fedmq import keys

    public = keys.new(folder, name)
    shown = keys.fingerprint(keys.load_public(public))
    typer.echo(f"secret  {public.with_suffix('.key_secret')}  (keep it here)\npublic  {public}  {shown}")


@keys_app.command("enrol")
def keys_enrol(
    public: Annotated[Path, typer.Argument(help="A node's public key, NAME.key.")],
    folder: Folder = Path("keys/enrolled"),
) -> None:
    """Let the node with this public key join; a running aggregator knows at once.

    Example: fedmq keys enrol edge-1.key
    """
    from fedmq import keys

    path = keys.enrol(public, folder)
    typer.echo(f"enrolled {path}  {keys.fingerprint(keys.load_public(path))}")


@keys_app.command("list")
def keys_list(folder: Folder = Path("keys/enrolled"), json: Json = False) -> None:
    """Say who may join, since when, and whose key was revoked or cannot be read.

    Example: fedmq keys list
    """
    from fedmq import enrolment, show

    found = enrolment.listing(folder)
    if json:
        for one in found:
            show.json_line(one.as_json())
    elif found:
        show.enrolments(found)
    else:
        typer.echo(f"nobody is enrolled in {folder}; fedmq keys enrol NAME.key lets a node in")


@keys_app.command("revoke")
def keys_revoke(
    who: Annotated[str, typer.Argument(help="A node's name as enrolled, its key, or the fingerprint of that.")],
    folder: Folder = Path("keys/enrolled"),
    json: Json = False,
) -> None:
    """Let a node in no longer; a running aggregator parts with it at once. Enrolling its key again undoes it.

    Example: fedmq keys revoke edge-1
    """
    from fedmq import enrolment, show

    found, changed = enrolment.revoke(who, folder)
    for one in found:
        if json:
            show.json_line({**one.as_json(), "changed": changed})
        else:
            typer.echo(f"{'revoked' if changed else 'was revoked already:'} {one.name}  {one.fingerprint}")


@app.command("report", rich_help_panel="Ask")
def report(
    run: Annotated[Path, typer.Argument(help="The folder of a run, finished or not.")],
    out: Annotated[Path | None, typer.Option(help="The file to write; default report.html in the folder.")] = None,
    json: Json = False,
) -> None:
    """Write a page with the accuracy, the time and the bytes of a run, that opens without a network.

    Example: fedmq report runs/pacs
    """
    from fedmq import show
    from fedmq.record import LEDGER, Record
    from fedmq.report import page
    from fedmq.summary import summarise

    path = page.write(run, run / LEDGER, out or run / "report.html")
    if json:
        with Record.open(run / LEDGER) as record:
            show.json_line(summarise(record) | {"report": str(path)})
    else:
        typer.echo(f"the report is in {path}")


@app.command("replay", rich_help_panel="Ask")
def replay(
    run: Annotated[Path, typer.Argument(help="The folder of a run, finished or not.")],
    json: Json = False,
) -> None:
    """Compute every version again from the ledger, and compare digests: 0 all the same, 1 one differs, 3 none can be.

    Example: fedmq replay runs/pacs
    """
    from fedmq import replay as replays
    from fedmq import show
    from fedmq.errors import EXIT_FAILED, EXIT_INPUT
    from fedmq.record import LEDGER, Record

    with Record.open(run / LEDGER) as record:
        found = show.replayed(replays.replay(record), len(record.versions()), json)
    if found[replays.Outcome.DIFFERS]:
        raise typer.Exit(EXIT_FAILED)
    if not found[replays.Outcome.SAME]:
        raise typer.Exit(EXIT_INPUT)


@app.command("forget", rich_help_panel="Run")
def forget(
    run: Annotated[Path, typer.Argument(help="The folder of a run of statistics that nobody serves.")],
    node: Annotated[str, typer.Argument(help="The node's name, or its id.")],
    undo: Annotated[bool, typer.Option("--undo", help="Let it contribute again; what was erased stays so.")] = False,
    json: Json = False,
) -> None:
    """Take a node's statistics out of a run: the head is then, to the bit, one solved without them.

    Example: fedmq forget runs/pacs edge-1
    """
    from dataclasses import asdict

    from fedmq import forget as forgetting
    from fedmq import show

    if undo:
        found = forgetting.allow(run, node)
        show.json_line({"node": found, "allowed": True}) if json else typer.echo(f"{found} may contribute again")
        return
    done = forgetting.forget(run, node)
    if json:
        show.json_line(asdict(done))
        return
    typer.echo(
        f"version {done.version} is of {done.nodes} nodes, without {done.node}; erased: {done.payloads} payloads, "
        f"{done.payload_bytes} bytes\nversions that it was in have lost their params; reports and exports made of them "
        "are yours to delete"
    )
