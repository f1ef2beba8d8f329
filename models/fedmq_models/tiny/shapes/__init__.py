"""Shapes: what each class looks like, as parts with roles, with the variants that make a class more than one outline.

A shape knows no colour, no place and no domain. One source of shape for all four domains is what makes them domains:
only the rendering differs.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from fedmq_models.tiny.parts import Part
from fedmq_models.tiny.shapes.outdoors import boat, car, fish, flower, house, mushroom, star, tree
from fedmq_models.tiny.shapes.things import cup, key, lamp, umbrella

Shape = Callable[[np.random.Generator], list[Part]]

SHAPES: Final[Mapping[str, Shape]] = {
    shape.__name__: shape for shape in (tree, house, boat, fish, car, cup, star, flower, key, umbrella, mushroom, lamp)
}
