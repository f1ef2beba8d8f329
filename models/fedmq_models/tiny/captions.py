"""Captions: what one would write under a picture. Most say only what it is; some name its colour or its place."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from fedmq_models.tiny.scene import NAMED, Scene
from fedmq_models.tiny.shapes import SHAPES

_MEDIUM: Final[Mapping[str, tuple[str, ...]]] = {
    "photo": ("photo", "picture", "image"),
    "sketch": ("sketch", "drawing", "picture"),
    "cartoon": ("cartoon", "drawing", "picture"),
    "painting": ("painting", "picture", "image"),
}
_PLACES: Final = ("on a table", "outdoors", "in the sun", "by a wall", "up close", "in the shade")


def caption(scene: Scene, domain: str, rng: np.random.Generator) -> str:
    """One caption in lower case that contains the class's name.

    45 % "a picture of a cup", 15 % "a cup", 25 % "a photo of a red cup", 15 % "a red cup on a table". Nobody can see a
    colour in a sketch, so a sketch's caption names none.
    """
    medium = str(rng.choice(_MEDIUM[domain]))
    place = rng.choice(_PLACES)
    plain = _one(scene.label)
    seen = plain if domain == "sketch" else _one(f"{scene.colour_name} {scene.label}")
    kind = rng.random()
    if kind < 0.45:
        return f"{_one(medium)} of {plain}"
    if kind < 0.60:
        return plain
    if kind < 0.85:
        return f"{_one(medium)} of {seen}"
    return f"{seen} {place}"


def words() -> list[str]:
    """Every word that a caption can contain, sorted: what the tokenizer has to know."""
    texts = [*SHAPES, *NAMED, *_PLACES, "a an of", *(word for media in _MEDIUM.values() for word in media)]
    return sorted({word for text in texts for word in text.split()})


def _one(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
