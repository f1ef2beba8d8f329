"""Writing a bundle: its folder is there complete or not at all, and what could not be read again is not written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedmq_models.bundle import digest, manifest
from fedmq_models.bundle.encoding import EncoderFile, Precision, Preprocess
from fedmq_models.bundle.manifest import Manifest
from fedmq_models.bundle.reading import Bundle, load_folder
from fedmq_models.bundle.staging import staged
from fedmq_models.bundle.text import normalised_rows, save
from fedmq_models.errors import SourceUnreadable

ENCODER_FILE = "encoder.onnx"


@dataclass(frozen=True)
class EncoderSource:
    """An ONNX file that goes into a bundle, with the names of the input and output to use."""

    path: Path
    input: str
    output: str
    precision: Precision


def write(
    out: Path | str,
    *,
    name: str,
    labels: Sequence[str],
    text: npt.ArrayLike,
    prompts: Sequence[str] = (),
    logit_scale: float = 100.0,
    scale: float = 1.0,
    encoder: EncoderSource | None = None,
    preprocess: Preprocess | None = None,
    declared_space: str | None = None,
    source: dict[str, Any] | None = None,
    replace: bool = False,
) -> Bundle:
    """Write a bundle folder in one step.

    text             (classes, dim), any norm above 0; stored with rows of norm 1
    scale            what the encoder's output, or a feature from a user's file, is multiplied by
    encoder          copied into the folder; needs `preprocess`. Without one, `declared_space` names the feature space
    replace          put it where a bundle already is; anything else there is never removed
    raises           BundleUnwritable if `out` is taken or the disk refuses; BundleUnreadable if the parts do not fit
    """
    rows = normalised_rows(np.asarray(text), len(labels))
    with staged(Path(out), replace) as folder:
        file = None if encoder is None else _place(encoder, folder)
        if file is not None and preprocess is not None:
            space = digest.feature_space(file, preprocess, scale)
        else:
            space = digest.declared_space(declared_space or name, scale)
        made = Manifest(
            format=manifest.FORMAT,
            name=name,
            labels=tuple(labels),
            prompts=tuple(prompts),
            logit_scale=float(logit_scale),
            dim=rows.shape[1],
            scale=float(scale),
            encoder=file,
            text_file=save(rows, folder),
            preprocess=preprocess,
            feature_space=space,
            source=dict(source or {}),
        )
        content = json.dumps(made.as_json(), indent=2, ensure_ascii=False) + "\n"
        manifest.parse(content, str(Path(out) / manifest.FILE))
        (folder / manifest.FILE).write_text(content, encoding="utf-8")
    return load_folder(Path(out))


def _place(encoder: EncoderSource, folder: Path) -> EncoderFile:
    if not encoder.path.is_file():
        raise SourceUnreadable(f"{encoder.path} is no file; an encoder is one ONNX file")
    place = Path(shutil.copyfile(encoder.path, folder / ENCODER_FILE))
    return EncoderFile(ENCODER_FILE, digest.sha256_file(place), encoder.input, encoder.output, encoder.precision)
