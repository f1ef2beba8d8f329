"""Scenes: one subject, posed and coloured, before a domain decides how it is rendered.

A scene is cheap (no pixel is drawn), so a caption can be written from it without the image. What differs between the
domains here is only how much is bent, how often colours are odd, and how far the subject must stand out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedmq_models.tiny.canvas import Colour
from fedmq_models.tiny.parts import Part, Points, Role
from fedmq_models.tiny.shapes import SHAPES

NAMED: Final[Mapping[str, tuple[float, float, float]]] = {
    "red": (0.80, 0.14, 0.12),
    "orange": (0.93, 0.50, 0.12),
    "yellow": (0.94, 0.82, 0.20),
    "green": (0.22, 0.56, 0.22),
    "blue": (0.18, 0.36, 0.76),
    "purple": (0.50, 0.24, 0.64),
    "pink": (0.93, 0.55, 0.68),
    "brown": (0.47, 0.30, 0.17),
    "white": (0.92, 0.91, 0.88),
    "grey": (0.55, 0.56, 0.58),
    "black": (0.13, 0.13, 0.15),
}
NATURAL: Final[Mapping[str, tuple[str, ...]]] = {
    "tree": ("green", "green", "green", "orange"),
    "house": ("white", "red", "yellow", "brown", "grey"),
    "boat": ("white", "red", "blue", "brown", "black"),
    "fish": ("orange", "grey", "blue", "yellow", "red"),
    "car": ("red", "blue", "white", "black", "grey", "yellow"),
    "cup": ("white", "red", "blue", "green", "black"),
    "star": ("yellow", "yellow", "orange", "red"),
    "flower": ("red", "pink", "yellow", "purple", "white"),
    "key": ("grey", "yellow", "brown", "black"),
    "umbrella": ("red", "black", "blue", "yellow", "purple"),
    "mushroom": ("red", "brown", "orange", "white"),
    "lamp": ("white", "yellow", "orange", "green", "red"),
}
_NAMES: Final = tuple(NAMED)
_FIXED: Final[Mapping[Role, tuple[float, float, float]]] = {
    Role.DARK: (0.10, 0.10, 0.12),
    Role.LIGHT: (0.86, 0.90, 0.92),
    Role.WOOD: (0.42, 0.27, 0.15),
    Role.LEAF: (0.20, 0.48, 0.18),
    Role.GREY: (0.50, 0.50, 0.53),
}
# A palette is drawn again while the subject would vanish in its background; more than this rarely helps.
_PALETTE_DRAWS: Final = 8


@dataclass(frozen=True)
class Style:
    """What a domain asks of a scene.

    warp         amplitude of the bending, in units of the subject's half width
    odd_colours  chance that the subject's colour is any named colour instead of a natural one
    contrast     least distance (RGB in 0..1, Euclidean) of the subject's colour from either background colour
    vivid        saturation of the background: 1 any colour, 0 greys only
    """

    warp: float
    odd_colours: float
    contrast: float
    vivid: float = 1.0


@dataclass(frozen=True)
class Scene:
    """A subject: its class, its parts in picture coordinates (0..1 is the frame), its colours and its background's.

    colour_name names the MAIN colour; backdrop is (2, 3), two background colours in 0..1.
    """

    label: str
    parts: tuple[Part, ...]
    colours: Mapping[Role, Colour]
    colour_name: str
    backdrop: NDArray[np.float32]


def compose(label: str, style: Style, rng: np.random.Generator) -> Scene:
    """Draw one scene of the class `label`; raises KeyError for a class that has no shape."""
    parts = _posed(SHAPES[label](rng), style.warp, rng)
    name, main, backdrop = _palette(label, style, rng)
    colours = {role: _near(rgb, 0.06, rng) for role, rgb in _FIXED.items()}
    colours[Role.MAIN] = main
    colours[Role.ALT] = _near(NAMED[str(rng.choice([other for other in _NAMES if other != name]))], 0.05, rng)
    return Scene(label, parts, colours, name, backdrop)


def _palette(label: str, style: Style, rng: np.random.Generator) -> tuple[str, Colour, NDArray[np.float32]]:
    """The subject's colour by name and value, and two background colours: the first draw with contrast, or the best."""
    best = None
    for _ in range(_PALETTE_DRAWS):
        odd = rng.random() < style.odd_colours
        name = str(rng.choice(_NAMES if odd else NATURAL[label]))
        main = _near(NAMED[name], 0.05, rng)
        backdrop = rng.uniform(0.08, 0.95, (2, 3)).astype(np.float32)
        backdrop = backdrop * style.vivid + backdrop.mean(axis=1, keepdims=True) * (1 - style.vivid)
        distance = float(np.linalg.norm(main - backdrop, axis=1).min())
        if best is None or distance > best[0]:
            best = distance, name, main, backdrop
        if distance > style.contrast:
            break
    assert best is not None
    return best[1:]


def _near(rgb: tuple[float, float, float], spread: float, rng: np.random.Generator) -> Colour:
    return np.clip(np.asarray(rgb) + rng.normal(0.0, spread, 3), 0.02, 0.98).astype(np.float32)


def _posed(parts: list[Part], warp: float, rng: np.random.Generator) -> tuple[Part, ...]:
    """Bend by smooth sines, then turn, stretch, shear, mirror, scale and place, all within the frame."""
    points = np.concatenate([part.outline for part in parts])
    frequency, phase = rng.uniform(1.5, 4.0, (2, 2)), rng.uniform(0, 2 * np.pi, (2, 2))
    points = points + warp * np.sin(points[:, ::-1] * frequency[0] + phase[0])
    points = points + warp * 0.5 * np.sin(points[:, ::-1] * frequency[1] * 2 + phase[1])

    turn, aspect = rng.normal(0.0, 0.17), rng.uniform(0.85, 1.15)
    c, s = np.cos(turn), np.sin(turn)
    stretch = np.array([[aspect * rng.choice([-1.0, 1.0]), rng.normal(0.0, 0.08)], [0.0, 1.0 / aspect]])
    points = points @ (np.array([[c, -s], [s, c]]) @ stretch).T

    reach = rng.uniform(0.58, 0.92)
    points *= reach / np.abs(points).max()
    slack = 1.0 - reach
    placed: Points = (points + rng.uniform(-slack, slack, 2) + 1.0) / 2.0
    cuts = np.cumsum([len(part.outline) for part in parts])[:-1]
    return tuple(Part(outline, part.role) for outline, part in zip(np.split(placed, cuts), parts, strict=True))
