"""What is learned, and at which bytes: `fedmq bench accuracy` and `comm`."""

from pathlib import Path
from typing import Annotated

import typer

from fedmq_bench.commands.options import Json, Keep, Out, Seed, say
from fedmq_bench.typed import typed

app = typer.Typer()


@app.command()
def accuracy(
    ctx: typer.Context,
    data: Annotated[
        str, typer.Option(help="pacs, caltech, caltech-all, embedded, or a file of features with class text.")
    ] = "embedded",
    method: Annotated[str, typer.Option(help="Ways to learn, such as zero-shot,fedclip,ridge; default all.")] = "",
    split: Annotated[
        str, typer.Option(help="domains: a node each; dirichlet: many nodes with skewed labels.")
    ] = "domains",
    alpha: Annotated[float, typer.Option(min=0.001, help="Of the skew: the smaller, the more nodes differ.")] = 0.3,
    nodes: Annotated[int, typer.Option(min=2, help="Nodes of a Dirichlet split.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds, from 0; they also split the data.")] = 3,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds at most, of all that have rounds.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of all tasks, such as task.lr=0.03.")
    ] = None,
    transductive: Annotated[
        bool, typer.Option("--transductive", help="Adapt to the very images of the domain held out, as in the papers.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw accuracy against bytes: .svg, .png.")] = None,
    as_json: Json = False,
    keep: Keep = False,
    out: Out = None,
) -> None:
    """Measure what ways to learn reach for a domain that nobody has seen and for who takes part, and at which bytes.

    Rows that the file of --keep or --out has already are not measured again.

    Example: fedmq bench accuracy --method zero-shot,fedclip,even-rank4 --seeds 1
    """
    from fedmq_bench import machine, options, rows
    from fedmq_bench.accuracy import measuring, table, ways
    from fedmq_bench.accuracy import plot as plots

    if plot is not None:
        options.require_picture(plot)
    outlet = rows.Outlet("accuracy", as_json, keep, out)
    before = [row for path in outlet.files() if path.exists() for row in rows.read_file(path)]
    plan = measuring.Plan(
        data,
        ways.ways(method, rounds, overrides or []),
        options.one_of("--split", split, measuring.SPLITS),
        alpha,
        nodes,
        seeds,
        overrides or [],
        transductive,
        {measuring.key(row) for row in before},
    )
    found: list[rows.Row] = []
    rows.publish(rows.noted(measuring.measure(plan, say), found), machine.context(typed(ctx), 0), outlet)
    whole = [row for row in [*before, *found] if plan.covers(row)]
    if not as_json:
        table.show(whole)
    if plot is not None:
        plots.draw(whole, plot)


@app.command()
def comm(
    ctx: typer.Context,
    codec: Annotated[
        str, typer.Option(help="Codecs, or pairs such as eden1/eden2 (up/down); all for every one.")
    ] = "all",
    direction: Annotated[str, typer.Option(help="Directions to learn with each codec in: up, down, both.")] = "up,down",
    part: Annotated[
        str, typer.Option(help="system: bytes of a real federation; learning: accuracy.")
    ] = "system,learning",
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Features with labels and class text; default drawn images.")
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes, in either part.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of learning.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of learning; they also deal the data out.")] = 3,
    system_rounds: Annotated[int, typer.Option(min=1, help="Rounds of each real federation.")] = 5,
    link_mbps: Annotated[
        float | None, typer.Option(min=0.001, help="Also time a round over such a link, the same both ways.")
    ] = None,
    rtt_ms: Annotated[float, typer.Option(min=0.0, help="Round trip of that link.")] = 0.0,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw accuracy against bytes: .svg, .png.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
    keep: Keep = False,
    out: Out = None,
) -> None:
    """Measure what each codec costs, at four layers of bytes, and what it loses of the accuracy.

    Example: fedmq bench comm --codec fp32,int8 --rounds 10 --plot comm.svg
    """
    from fedmq_bench import machine, options, rows
    from fedmq_bench.comm import ladder, table
    from fedmq_bench.comm import plot as plots

    if plot is not None:
        options.require_picture(plot)
    plan = ladder.Plan(
        ladder.rungs(options.all_codecs() if codec == "all" else codec, direction),
        [options.one_of("--part", word.strip(), ladder.PARTS) for word in part.split(",")],
        data,
        nodes,
        rounds,
        seeds,
        system_rounds,
        link_mbps,
        rtt_ms,
    )
    found: list[rows.Row] = []
    measured = rows.noted(ladder.measure(plan, seed, say), found)
    rows.publish(measured, machine.context(typed(ctx), seed), rows.Outlet("comm", as_json, keep, out))
    if not as_json:
        table.show(found)
    if plot is not None:
        plots.draw(found, plot)
