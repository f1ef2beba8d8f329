"""The head: class weights that are learned, in the place of the text features that a bundle froze.

A head W (classes, dim) gives the logits W x / |x| of an adapted feature x. It begins as the text features times the
logit scale, so that version 0 classifies as the frozen model does (CLIP's own zero-shot head; as FEDOT begins, and
FLYP, Goyal et al. 2023, arXiv:2212.00638). Whatever takes text features and a logit scale takes a head and 1 as well,
so losses and classifiers are the same with and without one.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

HEAD = "head.weight"


def beginning(text: Array, logit_scale: float) -> dict[str, Array]:
    """Return the head at version 0."""
    return {HEAD: np.float32(logit_scale) * text}


def compared(params: Mapping[str, Array], text: Array, logit_scale: float) -> tuple[Array, float]:
    """Return the rows (classes, dim) that adapted features are compared with, and the scale: a head, or the text."""
    head = params.get(HEAD)
    return (text, logit_scale) if head is None else (head, 1.0)


def without(params: Mapping[str, Array]) -> dict[str, Array]:
    """Return the params of the adapter alone."""
    return {name: value for name, value in params.items() if name != HEAD}
