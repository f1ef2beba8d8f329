"""Cartoons: flat saturated colours, rarely natural, a thick black line round every part and a white rim round all, as
on a sticker.

The rim is what a model of photos stumbles over most, and in the same way each time, which makes it something to learn.
"""

import colorsys
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from fedmq_models.tiny.canvas import SIDE, Colour, Picture, pixels
from fedmq_models.tiny.scene import Scene, Style

STYLE: Final = Style(warp=0.07, odd_colours=0.7, contrast=0.4, vivid=0.38)

_RIM: Final = 10  # canvas pixels, half of them hidden under the subject

Rgb = tuple[int, int, int]


def render(scene: Scene, rng: np.random.Generator) -> Picture:
    """One cartoon, (SIDE, SIDE, 3) in 0..1."""
    image = Image.new("RGB", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    _background(draw, _loud(scene.backdrop[0]), _loud(scene.backdrop[1]), rng)
    pen = int(rng.integers(3, 5))
    outlines = [pixels(part.outline) for part in scene.parts]
    for outline in outlines:
        draw.line(outline + outline[:4], fill=(250, 250, 250), width=_RIM, joint="curve")
    for part, outline in zip(scene.parts, outlines, strict=True):
        draw.polygon(outline, fill=_loud(scene.colours[part.role]))
        draw.line(outline + outline[:4], fill=(8, 8, 10), width=pen, joint="curve")
    return np.asarray(image, np.float32) / 255.0


def _background(draw: ImageDraw.ImageDraw, first: Rgb, second: Rgb, rng: np.random.Generator) -> None:
    """Plain, rays, dots or two bands."""
    draw.rectangle((0, 0, SIDE, SIDE), fill=first)
    kind = rng.choice(4, p=(0.55, 0.1, 0.1, 0.25))
    if kind == 1:
        x, y = rng.uniform(0.2, 0.8, 2) * SIDE
        turn, rays, far = rng.uniform(0, 360), int(rng.integers(6, 12)), 2 * SIDE
        for i in range(rays):
            start = turn + i * 360 / rays
            draw.pieslice((x - far, y - far, x + far, y + far), start, start + 180 / rays, fill=second)
    elif kind == 2:
        gap, r = rng.uniform(12, 22), rng.uniform(2, 5)
        for row, y in enumerate(np.arange(0, SIDE + gap, gap)):
            for x in np.arange(-gap / 2 * (row % 2), SIDE + gap, gap):
                draw.ellipse((x - r, y - r, x + r, y + r), fill=second)
    elif kind == 3:
        y0, y1 = rng.uniform(0.35, 0.75, 2) * SIDE
        draw.polygon([0, y0, SIDE, y1, SIDE, SIDE, 0, SIDE], fill=second)


def _loud(colour: Colour) -> Rgb:
    """The same hue, more saturated and brighter, as 8-bit RGB."""
    h, s, v = colorsys.rgb_to_hsv(*map(float, colour))
    s, v = min(1.0, s * 1.4), min(1.0, v * 1.15 + 0.05)
    r, g, b = colorsys.hsv_to_rgb(h, s, v)
    return int(r * 255), int(g * 255), int(b * 255)
