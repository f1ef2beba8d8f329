"""Photos: textured things in a lit place, seen through a lens. No outlines.

Light does most of it: the gradient of the blurred silhouette stands in for a surface, so one side of a thing is bright,
the other dark, and a soft shadow falls away from the light. Then a camera's white balance, exposure, blur and noise.
"""

import math
from typing import Final

import numpy as np

from fedmq_models.tiny.canvas import SIDE, Picture, Plane, blend, blurred, coloured, fill, fractal
from fedmq_models.tiny.scene import Scene, Style

STYLE: Final = Style(warp=0.035, odd_colours=0.25, contrast=0.3, vivid=0.45)

_Y, _X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE
_RAMP = np.linspace(0, 1, 256, dtype=np.float32)  # a power of 256 levels, not of 27,648 values


def render(scene: Scene, rng: np.random.Generator) -> Picture:
    """One photo, (SIDE, SIDE, 3) in 0..1."""
    seen = fill(scene.parts)
    mask = (seen > 0).astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    lx, ly = math.cos(angle), math.sin(angle)  # towards the light

    shadow = blurred(mask, rng.uniform(2.0, 5.0))
    away = rng.uniform(2.0, 7.0)
    shadow = np.roll(shadow, (round(-ly * away), round(-lx * away)), (0, 1))
    ground = _place(scene, rng) * (1.0 - rng.uniform(0.25, 0.6) * shadow)[..., None]

    grain = 1.0 + rng.uniform(0.08, 0.22) * fractal(rng, (4, 10, 26))
    # Edges between parts rise a little too: neighbours have different heights.
    height = blurred(mask * 0.8 + (seen % 3) * np.float32(0.1), rng.uniform(1.5, 3.5))
    slope_x, slope_y = (np.asarray(np.gradient(height, axis=axis), np.float32) for axis in (1, 0))
    relief = (slope_x * lx + slope_y * ly) * np.float32(-rng.uniform(5.0, 9.0))  # bright where it faces the light
    shine: Plane = np.clip(relief - 0.35, 0, None) * rng.uniform(0.0, 0.9)
    picture = coloured(seen, scene.parts, scene.colours, ground)
    picture = np.where(mask[..., None] > 0, picture * (grain * (1.0 + relief))[..., None] + shine[..., None], ground)
    ramp = 1.0 + rng.uniform(0.0, 0.7) * ((_X - 0.5) * lx + (_Y - 0.5) * ly)
    return _camera(picture * ramp[..., None], rng)


def _place(scene: Scene, rng: np.random.Generator) -> Picture:
    """Behind the subject: ground under a sky, an unsharp jumble, a striped table, or a wall."""
    noise = fractal(rng)
    kind = rng.integers(4)
    if kind == 0:
        horizon = rng.uniform(0.35, 0.75) + 0.03 * noise
        mix = 1.0 / (1.0 + np.exp((horizon - _Y) * 40.0))
        noise = noise * (0.4 + 0.9 * mix)
    elif kind == 1:
        mix = np.clip(0.5 + 0.9 * fractal(rng, (3, 5)), 0, 1)
    elif kind == 2:
        turn, pitch = rng.normal(0.0, 0.5), rng.uniform(20, 60)
        along = _X * math.sin(turn) + _Y * math.cos(turn)
        mix = (np.sin(along * pitch + noise) > rng.uniform(0.3, 0.9)) * np.float32(0.35)
    else:
        mix = _X * rng.uniform(-0.5, 0.5) + _Y * rng.uniform(0.2, 0.6)
    shade = 1.0 + rng.uniform(0.08, 0.22) * noise
    place: Picture = blend(scene.backdrop, mix) * shade[..., None]
    return place


def _camera(picture: Picture, rng: np.random.Generator) -> Picture:
    """White balance, exposure, an unsharp lens, and a sensor's noise in brightness and colour."""
    balance, gamma = rng.normal(1.0, 0.06, 3).astype(np.float32), rng.uniform(0.75, 1.3)
    exposed = (_RAMP**gamma)[(np.clip(picture * balance, 0.0, 1.0) * 255.0).astype(np.uint8)]
    soft = blurred(exposed, rng.uniform(0.3, 1.7))
    noise = rng.standard_normal((SIDE, SIDE, 4), np.float32) * np.float32(rng.uniform(0.01, 0.06))
    noise[..., 1:] *= 0.5
    shot: Picture = soft + noise[..., :1] + noise[..., 1:]
    return shot
