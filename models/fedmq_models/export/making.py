"""Making bundles out of an image encoder: from an open_clip model, or from an ONNX file that exists already."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedmq_models.bundle import ENCODER_FILE, Bundle, EncoderSource, Precision, Preprocess, write
from fedmq_models.bundle.onnx_file import signature
from fedmq_models.bundle.staging import require_free
from fedmq_models.errors import OptionInvalid, SourceUnreadable
from fedmq_models.export import clip, parity, tracing
from fedmq_models.packages import installed

Say = Callable[[str], None]


def from_open_clip(
    model: str,
    *,
    pretrained: str | None,
    labels: Sequence[str],
    out: Path,
    prompts: Sequence[str] = (clip.DEFAULT_PROMPT,),
    precision: Precision = Precision.FP32,
    seed: int = 0,
    name: str | None = None,
    replace: bool = False,
    say: Say = lambda _line: None,
) -> Bundle:
    """Make a bundle from an open_clip model. See `from_clip`.

    pretrained, seed     see `clip.load`; `pretrained` None takes random weights from `seed`
    raises               what `clip.load` raises, too
    """
    _require(labels, prompts, out, replace)  # before the minutes that follow
    say(f"building {model}, weights: {clip.origin(model, pretrained, seed)}")
    return from_clip(
        clip.load(model, pretrained, seed),
        labels=labels,
        out=out,
        name=name or model.rstrip("/").rpartition("/")[2].rpartition(":")[2],
        prompts=prompts,
        precision=precision,
        replace=replace,
        say=say,
    )


def from_clip(
    made: clip.Clip,
    *,
    labels: Sequence[str],
    out: Path,
    name: str,
    prompts: Sequence[str] = (clip.DEFAULT_PROMPT,),
    precision: Precision = Precision.FP32,
    replace: bool = False,
    say: Say = lambda _line: None,
) -> Bundle:
    """Make a bundle from a CLIP model in memory: trace its image tower, hold it against eager, encode the classes.

    The parity of the export is in `source["parity"]` of the bundle.

    raises     ParityFailed; ExportUnavailable; BundleUnwritable; OptionInvalid; nothing is left behind then
    """
    _require(labels, prompts, out, replace)
    with tempfile.TemporaryDirectory(prefix="fedmq-export-") as folder:
        path = Path(folder) / ENCODER_FILE
        say(f"exporting the image tower to ONNX in {precision}")
        tracing.trace(tracing.tower(made.model.visual, precision), made.preprocess.size, precision, path)
        say("comparing the export with its source")
        source = tracing.reference(tracing.tower(made.model.visual, Precision.FP32))
        report = parity.measure(source, signature(path).run, made.preprocess)
        say(f"parity: {report}")
        say(f"encoding {len(labels)} labels with {len(prompts)} prompts")
        text = clip.text_features(made, labels, prompts)
        say(f"writing {out}")
        return write(
            out,
            name=name,
            labels=labels,
            text=text,
            prompts=prompts,
            logit_scale=made.logit_scale,
            encoder=EncoderSource(path, tracing.INPUT, tracing.OUTPUT, precision),
            preprocess=made.preprocess,
            source={**made.source, "parity": report.as_json(), "versions": _versions()},
            replace=replace,
        )


def from_onnx(
    onnx: Path,
    *,
    labels: Sequence[str],
    text: npt.NDArray[Any],
    preprocess: Preprocess,
    out: Path,
    prompts: Sequence[str] = (),
    logit_scale: float = 100.0,
    scale: float = 1.0,
    input_name: str | None = None,
    output_name: str | None = None,
    name: str | None = None,
    source: dict[str, Any] | None = None,
    replace: bool = False,
    say: Say = lambda _line: None,
) -> Bundle:
    """Put an ONNX image encoder and the text features (labels, dim) of the same space together.

    scale      multiplies the output: about 10 for an encoder that normalises, so that FedCLIP's adapter gets raw norms
    raises     SourceUnreadable if the file is no encoder of that size and dim; BundleUnwritable; RuntimeMissing
    """
    require_free(out, replace)
    if not onnx.is_file():
        raise SourceUnreadable(f"{onnx} is no file; an encoder is one ONNX file")
    found = signature(onnx, input_name, output_name)
    if found.size not in (None, preprocess.size):
        raise OptionInvalid(f"{onnx} takes images of {found.size} pixels, the preprocessing makes {preprocess.size}")
    probe = found.run(parity.probes(preprocess)[:3])
    if probe.shape != (3, text.shape[-1]):
        raise SourceUnreadable(
            f"{onnx} gives shape {probe.shape} for 3 images, the text features have {text.shape[-1]} dimensions; "
            "both must come from the same space, or choose another --output"
        )
    if np.allclose(np.linalg.norm(probe, axis=1) * scale, 1.0, atol=1e-2):
        say("the features have norm 1, FedCLIP's adapter expects raw ones of norm about 10: consider --scale 10")
    return write(
        out,
        name=name or onnx.resolve().parent.name,
        labels=labels,
        text=text,
        prompts=prompts,
        logit_scale=logit_scale,
        scale=scale,
        encoder=EncoderSource(onnx, found.input, found.output, found.precision),
        preprocess=preprocess,
        source={**(source or {}), "onnx": onnx.name, "versions": _versions()},
        replace=replace,
    )


def _require(labels: Sequence[str], prompts: Sequence[str], out: Path, replace: bool) -> None:
    require_free(out, replace)
    if not labels:
        raise OptionInvalid(
            "no labels; name the classes with --labels dog,cat, a file of lines or a folder of class folders"
        )
    if not prompts:
        raise OptionInvalid(f"no prompts; one is enough: {clip.DEFAULT_PROMPT!r}")
    for prompt in prompts:
        if prompt.count("{}") != 1:
            raise OptionInvalid(f"prompt {prompt!r} must hold one {{}} where the label goes")


def _versions() -> dict[str, str]:
    names = ("fedmq", "torch", "onnx", "onnxruntime", "onnxruntime-gpu")
    return {"python": platform.python_version(), **installed(names)}
