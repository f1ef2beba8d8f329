"""Encoding: what turns an image into a feature, as a bundle describes it: an encoder's file and its preprocessing.

Frozen dataclasses, whose types pydantic holds a manifest against. This module touches no file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field

SIZE_LIMIT_PX = 4096

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Word = Annotated[str, Field(strict=True, pattern=r"\S")]
Sha256 = Annotated[str, Field(strict=True, pattern=r"^[0-9a-f]{64}$")]
# One plain name: a bundle that came over a network must not read outside its folder.
FileName = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]


class Resize(StrEnum):
    """How an image of any shape becomes a square: by its short side and a centre crop, or by squashing it."""

    SHORT_SIDE = "short_side"
    SQUASH = "squash"


class Interpolation(StrEnum):
    """The resampling filter; both are antialiased, as Pillow does it."""

    BICUBIC = "bicubic"
    BILINEAR = "bilinear"


class Precision(StrEnum):
    """The type of an encoder's weights, input and output."""

    FP32 = "fp32"
    FP16 = "fp16"


@dataclass(frozen=True)
class Preprocess:
    """What happens to an image before the encoder: a square of `size` pixels, then (x - mean) / std with x in 0..1."""

    size: Annotated[int, Field(strict=True, ge=1, le=SIZE_LIMIT_PX)]
    resize: Resize
    interpolation: Interpolation
    mean: tuple[Number, Number, Number]
    std: tuple[Positive, Positive, Positive]


@dataclass(frozen=True)
class EncoderFile:
    """The encoder as a file: its digest, the names of the input and output that are used, and its precision."""

    file: FileName
    sha256: Sha256
    input: Word
    output: Word
    precision: Precision
