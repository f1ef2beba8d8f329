"""What else takes time: the simulation and the command line, `fedmq bench scale` and `startup`."""

from typing import Annotated

import typer

from fedmq_bench.commands.options import Json, Keep, Out, Repeats, Seed, say
from fedmq_bench.typed import typed

app = typer.Typer()


@app.command()
def scale(
    ctx: typer.Context,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes in virtual time.")] = 10_000,
    versions: Annotated[int, typer.Option(min=1, help="Versions to come to.")] = 100,
    goal: Annotated[int, typer.Option(min=0, help="Updates of a version; 0 is one of every node.")] = 100,
    codec: Annotated[str, typer.Option(help="Codec of the updates.")] = "fp32",
    train: Annotated[bool, typer.Option("--train", help="Have nodes learn, each from examples of its own.")] = False,
    examples: Annotated[int, typer.Option(min=2, help="Of each node that learns.")] = 100,
    seed: Seed = 0,
    as_json: Json = False,
    keep: Keep = False,
    out: Out = None,
) -> None:
    """Measure how many real cores and real updates of 525,312 params the simulation gets through.

    Example: fedmq bench scale --nodes 1000 --versions 3 --goal 0 --train
    """
    from fedmq_bench import machine, options, rows
    from fedmq_bench import scale as benchmark

    size = benchmark.Size(nodes, versions, goal, examples, train, options.codecs(codec)[0])
    found = benchmark.measure(size, seed, say)
    rows.publish(found, machine.context(typed(ctx), seed), rows.Outlet("scale", as_json, keep, out))


@app.command()
def startup(
    ctx: typer.Context,
    repeats: Repeats = 10,
    as_json: Json = False,
    keep: Keep = False,
    out: Out = None,
) -> None:
    """Measure how long `fedmq --help` takes.

    Example: fedmq bench startup
    """
    from fedmq_bench import machine, rows
    from fedmq_bench import startup as benchmark

    found = benchmark.measure(repeats, say)
    rows.publish(found, machine.context(typed(ctx), 0), rows.Outlet("startup", as_json, keep, out))
