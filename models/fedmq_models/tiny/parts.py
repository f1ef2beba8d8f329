"""Parts: the filled outlines that every picture is made of, before anything is placed or coloured.

Coordinates lie in [-1, 1], x to the right and y down. Thin things (masts, handles, stems) are ribbons, that is,
outlines of a thick line, so a renderer knows one kind of part only.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (n, 2), columns x and y


class Role(StrEnum):
    """What a part is, from which a palette decides its colour."""

    MAIN = "main"
    ALT = "alt"
    DARK = "dark"
    LIGHT = "light"
    WOOD = "wood"
    LEAF = "leaf"
    GREY = "grey"


@dataclass(frozen=True)
class Part:
    """One closed outline (n, 2) and the role that colours it; later parts hide earlier ones."""

    outline: Points
    role: Role


def polygon(role: Role, *corners: tuple[float, float]) -> Part:
    """Straight edges between the corners, each cut in four so that a later warp can bend it."""
    start = np.asarray(corners, dtype=np.float64)
    end = np.roll(start, -1, axis=0)
    t = np.linspace(0.0, 1.0, 4, endpoint=False)[None, :, None]
    return Part((start[:, None] * (1 - t) + end[:, None] * t).reshape(-1, 2), role)


def box(role: Role, left: float, top: float, right: float, bottom: float) -> Part:
    """An upright rectangle."""
    return polygon(role, (left, top), (right, top), (right, bottom), (left, bottom))


def arc(x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0) -> Points:
    """Points along an ellipse; degrees, clockwise from the right (y points down)."""
    count = max(6, int(abs(stop - start) / 15))
    t = np.radians(np.linspace(start, stop, count))
    return np.column_stack([x + rx * np.cos(t), y + ry * np.sin(t)])


def ellipse(role: Role, x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> Part:
    """A full ellipse with half axes rx and ry, turned by `tilt` degrees."""
    ring = arc(0.0, 0.0, rx, ry)[:-1]
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    return Part(ring @ np.array([[c, s], [-s, c]]) + (x, y), role)


def ribbon(role: Role, path: Points, width: float) -> Part:
    """The outline of a line of that width along `path`; a path that ends where it starts becomes a ring with a hole."""
    step = np.gradient(path, axis=0)
    normal = np.column_stack([-step[:, 1], step[:, 0]])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    return Part(np.concatenate([path + normal * width / 2, (path - normal * width / 2)[::-1]]), role)


def rod(role: Role, x0: float, y0: float, x1: float, y1: float, width: float) -> Part:
    """A straight ribbon between two points."""
    return ribbon(role, np.linspace((x0, y0), (x1, y1), 5), width)
