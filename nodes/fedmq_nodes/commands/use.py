"""What was learned, used where the data are: `fedmq eval`, `classify` and `export-adapted`."""

from pathlib import Path
from typing import Annotated

import typer

from fedmq_nodes.commands.options import Json

app = typer.Typer()

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
