"""What the bench commands take as text, turned into values, or refused with a sentence."""

from collections.abc import Sequence
from pathlib import Path

from fedmq.compress import CODECS, codec
from fedmq.errors import ConfigInvalid

PICTURES = (".svg", ".png")


def codecs(text: str) -> list[str]:
    """Return names of codecs, such as fp32,int8; raises ConfigInvalid with those that exist."""
    return [codec(word.strip()).name for word in text.split(",")]


def all_codecs() -> str:
    """Return the name of every codec that there is, as an option would have them."""
    return ",".join(CODECS)


def one_of(option: str, text: str, choices: Sequence[str]) -> str:
    """Return the text if it is one of the choices."""
    if text not in choices:
        raise ConfigInvalid(f"{option} is {text!r}; it is one of {', '.join(choices)}")
    return text


def require_picture(path: Path) -> None:
    """Raise ConfigInvalid, before anything is measured, for a file that nothing can be drawn to."""
    if path.suffix not in PICTURES:
        raise ConfigInvalid(f"--plot {path}: a plot is {' or '.join(PICTURES)}")
