"""The model of a method in torch: its adapter, and its head or the frozen text features in its place."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedmq_models.errors import OptionInvalid
from fedmq_models.head import HEAD, Head, without
from fedmq_models.method import Method

if TYPE_CHECKING:
    from torch import Tensor, nn

Array = NDArray[np.float32]


class Model:
    """A method's params as torch has them: the arrays that it is given, which change as they are trained.

    adapter     features in, adapted features out
    classes     (classes, dim) what these are compared with; a parameter where it is learned
    scale       of the logits
    """

    def __init__(self, how: Method, params: Mapping[str, Array], text: Array, logit_scale: float) -> None:
        import torch

        if how.head is Head.SOLVED:
            raise OptionInvalid(f"the method {how.name!r} is not trained: its head is solved by the aggregator")
        self.how = how
        self.adapter = loaded(how, params, text.shape[1])
        is_learned = HEAD in params
        self.classes, self.scale = torch.from_numpy(params[HEAD] if is_learned else text.copy()), logit_scale
        self.classes.requires_grad_(is_learned)
        self._names = tuple(params)

    def named(self) -> "dict[str, Tensor]":
        """Return the live tensors of all params by name, buffers of the adapter included."""
        found = self.adapter.state_dict(keep_vars=True) | {HEAD: self.classes}
        return {name: found[name] for name in self._names}

    def trainable(self) -> "Iterator[Tensor]":
        """Yield what an optimizer moves."""
        return (value for value in self.named().values() if value.requires_grad)

    def params(self) -> dict[str, Array]:
        """Return the values of all params, in the order in which they were given."""
        return {name: value.detach().numpy() for name, value in self.named().items()}

    def loss(self, name: str, adapted: "Tensor", labels: "Tensor") -> "Tensor":
        """Return the method's loss of a batch."""
        return self.how.loss(name, adapted, labels, self.classes, self.scale)


def loaded(how: Method, params: Mapping[str, Array], dim: int) -> "nn.Module":
    """Return a method's adapter of these params, which are not copied."""
    import torch

    with torch.device("meta"):  # or torch would draw a start that nobody wants, which takes as long as two steps
        adapter = how.module(dim)
    values = {name: torch.from_numpy(value) for name, value in without(params).items()}
    adapter.load_state_dict(values, assign=True)
    return adapter
