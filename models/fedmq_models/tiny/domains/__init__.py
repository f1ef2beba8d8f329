"""The four domains: each is a style for its scenes and a way to render them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from fedmq_models.tiny.canvas import Picture
from fedmq_models.tiny.domains import cartoon, painting, photo, sketch
from fedmq_models.tiny.scene import Scene, Style


@dataclass(frozen=True)
class Domain:
    """What a domain asks of a scene, and how it turns a scene and a random generator into a picture."""

    style: Style
    render: Callable[[Scene, np.random.Generator], Picture]


BY_NAME: Final[Mapping[str, Domain]] = {
    "photo": Domain(photo.STYLE, photo.render),
    "sketch": Domain(sketch.STYLE, sketch.render),
    "cartoon": Domain(cartoon.STYLE, cartoon.render),
    "painting": Domain(painting.STYLE, painting.render),
}
