"""Shapes of what is found outdoors: tree, house, boat, fish, car, star, flower, mushroom.

A shape is a function of a random generator: which variant, and in what proportions.
"""

import numpy as np

from fedmq_models.tiny.parts import Part, Role, arc, box, ellipse, polygon, ribbon, rod


def tree(rng: np.random.Generator) -> list[Part]:
    """A conifer of two to four tiers, or a round crown of one or several blobs."""
    half, top = rng.uniform(0.08, 0.16), rng.uniform(0.1, 0.35)
    trunk = polygon(Role.WOOD, (-half, top - 0.2), (half, top - 0.2), (half * 1.5, 0.98), (-half * 1.5, 0.98))
    if rng.random() < 0.45:
        tiers = int(rng.integers(2, 5))
        width, y = rng.uniform(0.5, 0.75), np.linspace(-0.98, top + 0.25, tiers + 1)
        crown = []
        for i in reversed(range(tiers)):
            reach = width * (i + 1.3) / (tiers + 0.3)
            apex = y[i] - (0.18 if i else 0.0)
            crown.append(polygon(Role.MAIN, (0, apex), (reach, y[i + 1]), (-reach, y[i + 1])))
        return [trunk, *crown]
    if rng.random() < 0.4:
        return [trunk, ellipse(Role.MAIN, 0, -0.3, rng.uniform(0.55, 0.8), rng.uniform(0.55, 0.72))]
    blobs = int(rng.integers(4, 7))
    angles = np.linspace(0, 2 * np.pi, blobs, endpoint=False) + rng.uniform(0, 2)
    around = [
        ellipse(Role.MAIN, 0.42 * np.cos(a), -0.35 + 0.34 * np.sin(a), rng.uniform(0.3, 0.4), rng.uniform(0.28, 0.36))
        for a in angles
    ]
    return [trunk, *around, ellipse(Role.MAIN, 0, -0.35, 0.42, 0.4)]


def house(rng: np.random.Generator) -> list[Part]:
    """Walls, a gabled or hipped roof, a door, one to three windows, perhaps a chimney."""
    w, eave = rng.uniform(0.62, 0.85), rng.uniform(-0.25, 0.0)
    ridge, flat = rng.uniform(-0.95, -0.7), rng.choice([0.0, 0.0, 0.35]) * w
    over = w + rng.uniform(0.06, 0.16)
    parts = [
        box(Role.MAIN, -w, eave, w, 0.9),
        polygon(Role.ALT, (-flat, ridge), (flat + 1e-3, ridge), (over, eave), (-over, eave)),
    ]
    if rng.random() < 0.6:
        x = rng.uniform(0.2, 0.5) * rng.choice([-1, 1])
        parts.insert(0, box(Role.GREY, x - 0.09, ridge - 0.02, x + 0.09, eave))
    door = rng.choice([-0.45, 0.0, 0.45]) * w
    parts.append(box(Role.WOOD, door - 0.14, 0.32, door + 0.14, 0.9))
    windows = [x for x in (-0.55 * w, 0.0, 0.55 * w) if abs(x - door) > 0.3 * w and rng.random() < 0.85]
    return [*parts, *(box(Role.LIGHT, x - 0.14, 0.14, x + 0.14, 0.45) for x in windows)]


def boat(rng: np.random.Generator) -> list[Part]:
    """A sailing boat with one or two sails, or a steamer with cabin and funnels."""
    deck, keel = rng.uniform(0.35, 0.45), rng.uniform(0.78, 0.92)
    bow, stern = rng.uniform(0.85, 0.98), rng.uniform(0.75, 0.95)
    hull = polygon(Role.MAIN, (-stern, deck), (bow, deck), (bow - 0.35, keel), (-stern + 0.25, keel))
    if rng.random() < 0.6:
        mast, top = rng.uniform(-0.15, 0.1), rng.uniform(-0.98, -0.8)
        bottom = deck - 0.12
        sails = [polygon(Role.LIGHT, (mast + 0.05, top + 0.05), (mast + 0.72, bottom - 0.03), (mast + 0.05, bottom))]
        if rng.random() < 0.7:
            sails.append(polygon(Role.ALT, (mast - 0.06, top + 0.2), (mast - 0.06, bottom), (mast - 0.6, bottom)))
        return [rod(Role.WOOD, mast, top, mast, deck, 0.07), *sails, hull]
    cabin_top = deck - rng.uniform(0.35, 0.45)
    parts = []
    for x in (-0.2, 0.2) if rng.random() < 0.5 else (0.0,):
        parts.append(box(Role.ALT, x - 0.11, cabin_top - 0.5, x + 0.11, cabin_top + 0.05))
        parts.append(box(Role.DARK, x - 0.11, cabin_top - 0.5, x + 0.11, cabin_top - 0.38))
    parts += [box(Role.LIGHT, -0.52, cabin_top, 0.5, deck + 0.02), hull]
    parts += [ellipse(Role.DARK, x, (cabin_top + deck) / 2, 0.08, 0.08) for x in (-0.3, 0.0, 0.3)]
    return parts


def fish(rng: np.random.Generator) -> list[Part]:
    """A lens-shaped body with tail, fins and an eye, striped or plain."""
    length, height = rng.uniform(0.62, 0.72), rng.uniform(0.3, 0.52)
    t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    outline = np.column_stack([0.15 + length * np.cos(t), height * np.sin(t) * (0.78 + 0.22 * np.cos(t))])
    fork = rng.uniform(0.0, 0.2)
    tail = polygon(Role.ALT, (-0.38, 0), (-0.95, -0.45), (-0.95 + fork, 0), (-0.95, 0.45))
    fin = polygon(Role.ALT, (-0.2, -height * 0.7), (0.0, -height - 0.28), (0.4, -height * 0.7))
    belly = polygon(Role.ALT, (-0.1, height * 0.7), (0.0, height + 0.2), (0.25, height * 0.75))
    parts = [tail, fin, *([belly] if rng.random() < 0.6 else []), Part(outline, Role.MAIN)]
    if rng.random() < 0.45:
        stripes = (-0.12, 0.12, 0.34)[: rng.integers(2, 4)]
        parts += [ribbon(Role.ALT, arc(x - 0.2, 0, 0.2, height * 0.72, -70, 70), 0.08) for x in stripes]
    eye = (0.55, -height * 0.22)
    return [*parts, ellipse(Role.LIGHT, *eye, 0.1, 0.1), ellipse(Role.DARK, *eye, 0.05, 0.05)]


def car(rng: np.random.Generator) -> list[Part]:
    """A saloon, a hatchback or a van, seen from the side on two wheels."""
    roof, belt, floor = rng.uniform(-0.55, -0.4), rng.uniform(-0.08, 0.02), rng.uniform(0.4, 0.48)
    back, front = (-0.9, 0.62) if (van := rng.random() < 0.3) else (-0.62, 0.5)
    if not van and rng.random() < 0.4:
        back = -0.88
    slope = rng.uniform(0.15, 0.28)
    lean = 0.0 if van else slope
    belt_end = belt + 0.06
    cabin = polygon(Role.MAIN, (back + lean, roof), (front - slope, roof), (front, belt_end), (back, belt_end))
    body = polygon(Role.MAIN, (-0.95, belt), (0.8, belt + 0.03), (0.98, belt + 0.2), (0.98, floor), (-0.97, floor))
    pane, sill = roof + 0.1, belt - 0.01
    before, after = (back + front) / 2 - 0.04, (back + front) / 2 + 0.04
    rear = polygon(Role.LIGHT, (back + slope + 0.04, pane), (before, pane), (before, sill), (back + 0.14, sill))
    side = polygon(Role.LIGHT, (after, pane), (front - slope - 0.03, pane), (front - 0.12, sill), (after, sill))
    parts = [cabin, body, rear, side]
    wheel = rng.uniform(0.2, 0.27)
    for x in (-0.55, 0.56):
        parts += [ellipse(Role.DARK, x, floor, wheel, wheel), ellipse(Role.GREY, x, floor, wheel * 0.5, wheel * 0.5)]
    if rng.random() < 0.6:
        parts.append(ellipse(Role.ALT, 0.9, belt + 0.22, 0.07, 0.07))
    return parts


def star(rng: np.random.Generator) -> list[Part]:
    """Four, five or six points, perhaps with a smaller star inside."""
    points, inner = int(rng.choice([4, 5, 5, 5, 6])), rng.uniform(0.36, 0.5)
    t = -np.pi / 2 + np.arange(2 * points) * np.pi / points
    radius = np.where(np.arange(2 * points) % 2 == 0, 0.97, 0.97 * inner)
    corners = np.column_stack([radius * np.cos(t), radius * np.sin(t)])
    parts = [polygon(Role.MAIN, *map(tuple, corners))]
    if rng.random() < 0.35:
        parts.append(polygon(Role.ALT, *map(tuple, corners * rng.uniform(0.4, 0.6))))
    return parts


def flower(rng: np.random.Generator) -> list[Part]:
    """A daisy of five to eight petals on a stem with leaves, or a tulip."""
    y = np.linspace(-0.3, 0.98, 8)
    bend = rng.uniform(-0.15, 0.15) * np.sin(np.linspace(0, 3, 8))
    parts = [ribbon(Role.LEAF, np.column_stack([bend, y]), 0.09)]
    sides = [side for side in (-1, 1) if rng.random() < 0.75]
    parts += [ellipse(Role.LEAF, 0.3 * side, rng.uniform(0.45, 0.7), 0.3, 0.1, -35 * side) for side in sides]
    if rng.random() < 0.25:
        w, low = rng.uniform(0.36, 0.46), rng.uniform(-0.62, -0.52)
        tips = ((-w, -0.9), (-w / 2, low), (0, -0.95), (w / 2, low), (w, -0.9))
        return [*parts, polygon(Role.MAIN, *tips, (w * 0.8, -0.2), (0, 0.0), (-w * 0.8, -0.2))]
    petals, reach = int(rng.integers(5, 9)), rng.uniform(0.3, 0.38)
    for a in np.arange(petals) * 360 / petals + rng.uniform(0, 60):
        x, y = reach * np.cos(np.radians(a)), -0.42 + reach * np.sin(np.radians(a))
        parts.append(ellipse(Role.MAIN, x, y, 0.25, min(0.17, 0.95 / petals), a))
    return [*parts, ellipse(Role.ALT, 0, -0.42, 0.19, 0.19)]


def mushroom(rng: np.random.Generator) -> list[Part]:
    """A dome or a cone of a cap with or without spots, gills, and a stout stalk."""
    rim, height, foot = rng.uniform(0.0, 0.12), rng.uniform(0.65, 0.95), rng.uniform(0.2, 0.34)
    width = rng.uniform(0.72, 0.92)
    stalk = polygon(Role.LIGHT, (-foot * 0.75, rim), (foot * 0.75, rim), (foot * 1.15, 0.9), (-foot * 1.15, 0.9))
    dome = arc(0, rim, width, height, 180, 360)
    if rng.random() < 0.3:
        dome = dome + np.column_stack([np.zeros(len(dome)), -0.12 * np.exp(-((dome[:, 0] / 0.2) ** 2))])
    brim = arc(0, rim, width, rng.uniform(0.1, 0.2), 0, 180)
    parts = [stalk, Part(np.concatenate([dome, brim]), Role.MAIN)]
    if rng.random() < 0.5:
        parts.append(ellipse(Role.ALT, 0, rim + 0.05, width * 0.7, 0.07))
    if rng.random() < 0.65:
        for x, y in ((-0.45, 0.32), (0.0, 0.62), (0.42, 0.3), (-0.05, 0.24))[: rng.integers(2, 5)]:
            r = rng.uniform(0.08, 0.14)
            parts.append(ellipse(Role.LIGHT, x * width, rim - y * height, r, r))
    return parts
