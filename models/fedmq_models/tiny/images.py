"""Captioned images in four domains: draw one, caption one, or write a folder of them.

An image depends on its domain, class and seed and on nothing else, neither on the order nor on the process that draws
it. Versions of NumPy and Pillow may change single pixels.
"""

import os
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, PngImagePlugin

from fedmq_models.tiny import captions
from fedmq_models.tiny.canvas import finish
from fedmq_models.tiny.domains import BY_NAME
from fedmq_models.tiny.scene import Scene, compose
from fedmq_models.tiny.shapes import SHAPES

DOMAINS: Final = tuple(BY_NAME)
CLASSES: Final = tuple(SHAPES)
SIZE: Final = 48  # pixels; what the tiny CLIP sees
UNSEEN: Final = 100_000  # the shipped model was trained on seeds below; data for use or test starts here

# Three independent streams per image, so that a caption needs no pixel and a new caption style moves no pixel.
_SCENE, _RENDER, _CAPTION = 1, 2, 3


def draw(domain: str, label: str, seed: int, size: int = SIZE) -> Image.Image:
    """The RGB image of that domain, class and seed (0 or more), size x size pixels.

    raises     ValueError for a domain or a class that does not exist, naming those that do
    """
    scene = _scene(domain, label, seed)
    return finish(BY_NAME[domain].render(scene, _stream(domain, label, seed, _RENDER)), size)


def caption(domain: str, label: str, seed: int) -> str:
    """What belongs under `draw(domain, label, seed)`."""
    return captions.caption(_scene(domain, label, seed), domain, _stream(domain, label, seed, _CAPTION))


def write(folder: Path, domain: str, per_class: int, first_seed: int, size: int = SIZE) -> int:
    """Write folder/<class>/<seed>.png for every class and `per_class` seeds; the number newly written.

    Files that exist stay as they are, so an interrupted call is simply repeated. Each file appears whole or not at all.
    The caption travels inside the PNG as its "Description".
    """
    written = 0
    for label in CLASSES:
        place = folder / label
        place.mkdir(parents=True, exist_ok=True)
        for seed in range(first_seed, first_seed + per_class):
            path = place / f"{seed:06d}.png"
            if path.exists():
                continue
            text = PngImagePlugin.PngInfo()
            text.add_text("Description", caption(domain, label, seed))
            # The pid keeps two processes that fill one folder apart; ".part" keeps readers of *.png away.
            partial = path.with_suffix(f".{os.getpid()}.part")
            try:
                draw(domain, label, seed, size).save(partial, format="PNG", pnginfo=text, compress_level=1)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
            written += 1
    return written


def _scene(domain: str, label: str, seed: int) -> Scene:
    if domain not in BY_NAME:
        raise ValueError(f"no domain {domain!r}; there are {', '.join(DOMAINS)}")
    if label not in SHAPES:
        raise ValueError(f"no class {label!r}; there are {', '.join(CLASSES)}")
    return compose(label, BY_NAME[domain].style, _stream(domain, label, seed, _SCENE))


def _stream(domain: str, label: str, seed: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([DOMAINS.index(domain), CLASSES.index(label), seed, purpose])
