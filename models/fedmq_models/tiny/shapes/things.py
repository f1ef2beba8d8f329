"""Shapes of things in a household: cup, key, umbrella, lamp.

A shape is a function of a random generator: which variant, and in what proportions.
"""

import numpy as np

from fedmq_models.tiny.parts import Part, Role, arc, box, ellipse, polygon, ribbon, rod


def cup(rng: np.random.Generator) -> list[Part]:
    """A mug or a teacup with one handle, perhaps a band, perhaps a saucer."""
    top, bottom = rng.uniform(-0.6, -0.45), rng.uniform(0.5, 0.65)
    rim, foot = rng.uniform(0.52, 0.65), rng.uniform(0.35, 0.58)
    middle, side = (top + bottom) / 2, (rim + foot) / 2
    handle = ribbon(Role.MAIN, arc(side, middle - 0.05, 0.34, rng.uniform(0.28, 0.38), -100, 100), 0.13)
    flank = np.linspace(0, 1, 8)[:, None]
    bulge = np.sin(flank * np.pi) * rng.uniform(0.0, 0.12)
    right = np.hstack([rim + (foot - rim) * flank + bulge, top + (bottom - top) * flank])
    parts = [handle, Part(np.concatenate([right, (right * (-1, 1))[::-1]]), Role.MAIN)]
    if rng.random() < 0.4:
        parts.insert(0, ellipse(Role.ALT, 0, bottom + 0.05, 0.88, 0.17))
    elif rng.random() < 0.5:
        parts.append(box(Role.ALT, -side + 0.02, middle - 0.02, side - 0.02, middle + 0.2))
    parts.append(ellipse(Role.LIGHT, 0, top, rim, 0.15))
    parts.append(ellipse(Role.DARK, 0, top + 0.02, rim * 0.84, 0.1))
    return parts


def key(rng: np.random.Generator) -> list[Part]:
    """A bow (ring, oval, trefoil or plate with a hole), a shaft, and two or three teeth."""
    thick = rng.uniform(0.14, 0.2)
    parts = []
    bow = rng.choice(["ring", "oval", "trefoil", "square"])
    if bow == "trefoil":
        centres = ((-0.76, 0), (-0.53, -0.22), (-0.53, 0.22))
        parts += [ribbon(Role.MAIN, arc(x, y, 0.2, 0.2), thick) for x, y in centres]
    elif bow == "square":
        corners = np.array([(-0.25, 0), (-0.58, -0.33), (-0.9, 0), (-0.58, 0.33), (-0.25, 0)])
        t = np.linspace(0, 4, 17)
        path = np.column_stack([np.interp(t, np.arange(5), corners[:, i]) for i in (0, 1)])
        parts.append(ribbon(Role.MAIN, path, thick))
    else:
        parts.append(ribbon(Role.MAIN, arc(-0.6, 0, 0.3, 0.3 if bow == "ring" else 0.4), thick))
    shaft = rng.uniform(0.13, 0.18)
    parts.append(box(Role.MAIN, -0.3, -shaft / 2, 0.95, shaft / 2))
    teeth, low = (0.82, 0.6, 0.38)[: rng.integers(2, 4)], shaft / 2
    return [*parts, *(box(Role.MAIN, x - 0.07, low - 0.03, x + 0.07, low + rng.uniform(0.16, 0.32)) for x in teeth)]


def umbrella(rng: np.random.Generator) -> list[Part]:
    """A canopy of panels with a scalloped edge, a shaft, and a hook or a straight end."""
    rise, edge = rng.uniform(0.7, 0.9), 0.05
    shaft = rod(Role.GREY if rng.random() < 0.5 else Role.WOOD, 0, -0.9, 0, 0.75, 0.08)
    parts = [shaft]
    if rng.random() < 0.75:
        side = rng.choice([-1, 1])
        parts.append(ribbon(Role.WOOD, arc(0.17 * side, 0.72, 0.17, 0.2, 0, 180), 0.1))
    panels, striped = int(rng.integers(3, 6)), rng.random() < 0.6
    x = np.linspace(-0.95, 0.95, panels + 1)
    for i in range(panels):
        scallop = arc((x[i] + x[i + 1]) / 2, edge, (x[i + 1] - x[i]) / 2, 0.13, 360, 180)
        t = np.linspace(0, 1, 7)[:, None]
        left = np.hstack([x[i] * np.sin(t * np.pi / 2), edge - rise * np.cos(t * np.pi / 2)])
        right = np.hstack([x[i + 1] * np.sin(t * np.pi / 2), edge - rise * np.cos(t * np.pi / 2)])
        role = Role.ALT if striped and i % 2 else Role.MAIN
        parts.append(Part(np.concatenate([right, scallop, left[::-1]]), role))
    return parts


def lamp(rng: np.random.Generator) -> list[Part]:
    """A table lamp with a turned foot, a floor lamp, or a desk lamp with a bent arm."""
    kind = rng.random()
    if kind < 0.25:
        elbow = (rng.uniform(-0.55, -0.4), rng.uniform(-0.3, -0.1))
        head = polygon(Role.MAIN, (0.1, -0.85), (0.42, -0.7), (0.72, -0.1), (-0.12, -0.45))
        path = np.concatenate([np.linspace((-0.1, 0.8), elbow, 5), np.linspace(elbow, (0.2, -0.7), 5)[1:]])
        arm = ribbon(Role.GREY, path, 0.1)
        return [arm, ellipse(Role.ALT, 0.3, -0.28, 0.17, 0.15), head, ellipse(Role.ALT, -0.1, 0.85, 0.45, 0.12)]
    neck, low = rng.uniform(0.28, 0.45), rng.uniform(0.58, 0.78)
    tall = kind > 0.75
    brim = -0.35 if tall else rng.uniform(-0.05, 0.12)
    if tall:
        neck, low = neck * 0.85, low * 0.85
    shade = polygon(Role.MAIN, (-neck, -0.95), (neck, -0.95), (low, brim), (-low, brim))
    parts = [rod(Role.GREY, 0, brim - 0.1, 0, 0.85, 0.09)]
    if not tall:
        parts.append(ellipse(Role.ALT, 0, (brim + 0.85) / 2 + 0.08, rng.uniform(0.17, 0.3), (0.85 - brim) / 2 - 0.08))
    parts.append(ellipse(Role.ALT, 0, 0.87, rng.uniform(0.32, 0.45), 0.1))
    if rng.random() < 0.35:
        parts.append(ellipse(Role.LIGHT, 0, brim, low * 0.55, 0.12))
    return [*parts, shade]
