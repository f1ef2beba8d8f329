"""What a device's own work costs: `fedmq bench local` and `encoder`."""

from typing import Annotated

import typer

from fedmq_bench.commands.options import Json, Keep, Out, Repeats, Seed, say
from fedmq_bench.typed import typed

app = typer.Typer()

Threads = Annotated[int | None, typer.Option(min=1, help="Threads of either side; default every core.")]
Model = Annotated[str, typer.Option(help="An open_clip model; its weights are random.")]


@app.command()
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

    found = benchmark.measure(model, images, repeats, threads, seed, say)
    rows.publish(found, machine.context(typed(ctx), seed), rows.Outlet("local", as_json, keep, out))


@app.command()
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
    found = benchmark.measure(setup, repeats, seed, say)
    rows.publish(found, machine.context(typed(ctx), seed), rows.Outlet("encoder", as_json, keep, out))
