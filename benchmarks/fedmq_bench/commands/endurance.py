"""What an aggregator bears: `fedmq bench memory`, `load` and `kills`."""

from typing import Annotated

import typer

from fedmq_bench.commands.options import Json, Keep, Out, Seed, Wire, say
from fedmq_bench.typed import typed

app = typer.Typer()


@app.command()
def memory(
    ctx: typer.Context,
    nodes: Annotated[int, typer.Option(min=1, help="Connected nodes.")] = 64,
    codec: Annotated[str, typer.Option(help="Codec of the updates.")] = "int8",
    repeats: Annotated[int, typer.Option(min=1, help="Rounds.")] = 10,
    seed: Seed = 0,
    as_json: Json = False,
    keep: Keep = False,
    out: Out = None,
) -> None:
    """Measure the peak memory of `fedmq serve` while nodes send to it.

    Example: fedmq bench memory --nodes 64
    """
    from fedmq_bench import machine, options, rows
    from fedmq_bench import memory as benchmark

    (name,) = options.codecs(codec)
    found = benchmark.measure(nodes, name, repeats, seed, say)
    rows.publish(found, machine.context(typed(ctx), seed), rows.Outlet("memory", as_json, keep, out))


@app.command()
def load(
    ctx: typer.Context,
    nodes: Annotated[int, typer.Option(min=1, help="Connected nodes.")] = 1000,
    updates: Annotated[int, typer.Option(min=1, help="Updates in all.")] = 60_000,
    link: Wire = "zmq",
    seed: Seed = 0,
    as_json: Json = False,
    keep: Keep = False,
    out: Out = None,
) -> None:
    """Measure how many updates a second `fedmq serve` takes from very many nodes, and how soon it answers.

    Example: fedmq bench load --nodes 1000
    """
    from fedmq_bench import load as benchmark
    from fedmq_bench import machine, options, rows
    from fedmq_bench.wires import WIRES

    found = benchmark.measure(options.one_of("--link", link, WIRES), nodes, updates, seed, say)
    rows.publish(found, machine.context(typed(ctx), seed), rows.Outlet("load", as_json, keep, out))


@app.command()
def kills(
    ctx: typer.Context,
    count: Annotated[int, typer.Option("--kills", min=1, help="How often a process is killed.")] = 50,
    link: Annotated[str, typer.Option(help="zmq, or mqtt over a Mosquitto that is killed as well.")] = "zmq",
    seed: Seed = 0,
    as_json: Json = False,
    keep: Keep = False,
    out: Out = None,
) -> None:
    """Kill aggregator, nodes and broker of a running federation at random, and measure how long each recovery takes.

    Example: fedmq bench kills --kills 10 --link mqtt
    """
    from fedmq_bench import killable, machine, options, rows
    from fedmq_bench import kills as benchmark

    options.one_of("--link", link, tuple(killable.LINKS))
    found = benchmark.measure(count, link, seed, say)
    rows.publish(found, machine.context(typed(ctx), seed), rows.Outlet("kills", as_json, keep, out))
