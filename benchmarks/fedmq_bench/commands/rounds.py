"""What a round costs: `fedmq bench latency`, `ledger` and `fold`."""

from typing import Annotated

import typer

from fedmq_bench.commands.options import CodecNames, Json, Keep, Out, Repeats, Seed, Wire, say
from fedmq_bench.typed import typed

app = typer.Typer()


@app.command()
def latency(
    ctx: typer.Context,
    nodes: Annotated[str, typer.Option(help="Numbers of node processes, such as 1,4,16.")] = "1,4,8,16,32",
    link: Wire = "zmq",
    codec: CodecNames = "fp32",
    down: Annotated[str, typer.Option(help="Codec of the way down.")] = "fp32",
    durable: Annotated[bool, typer.Option(help="Have each version on the disk before it is announced.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, and echoes, per turn.")] = 10,
    repeats: Repeats = 5,
    seed: Seed = 0,
    as_json: Json = False,
    keep: Keep = False,
    out: Out = None,
) -> None:
    """Measure a round without training, beside a bare echo of the same bytes over the same link.

    Example: fedmq bench latency --nodes 16 --codec fp32,int8
    """
    from fedmq import config
    from fedmq_bench import latency as benchmark
    from fedmq_bench import machine, options, rows
    from fedmq_bench.wires import WIRES

    (down,) = options.codecs(down)
    link = options.one_of("--link", link, WIRES)
    sizes = [
        benchmark.Size(count, link, name, down, rounds=rounds, blocks=repeats, durable=durable)
        for name in options.codecs(codec)
        for count in config.counts("--nodes", nodes, "1,4,16")
    ]
    context = machine.context(typed(ctx), seed)
    rows.publish(benchmark.measure(sizes, seed, say), context, rows.Outlet("latency", as_json, keep, out))


@app.command()
def ledger(
    ctx: typer.Context,
    nodes: Annotated[int, typer.Option(min=1, help="Node processes.")] = 16,
    codec: Annotated[str, typer.Option(help="Codec of the updates.")] = "int8",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds per turn.")] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each kind.")] = 5,
    seed: Seed = 0,
    as_json: Json = False,
    keep: Keep = False,
    out: Out = None,
) -> None:
    """Measure updates per second with a durable ledger and with one that does not wait, beside none at all.

    Example: fedmq bench ledger --repeats 3
    """
    from fedmq_bench import ledger as benchmark
    from fedmq_bench import machine, options, rows

    (name,) = options.codecs(codec)
    found = benchmark.measure(nodes, name, rounds, repeats, seed, say)
    rows.publish(found, machine.context(typed(ctx), seed), rows.Outlet("ledger", as_json, keep, out))


@app.command()
def fold(
    ctx: typer.Context,
    codec: CodecNames = "fp32,fp16,bf16,int8,int4,eden2,eden1",
    updates: Annotated[int, typer.Option(min=1, help="Different updates per turn.")] = 16,
    repeats: Repeats = 100,
    seed: Seed = 0,
    as_json: Json = False,
    keep: Keep = False,
    out: Out = None,
) -> None:
    """Measure what folding an update costs the aggregator, beside numpy's `acc += w * x`.

    With --json also what packing and unpacking alone take.

    Example: fedmq bench fold --codec int8
    """
    from fedmq_bench import fold as benchmark
    from fedmq_bench import machine, options, rows

    found = benchmark.measure(options.codecs(codec), repeats, seed, say, updates=updates)
    rows.publish(found, machine.context(typed(ctx), seed), rows.Outlet("fold", as_json, keep, out))
