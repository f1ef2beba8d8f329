"""The head: class weights that are learned or solved, in the place of the text features that a bundle froze.

A head W (classes, dim) that is learned gives the logits s W x / |x| of an adapted feature x, where s is the logit scale
and stays what it is. It begins as the text features, so that version 0 classifies as the frozen model does; so does
FEDOT's. Whatever takes text features takes such a head as well, so losses and classifiers are the same with and without
one. The scale is not part of W because W would then be a hundred times as large as the params of an adapter beside it,
and one learning rate could not serve both.

A head that is solved has a bias b (classes,) too and gives the logits W x / |x| + b themselves: nobody trains it, and
who solves it knows no scale. It begins as the text features times the scale, and so classifies in the same way.
"""

from collections.abc import Mapping
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from fedmq_models.classifier import normalised

Array = NDArray[np.float32]

HEAD, BIAS = "head.weight", "head.bias"


class Head(Enum):
    """What adapted features are compared with: frozen text, or rows that are learned with the adapter, or solved."""

    TEXT = auto()
    LEARNED = auto()
    SOLVED = auto()


def beginning(kind: Head, text: Array, logit_scale: float) -> dict[str, Array]:
    """Return the head's params at version 0."""
    match kind:
        case Head.TEXT:
            return {}
        case Head.LEARNED:
            return {HEAD: text.copy()}
        case Head.SOLVED:
            return {HEAD: np.float32(logit_scale) * text, BIAS: np.zeros(len(text), np.float32)}


def compared(params: Mapping[str, Array], text: Array) -> Array:
    """Return the rows (classes, dim) that adapted features are compared with: the head, or the text without one."""
    return params.get(HEAD, text)


def solved(params: Mapping[str, Array], features: Array) -> Array:
    """Return logits (n, classes) of features (n, dim) of any norm by a head that was solved."""
    found: Array = normalised(features) @ params[HEAD].T + params[BIAS]
    return found


def affine(params: Mapping[str, Array], text: Array, logit_scale: float) -> tuple[Array, Array | None]:
    """Return weights (classes, dim) and bias (classes,) that make logits of a feature of norm 1; None is no bias."""
    if BIAS in params:
        return params[HEAD], params[BIAS]
    return np.float32(logit_scale) * compared(params, text), None


def without(params: Mapping[str, Array]) -> dict[str, Array]:
    """Return the params of the adapter alone."""
    return {name: value for name, value in params.items() if name not in (HEAD, BIAS)}
