"""The head: class weights that are learned, in the place of the text features that a bundle froze.

A head W (classes, dim) gives the logits s W x / |x| of an adapted feature x, where s is the logit scale and stays what
it is. It begins as the text features, so that version 0 classifies as the frozen model does; so does FEDOT's. Whatever
takes text features takes a head as well, so losses and classifiers are the same with and without one. The scale is not
part of W because W would then be a hundred times as large as the params of an adapter beside it, and one learning rate
could not serve both.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

HEAD = "head.weight"


def beginning(text: Array) -> dict[str, Array]:
    """Return the head at version 0."""
    return {HEAD: text.copy()}


def compared(params: Mapping[str, Array], text: Array) -> Array:
    """Return the rows (classes, dim) that adapted features are compared with: the head, or the text without one."""
    return params.get(HEAD, text)


def without(params: Mapping[str, Array]) -> dict[str, Array]:
    """Return the params of the adapter alone."""
    return {name: value for name, value in params.items() if name != HEAD}
