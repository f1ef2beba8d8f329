"""The commands of this package: `fedmq bundle make, from-onnx, from-features, show, verify`.

Everything heavy is imported inside a command, so that `fedmq --help` stays fast. A command raises what it cannot do;
the console script prints the sentence and takes the exit code from the error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fedmq_models.bundle import Bundle

app = typer.Typer()
bundle_app = typer.Typer(no_args_is_help=True, help="Make, show and verify bundles: what a federation freezes.")
app.add_typer(bundle_app, name="bundle", rich_help_panel="Prepare")

OPENAI_MEAN = "0.48145466,0.4578275,0.40821073"
OPENAI_STD = "0.26862954,0.26130258,0.27577711"

Labels = Annotated[str, typer.Option(help="Class names: dog,cat, or a file with one per line, or a folder of classes.")]
SomeLabels = Annotated[
    str | None, typer.Option("--labels", help="Take these classes only: dog,cat, a file or a folder; default all.")
]
Out = Annotated[Path, typer.Option(help="The bundle's folder; it appears complete or not at all.")]
Replace = Annotated[bool, typer.Option("--replace", help="Take the place of a bundle that is there.")]
Name = Annotated[str | None, typer.Option(help="What to call the bundle.")]
Prompts = Annotated[
    list[str] | None, typer.Option("--prompt", help="A template with one {}; repeat it to average several.")
]
TextFrom = Annotated[Path, typer.Option("--text", help="Class text features: npz or safetensors.")]
TextKey = Annotated[str, typer.Option(help="The array of text features (classes, dim) in that file.")]
LabelsKey = Annotated[str, typer.Option(help="The array of class names in that file.")]
LogitScale = Annotated[float, typer.Option(help="What cosines are multiplied by; 100 for OpenAI's CLIP.")]
Scale = Annotated[float, typer.Option(help="Multiplies features; about 10 if they have norm 1, as FedCLIP wants it.")]
DropEmpty = Annotated[bool, typer.Option("--drop-empty", help="Leave out classes whose text feature is all zeros.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Where = Annotated[str, typer.Argument(help="A bundle's folder, or the name of an embedded one: tiny.")]


@bundle_app.command()
def make(
    labels: Labels,
    out: Out,
    model: Annotated[
        str, typer.Option(help="An open_clip model, or local-dir:FOLDER with its own weights.")
    ] = "ViT-B-32",
    pretrained: Annotated[str | None, typer.Option(help="Weights by open_clip's tag (fetched), or a file.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Weights from a local checkpoint.")] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Random weights: right shape and cost, no knowledge.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the random weights.")] = 0,
    prompt: Prompts = None,
    precision: Annotated[str, typer.Option(help="fp32, or fp16 for GPUs.")] = "fp32",
    name: Name = None,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Make a bundle from an open_clip model, and check the export against it.

    Examples:

      fedmq bundle make --model ViT-B-32 --pretrained openai --labels dog,cat --out pets

      fedmq bundle make --model ViT-B-32 --checkpoint vit_b_32.pt --labels photos/ --out pets

      fedmq bundle make --model ViT-B-32 --random-weights --labels dog,cat --out bench --precision fp16
    """
    from fedmq_models import export, options
    from fedmq_models.bundle import Precision
    from fedmq_models.export.clip import DEFAULT_PROMPT

    made = export.from_open_clip(
        model,
        pretrained=options.weights(model, pretrained, checkpoint, random_weights),
        labels=options.labels(labels),
        out=out,
        prompts=prompt or [DEFAULT_PROMPT],
        precision=options.one_of("--precision", precision, Precision),
        seed=seed,
        name=name,
        replace=replace,
        say=_progress,
    )
    _print(made, as_json)


@bundle_app.command("from-onnx")
def from_onnx(
    onnx: Annotated[Path, typer.Argument(help="An image encoder: pixels (batch, 3, size, size) -> features.")],
    text: TextFrom,
    out: Out,
    labels: SomeLabels = None,
    text_key: TextKey = "text",
    labels_key: LabelsKey = "classes",
    drop_empty: DropEmpty = False,
    size: Annotated[int, typer.Option(help="Side of the square in pixels.")] = 224,
    resize: Annotated[str, typer.Option(help="short_side (then a centre crop), or squash.")] = "short_side",
    interpolation: Annotated[str, typer.Option(help="bicubic or bilinear.")] = "bicubic",
    mean: Annotated[str, typer.Option(help="Of pixels in 0..1: one number or three; 128/255 works.")] = OPENAI_MEAN,
    std: Annotated[str, typer.Option(help="As --mean.")] = OPENAI_STD,
    scale: Scale = 1.0,
    logit_scale: LogitScale = 100.0,
    input_name: Annotated[str | None, typer.Option("--input", help="The image input; default the first.")] = None,
    output_name: Annotated[str | None, typer.Option("--output", help="The feature output; default the first.")] = None,
    prompt: Prompts = None,
    name: Name = None,
    note: Annotated[str | None, typer.Option(help="Where the encoder comes from; kept in the bundle.")] = None,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Make a bundle from an ONNX encoder that exists already, and text features of the same space.

    Example:

      fedmq bundle from-onnx encoder.onnx --text features.npz --mean 128/255 --std 128/255 --scale 10 --out edge
    """
    from fedmq_models import export, options
    from fedmq_models.bundle import Interpolation, Preprocess, Resize
    from fedmq_models.bundle.encoding import SIZE_LIMIT_PX
    from fedmq_models.errors import OptionInvalid

    if not 1 <= size <= SIZE_LIMIT_PX:
        raise OptionInvalid(f"--size is {size}; it must be from 1 to {SIZE_LIMIT_PX} pixels")
    deviations = options.channels("--std", std)
    for value in deviations:
        options.positive("--std", value)
    how = Preprocess(
        size=size,
        resize=options.one_of("--resize", resize, Resize),
        interpolation=options.one_of("--interpolation", interpolation, Interpolation),
        mean=options.channels("--mean", mean),
        std=deviations,
    )
    names, rows = export.class_text(text, options.labels(labels) if labels else (), text_key, labels_key, drop_empty)
    made = export.from_onnx(
        onnx,
        labels=names,
        text=rows,
        preprocess=how,
        out=out,
        prompts=prompt or (),
        logit_scale=options.positive("--logit-scale", logit_scale),
        scale=options.positive("--scale", scale),
        input_name=input_name,
        output_name=output_name,
        name=name,
        source={"note": note} if note else None,
        replace=replace,
        say=_progress,
    )
    _print(made, as_json)


@bundle_app.command("from-features")
def from_features(
    text: TextFrom,
    space: Annotated[str, typer.Option(help="A name for where features come from; nodes must have the same.")],
    out: Out,
    labels: SomeLabels = None,
    text_key: TextKey = "text",
    labels_key: LabelsKey = "classes",
    drop_empty: DropEmpty = False,
    scale: Scale = 1.0,
    logit_scale: LogitScale = 100.0,
    prompt: Prompts = None,
    name: Name = None,
    note: Annotated[str | None, typer.Option(help="Where the text features come from.")] = None,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Make a bundle without an encoder, for nodes that bring features instead of images.

    Example:

      fedmq bundle from-features --text caltech101.npz --drop-empty --space clip-vit-b-32-openai --out caltech
    """
    from fedmq_models import bundle, export, options

    names, rows = export.class_text(text, options.labels(labels) if labels else (), text_key, labels_key, drop_empty)
    made = bundle.write(
        out,
        name=name or space,
        labels=names,
        text=rows,
        prompts=prompt or (),
        logit_scale=options.positive("--logit-scale", logit_scale),
        scale=options.positive("--scale", scale),
        declared_space=space,
        source={"note": note, "space": space} if note else {"space": space},
        replace=replace,
    )
    _print(made, as_json)


@bundle_app.command()
def show(where: Where, as_json: AsJson = False) -> None:
    """Show what a bundle holds.

    Example:

      fedmq bundle show tiny
    """
    from fedmq_models import bundle

    _print(bundle.load(where), as_json)


@bundle_app.command()
def verify(where: Where, as_json: AsJson = False) -> None:
    """Compute a bundle's digests again and run its encoder; ends with 1 if anything is wrong.

    Example:

      fedmq bundle verify pets
    """
    from fedmq_models import bundle
    from fedmq_models.bundle.verification import can_run_encoders

    found = bundle.verify(where)
    if as_json:
        findings = [{"file": finding.file, "problem": finding.problem} for finding in found]
        typer.echo(json.dumps({"bundle": where, "findings": findings, "encoder_was_run": can_run_encoders()}))
    else:
        for finding in found:
            typer.echo(str(finding))
        if not found:
            unrun = "" if can_run_encoders() else " (without onnxruntime its encoder was not run)"
            typer.echo(f"{where} is sound{unrun}")
    if found:
        raise typer.Exit(1)


def _progress(line: str) -> None:
    typer.echo(line, err=True)


def _print(made: Bundle, as_json: bool) -> None:
    from fedmq_models.bundle import description

    typer.echo(json.dumps(description.as_json(made)) if as_json else description.as_text(made))
