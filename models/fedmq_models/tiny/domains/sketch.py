"""Sketches: grey pen on off-white paper, a few uncertain passes round every part, sometimes hatched. No colour."""

from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from fedmq_models.tiny.canvas import SIDE, Picture, Plane, fill, pixels
from fedmq_models.tiny.scene import Scene, Style

STYLE: Final = Style(warp=0.05, odd_colours=0.0, contrast=0.0)


def render(scene: Scene, rng: np.random.Generator) -> Picture:
    """One sketch, (SIDE, SIDE, 3) in 0..1 with three equal channels."""
    paper, ink = int(rng.uniform(220, 252)), int(rng.uniform(10, 95))
    image = Image.new("L", (SIDE, SIDE), paper)
    draw = ImageDraw.Draw(image)
    passes, shake, pen = int(rng.integers(1, 4)), rng.uniform(0.3, 1.1), int(rng.integers(1, 3))
    for part in scene.parts:
        draw.polygon(pixels(part.outline), fill=paper)  # hides what lies behind
        for _ in range(passes):
            path = pixels(part.outline + rng.normal(0.0, shake / SIDE, part.outline.shape))
            draw.line(path + path[:2], fill=ink + int(rng.integers(0, 40)), width=pen)
    sheet = np.asarray(image, np.float32) / 255.0
    if rng.random() < 0.45:
        sheet = np.minimum(sheet, _hatching(scene, ink / 255.0, rng))
    sheet = sheet + rng.normal(0.0, 0.02, (SIDE, SIDE)).astype(np.float32)
    return np.repeat(sheet[..., None], 3, axis=2)


def _hatching(scene: Scene, ink: float, rng: np.random.Generator) -> Plane:
    """Parallel lines inside some of the parts; 1 elsewhere."""
    chosen = rng.random(len(scene.parts) + 1) < 0.6
    chosen[0] = False
    angle, gap = rng.uniform(0, np.pi), rng.uniform(4.0, 8.0)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    line = (x * np.cos(angle) + y * np.sin(angle)) % gap < rng.uniform(0.9, 1.6)
    return np.where(chosen[fill(scene.parts)] & line, np.float32(min(1.0, ink + 0.25)), np.float32(1.0))
