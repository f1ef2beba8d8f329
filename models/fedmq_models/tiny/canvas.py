"""The canvas: what all four renderers share. Filled parts, smooth noise, blur, and the way down to the final size.

Everything is drawn on one fixed square and then resampled, so a picture is the same picture at every size.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from fedmq_models.tiny.parts import Part, Points, Role

Plane = NDArray[np.float32]  # (SIDE, SIDE)
Picture = NDArray[np.float32]  # (SIDE, SIDE, 3) in 0..1
Colour = NDArray[np.float32]  # (3,) red, green, blue in 0..1
Map = NDArray[np.uint8]  # (SIDE, SIDE), 0 is background, i + 1 is part i

SIDE: Final = 96  # twice the model's 48 pixels: enough to antialias, and every renderer's cost grows with its square


def pixels(outline: Points) -> list[float]:
    """An outline in picture coordinates as Pillow wants it: x0, y0, x1, y1, ... in canvas pixels."""
    flat: list[float] = (outline * SIDE).ravel().tolist()
    return flat


def fill(parts: Sequence[Part]) -> Map:
    """Which part is seen at each canvas pixel, later parts in front."""
    image = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    for number, part in enumerate(parts, start=1):
        draw.polygon(pixels(part.outline), fill=number)
    return np.asarray(image)


def coloured(
    seen: Map, parts: Sequence[Part], colours: Mapping[Role, NDArray[np.float32]], backdrop: Picture
) -> Picture:
    """Flat colours of the parts over a backdrop."""
    palette = np.stack([np.zeros(3, np.float32), *(colours[part.role] for part in parts)])
    return np.where(seen[..., None] > 0, palette[seen], backdrop)


def blend(colours: NDArray[np.float32], mix: Plane) -> Picture:
    """Of two colours (2, 3), the first where mix is 0 and the second where it is 1."""
    blended: Picture = colours[0] + (colours[1] - colours[0]) * mix[..., None]
    return blended


def stretched(grid: NDArray[np.float32]) -> Plane:
    """A low-resolution grid drawn smoothly over the whole canvas (bicubic)."""
    return np.asarray(Image.fromarray(grid).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def fractal(rng: np.random.Generator, cells: Sequence[int] = (3, 7, 16, 40)) -> Plane:
    """Value noise about 0 with a standard deviation near 0.5: each finer grid counts half as much."""
    total = np.zeros((SIDE, SIDE), np.float32)
    for octave, n in enumerate(cells):
        total += stretched(rng.uniform(-1, 1, (n, n)).astype(np.float32)) * 0.5**octave
    return total


def blurred(plane: Plane, radius: float) -> Plane:
    """Gaussian blur of values in 0..1, in canvas pixels; 8 bits deep, which is enough for shadows and relief.

    plane      (SIDE, SIDE), or a picture (SIDE, SIDE, 3)
    """
    image = Image.fromarray((plane * 255.0).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(image, np.float32) / np.float32(255.0)


def finish(picture: Picture, size: int) -> Image.Image:
    """An RGB image of size x size pixels."""
    image = Image.fromarray((np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))
    how = Image.Resampling.BOX if size <= SIDE else Image.Resampling.BICUBIC
    return image.resize((size, size), how)
