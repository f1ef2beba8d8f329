"""Paintings: a few hundred brush strokes that follow a smooth flow and carry the colour below them, on canvas.

Bare canvas shows between the colours, as where a painter keeps wet paints apart. Strokes must stay shorter than the
thin parts are wide: at twice this length keys and cups could not be told apart even by eye.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedmq_models.tiny.canvas import SIDE, Map, Picture, blend, blurred, coloured, fill, fractal, stretched
from fedmq_models.tiny.scene import Scene, Style

STYLE: Final = Style(warp=0.06, odd_colours=0.4, contrast=0.45, vivid=0.4)


def _dab(along: int, across: int) -> NDArray[np.float32]:
    """One stroke as points (n, 2) in the unit square with rounded corners, to be stretched to a length and a width."""
    u, v = np.meshgrid(np.linspace(-1, 1, along, dtype=np.float32), np.linspace(-1, 1, across, dtype=np.float32))
    return np.column_stack([u.ravel(), v.ravel()])[(u**4 + v**2 <= 1.05).ravel()]


# As many points as a stroke has pixels, so that it has no holes.
_BROAD, _FINE = _dab(13, 7), _dab(9, 5)
_THREAD = np.sin(np.arange(SIDE, dtype=np.float32) * np.pi / 2)
_CANVAS = 1.0 + 0.08 * np.outer(_THREAD, _THREAD)[..., None].astype(np.float32)


def render(scene: Scene, rng: np.random.Generator) -> Picture:
    """One painting, (SIDE, SIDE, 3) in 0..1."""
    seen = fill(scene.parts)
    ground = blend(scene.backdrop, np.clip(0.5 + 0.3 * fractal(rng, (3, 6)), 0, 1))
    flat = coloured(seen, scene.parts, scene.colours, ground)
    under = blurred(np.where(_borders(seen)[..., None], np.float32(1.0), flat), 0.8)

    # Broad strokes everywhere, then finer ones on the subject, as one would paint it.
    everywhere = rng.integers(0, SIDE * SIDE, int(rng.integers(220, 320)))
    subject = rng.choice(np.flatnonzero(seen), int(rng.integers(320, 440)))
    broad = _strokes(under, under, everywhere, _BROAD, (3.4, 6.7), (1.4, 2.4), rng)
    picture = _strokes(broad, under, subject, _FINE, (1.4, 3.4), (0.8, 1.3), rng)
    pigments = rng.uniform(8, 16)  # per channel
    cast = rng.normal(1.0, 0.08, 3).astype(np.float32)
    hung: Picture = np.round(picture * pigments) / pigments * cast * _CANVAS
    return hung


def _borders(seen: Map) -> NDArray[np.bool_]:
    """Canvas pixels within two of another part or of the background."""
    shifted = [np.roll(seen, shift, axis) for shift in (-2, -1, 1, 2) for axis in (0, 1)]
    near: NDArray[np.bool_] = np.any([seen != other for other in shifted], axis=0)
    return near


def _strokes(
    canvas: Picture,
    model: Picture,
    where: NDArray[np.intp],
    dab: NDArray[np.float32],
    lengths: tuple[float, float],
    widths: tuple[float, float],
    rng: np.random.Generator,
) -> Picture:
    """Lay strokes over `canvas`, each in the colour that `model` has at the stroke's middle.

    where      flat canvas indices of the middles, one per stroke
    dab        points (n, 2) of a stroke of half length and half width 1
    lengths    range of half lengths, and widths of half widths, in canvas pixels
    """
    count = len(where)
    y, x = where // SIDE, where % SIDE
    flow = stretched(rng.uniform(-np.pi, np.pi, (4, 4)).astype(np.float32))[y, x]
    flow += rng.normal(0.0, 0.25, count).astype(np.float32)
    along = np.outer(rng.uniform(*lengths, count).astype(np.float32), dab[:, 0])
    across = np.outer(rng.uniform(*widths, count).astype(np.float32), dab[:, 1])
    c, s = np.cos(flow)[:, None], np.sin(flow)[:, None]
    px = np.clip(x[:, None].astype(np.float32) + along * c - across * s, 0, SIDE - 1).astype(np.int16)
    py = np.clip(y[:, None].astype(np.float32) + along * s + across * c, 0, SIDE - 1).astype(np.int16)

    # Where strokes overlap the last one stays: NumPy assigns repeated indices in order.
    top = np.full((SIDE, SIDE), -1, np.intp)
    top[py, px] = np.arange(count)[:, None]
    paint = model[y, x] + rng.normal(0.0, 0.06, (count, 1)) + rng.normal(0.0, 0.03, (count, 3))
    return np.where(top[..., None] >= 0, paint.astype(np.float32)[top], canvas)
