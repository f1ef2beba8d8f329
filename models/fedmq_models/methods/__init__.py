"""The methods that there are, one file each, with its paper in its docstring; see `fedmq_models.method`.

One that adapts to a target domain brings the term of the loss that does it, whose state stays on the node.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedmq_models import classifier, head
from fedmq_models.errors import OptionInvalid
from fedmq_models.head import Head
from fedmq_models.method import Method
from fedmq_models.methods.closed_form import ClosedForm
from fedmq_models.methods.faaclip import FaaClip
from fedmq_models.methods.facmic import Facmic
from fedmq_models.methods.feature_adaptation import Norm
from fedmq_models.methods.fedclip import FedClip
from fedmq_models.methods.fedot import Fedot
from fedmq_models.methods.linear import Linear
from fedmq_models.methods.personal import Personal

if TYPE_CHECKING:
    from fedmq_models.target import Target
    from fedmq_models.terms import Term

Array = NDArray[np.float32]


@runtime_checkable
class Adapting(Protocol):
    """What a method that adapts to a target domain offers beside what every method does.

    keeps    in words, what its term keeps on a node from one run to the next; empty is nothing to speak of
    """

    name: str
    keeps: str

    def term(self, target: "Target", pool: Array, batch_size: int, seed: int) -> "Term":
        """Return what joins the loss of one node.

        pool         (n, dim), unlabelled features of the target domain, as the encoder gave them
        batch_size   target features per step, at most
        seed         of what is drawn once, such as the start of a head
        """


_METHODS: tuple[Method, ...] = (
    FedClip(),
    FaaClip("faaclip", Norm.LAYER),
    FaaClip("faaclip-reference", Norm.BATCH),
    Facmic("facmic", Norm.LAYER),
    Facmic("facmic-reference", Norm.BATCH),
    Linear(),
    Personal(),
    Fedot(),
    ClosedForm(),
)
METHODS: Mapping[str, Method] = {method.name: method for method in _METHODS}


def method(name: str) -> Method:
    """Return the method of that name, or raise OptionInvalid with those that exist."""
    try:
        return METHODS[name]
    except KeyError:
        raise OptionInvalid(f"no method named {name!r}; there are {', '.join(METHODS)}") from None


def version_0(how: Method, text: Array, logit_scale: float, rng: Generator) -> dict[str, Array]:
    """Return all params of a method as a federation begins with them, head first."""
    return head.beginning(how.head, text, logit_scale) | how.start(text.shape[1], rng)


def logits(how: Method, params: Mapping[str, Array], features: Array, text: Array, logit_scale: float) -> Array:
    """Return logits (n, classes) of features (n, dim) through the adapter, against the head or the text."""
    adapted = how.adapt(params, features)
    if how.head is Head.SOLVED:
        return head.solved(params, adapted)
    return classifier.logits(adapted, head.compared(params, text), logit_scale)
