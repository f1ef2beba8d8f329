"""The manifest of a bundle: `bundle.json` as frozen dataclasses, whose types pydantic holds it against.

Format 1. Keys that are not known are ignored, so that a later writer may add some; keys that are known must have the
right type and a possible value. This module touches no file and knows no array.
"""

from __future__ import annotations

import reprlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from fedmq_models.bundle import digest
from fedmq_models.bundle.encoding import EncoderFile, FileName, Positive, Preprocess, Sha256, Word
from fedmq_models.errors import BundleUnreadable

FILE = "bundle.json"
FORMAT = 1


@dataclass(frozen=True)
class TextFile:
    """The class text features as a file."""

    file: FileName
    sha256: Sha256


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything in a bundle but its arrays. `feature_space` follows from the rest, unless it was declared.

    scale      what an encoder's output, or a feature from a user's file, is multiplied by. FedCLIP's adapter expects
               raw CLIP features, whose norm is about 10: features of norm 1 need 10 here, raw ones have 1
    source     provenance, in whatever keys its writer chose
    """

    format: Annotated[int, Field(strict=True, ge=FORMAT, le=FORMAT)] = field(repr=False)
    name: Word
    labels: Annotated[tuple[Word, ...], Field(min_length=1)]
    prompts: tuple[Word, ...]
    logit_scale: Positive
    dim: Annotated[int, Field(strict=True, ge=1, le=1 << 20)]
    scale: Positive = 1.0
    encoder: EncoderFile | None
    text_file: Annotated[TextFile, Field(alias="text")]
    preprocess: Preprocess | None
    feature_space: Sha256
    source: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def as_json(self) -> dict[str, Any]:
        """The content of `bundle.json`."""
        content: dict[str, Any] = _FORM.dump_python(self, mode="json", by_alias=True)
        return content


_FORM = TypeAdapter(Manifest)


def parse(content: bytes | str, where: str) -> Manifest:
    """Read a manifest; `where` names its file in errors.

    raises     BundleUnreadable, naming the file, the key and the value that cannot be
    """
    try:
        manifest = _FORM.validate_json(content)
    except ValidationError as fault:
        raise BundleUnreadable(f"{where}: {_sentence(fault)}") from fault
    problem = _contradiction(manifest)
    if problem:
        raise BundleUnreadable(f"{where}: {problem}")
    return manifest


def _sentence(fault: ValidationError) -> str:
    first = fault.errors(include_url=False)[0]
    key, value, why = ".".join(map(str, first["loc"])), reprlib.repr(first["input"]), first["msg"]
    if first["type"] == "missing":
        return f"{key} is missing"
    if key == "format":
        return f"format is {value}, this fedmq reads format {FORMAT}; install a matching version"
    return f"{key or 'the file'} is {value}: {why[0].lower()}{why[1:]}"


def _contradiction(manifest: Manifest) -> str | None:
    """What is wrong with values that are each possible; None if nothing is."""
    for label, times in Counter(manifest.labels).items():
        if times > 1:
            return f"labels: {label!r} is there twice"
    for prompt in manifest.prompts:
        if prompt.count("{}") != 1:
            return f"prompts: {prompt!r} must hold one {{}} where the label goes"
    if (manifest.encoder is None) != (manifest.preprocess is None):
        return "preprocess: an encoder and its preprocessing come together, or neither"
    if manifest.encoder is not None and manifest.preprocess is not None:
        computed = digest.feature_space(manifest.encoder, manifest.preprocess, manifest.scale)
        if computed != manifest.feature_space:
            return (
                f"feature_space is {manifest.feature_space}, but encoder, scale and preprocessing give {computed}: "
                "one of them was changed; copy or make the bundle again"
            )
    return None
