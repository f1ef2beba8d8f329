"""What the commands of this package take as text, turned into values, or refused with a sentence."""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from fedmq_models.errors import OptionInvalid
from fedmq_models.export.clip import brings_weights

Choice = TypeVar("Choice", bound=StrEnum)


def labels(text: str) -> tuple[str, ...]:
    """Class names: `dog,cat`, a file with one per line, or a folder whose sub-folders are the classes, sorted.

    raises     OptionInvalid for none, a blank one or one that is there twice
    """
    place = Path(text)
    if place.is_dir():
        names = sorted(entry.name for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        if not names:
            raise OptionInvalid(f"--labels: {text} has no folders in it; each class is one folder")
    elif place.is_file():
        try:
            lines = place.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as fault:
            raise OptionInvalid(f"--labels: {text} cannot be read as text: {fault}") from fault
        names = [line.strip() for line in lines if line.strip()]
    elif "/" in text:
        raise OptionInvalid(f"--labels: {text} is neither a file nor a folder; names are given as dog,cat")
    else:
        names = [name.strip() for name in text.split(",")]
        if not all(names):
            raise OptionInvalid(f"--labels: {text!r} holds a blank name; names are given as dog,cat")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OptionInvalid(f"--labels: {', '.join(twice)} is there twice")
    if not names:
        raise OptionInvalid(f"--labels: {text} names no class")
    return tuple(names)


def channels(option: str, text: str) -> tuple[float, float, float]:
    """One number for all channels or three with commas, as decimals or fractions: `0.5`, `128/255`, `0.48,0.46,0.41`.

    raises     OptionInvalid
    """
    try:
        values = [float(Fraction(part.strip())) for part in text.split(",")]
    except (ValueError, ZeroDivisionError) as fault:
        raise OptionInvalid(f"{option}: {text!r} is not a number or three with commas, as 0.5 or 128/255") from fault
    if len(values) not in (1, 3):
        raise OptionInvalid(f"{option}: {text!r} has {len(values)} numbers; one for all channels, or three")
    red, green, blue = values * 3 if len(values) == 1 else values
    return red, green, blue


def one_of(option: str, text: str, choices: type[Choice]) -> Choice:
    """One of an enumeration; a dash reads as an underscore.

    raises     OptionInvalid, listing the choices
    """
    for choice in choices:
        if text.replace("-", "_") == choice.value:
            return choice
    raise OptionInvalid(f"{option}: {text!r} is not one of {', '.join(choices)}")


def positive(option: str, value: float) -> float:
    """A finite number above 0.

    raises     OptionInvalid
    """
    if not 0 < value < float("inf"):
        raise OptionInvalid(f"{option} is {value}; it must be above 0")
    return value


def weights(model: str, pretrained: str | None, checkpoint: Path | None, random_weights: bool) -> str | None:
    """Which weights were chosen: a tag or a file, or None for random ones and for a model that brings its own.

    raises     OptionInvalid unless exactly one was, or none where the model has its own
    """
    options = {"--pretrained": pretrained, "--checkpoint": checkpoint, "--random-weights": random_weights or None}
    given = [name for name, value in options.items() if value is not None]
    if brings_weights(model):
        if given:
            raise OptionInvalid(f"{model} brings its own weights; leave out {' and '.join(given)}")
        return None
    if len(given) != 1:
        raise OptionInvalid(
            "choose one of --pretrained TAG, --checkpoint FILE and --random-weights; "
            f"given: {' and '.join(given) or 'none'}. "
            "Example: fedmq bundle make --model ViT-B-32 --pretrained openai --labels dog,cat --out pets"
        )
    if checkpoint is not None:
        if not checkpoint.is_file():
            raise OptionInvalid(f"--checkpoint: {checkpoint} is no file")
        return str(checkpoint)
    return pretrained
