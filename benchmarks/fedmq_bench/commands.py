"""The commands that measure, and one that makes a table of what was kept."""

from pathlib import Path
from typing import Annotated

import typer

from fedmq_bench.scenario.commands import scenario
from fedmq_bench.typed import typed

app = typer.Typer()
bench = typer.Typer(
    no_args_is_help=True,
    help="Measure fedmq on this machine, always beside something to compare with.",
)
app.add_typer(bench, name="bench", rich_help_panel="Measure")
app.add_typer(scenario, name="scenario", rich_help_panel="Measure")

Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines for a script instead of text for a person.")]
Keep = Annotated[bool, typer.Option("--keep", help="Append the rows to benchmarks/fedmq_bench/results.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Append the rows to this file.")]
Repeats = Annotated[int, typer.Option(min=1, help="Turns of both sides.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of either side; default every core.")]
Model = Annotated[str, typer.Option(help="An open_clip model; its weights are random.")]
CodecNames = Annotated[str, typer.Option("--codec", help="Codecs of the updates, such as fp32,int8,fp16.")]
Wire = Annotated[str, typer.Option("--link", help="zmq, curve, mqtt, or sealed: mqtt with sealed frames.")]


@bench.command()
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
    rows.publish(benchmark.measure(sizes, seed, _say), context, rows.Outlet("latency", as_json, keep, out))


@bench.command()
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
    found = benchmark.measure(nodes, name, rounds, repeats, seed, _say)
    rows.publish(found, machine.context(typed(ctx), seed), rows.Outlet("ledger", as_json, keep, out))


@bench.command()
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

    found = benchmark.measure(options.codecs(codec), repeats, seed, _say, updates=updates)
    rows.publish(found, machine.context(typed(ctx), seed), rows.Outlet("fold", as_json, keep, out))


@bench.command()
def local(
    ctx: typer.Context,
    model: Model = "ViT-B-32",
    images: Annotated[int, typer.Option(min=2, help="Images of an epoch.")] = 1000,
    threads: Threads = None,
    repeats: Repeats = 10,
    seed: Seed = 0,
    as_json: Json = False,
    keep: Keep = False,
    out: Out = None,
) -> None:
    """Measure a local epoch on cached features, beside both encoders on every batch.

    Example: fedmq bench local --repeats 3
    """
    from fedmq_bench import local as benchmark
    from fedmq_bench import machine, rows

    found = benchmark.measure(model, images, repeats, threads, seed, _say)
    rows.publish(found, machine.context(typed(ctx), seed), rows.Outlet("local", as_json, keep, out))


@bench.command()
def encoder(
    ctx: typer.Context,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32 or fp16, on both sides.")] = "fp32",
    model: Model = "ViT-B-32",
    images: Annotated[int, typer.Option(min=4, help="Images per turn.")] = 64,
    threads: Threads = None,
    repeats: Repeats = 5,
    seed: Seed = 0,
    as_json: Json = False,
    keep: Keep = False,
    out: Out = None,
) -> None:
    """Measure images per second of the ONNX encoder, beside eager PyTorch, from pixels and from JPEG files.

    Example: fedmq bench encoder --device cuda --precision fp16 --images 2048
    """
    from fedmq_bench import encoder as benchmark
    from fedmq_bench import machine, options, rows

    setup = benchmark.Setup(
        model,
        options.one_of("--device", device, ("cpu", "cuda")),
        options.one_of("--precision", precision, ("fp32", "fp16")),
        threads,
        images,
    )
    found = benchmark.measure(setup, repeats, seed, _say)
    rows.publish(found, machine.context(typed(ctx), seed), rows.Outlet("encoder", as_json, keep, out))


@bench.command()
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
    found = benchmark.measure(nodes, name, repeats, seed, _say)
    rows.publish(found, machine.context(typed(ctx), seed), rows.Outlet("memory", as_json, keep, out))


@bench.command()
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

    found = benchmark.measure(options.one_of("--link", link, WIRES), nodes, updates, seed, _say)
    rows.publish(found, machine.context(typed(ctx), seed), rows.Outlet("load", as_json, keep, out))


@bench.command()
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
    found = benchmark.measure(count, link, seed, _say)
    rows.publish(found, machine.context(typed(ctx), seed), rows.Outlet("kills", as_json, keep, out))


@bench.command()
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
    rows.publish(rows.noted(measuring.measure(plan, _say), found), machine.context(typed(ctx), 0), outlet)
    whole = [row for row in [*before, *found] if plan.covers(row)]
    if not as_json:
        table.show(whole)
    if plot is not None:
        plots.draw(whole, plot)


@bench.command()
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
    measured = rows.noted(ladder.measure(plan, seed, _say), found)
    rows.publish(measured, machine.context(typed(ctx), seed), rows.Outlet("comm", as_json, keep, out))
    if not as_json:
        table.show(found)
    if plot is not None:
        plots.draw(found, plot)


@bench.command()
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
    found = benchmark.measure(size, seed, _say)
    rows.publish(found, machine.context(typed(ctx), seed), rows.Outlet("scale", as_json, keep, out))


@bench.command()
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

    found = benchmark.measure(repeats, _say)
    rows.publish(found, machine.context(typed(ctx), 0), rows.Outlet("startup", as_json, keep, out))


@bench.command()
def table(
    results: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where rows are kept.")] = None,
) -> None:
    """Print the newest kept rows as a Markdown table, each with the command that makes it; then those of accuracy.

    Example: fedmq bench table
    """
    from fedmq_bench import report, rows
    from fedmq_bench.accuracy import table as accuracies

    kept = rows.read(results or rows.RESULTS)
    typer.echo(report.markdown(kept))
    if reached := [row for row in kept if row["case"] == "accuracy"]:
        typer.echo(accuracies.markdown(reached))


@bench.command()
def plot(
    results: Annotated[Path, typer.Argument(help="A file of rows that `fedmq bench comm` or `accuracy` gave.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="What to draw to: .svg or .png.")] = Path("comm.svg"),
    data: Annotated[str | None, typer.Option(help="Of accuracy, these data alone.")] = None,
) -> None:
    """Draw accuracy against bytes again, from kept rows.

    Example: fedmq bench plot benchmarks/fedmq_bench/results/comm.jsonl --out comm.png
    """
    from fedmq_bench import options, report, rows
    from fedmq_bench.accuracy import plot as accuracies
    from fedmq_bench.comm import plot as plots

    options.require_picture(out)
    kept = list(rows.read_file(results))
    reached = [row for row in kept if row["case"] == "accuracy" and data in (None, row["dataset"])]
    if reached:
        accuracies.draw(reached, out)
    else:
        plots.draw(report.newest(row for row in kept if row["case"] == "comm"), out)
    typer.echo(f"drawn in {out}")


def _say(line: str) -> None:
    typer.echo(line, err=True)
