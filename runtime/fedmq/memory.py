"""A node's memory: what its next process must know so that nothing it has learned is lost, and nothing counts twice.

A value, like everything else that a core emits: the node hands it to its shell whenever it changes (`Remember`), and is
handed the last one when it starts. What is not in it can be had again from the aggregator, or from the data.
"""

from dataclasses import dataclass, field

from fedmq.delta import Delta, Params
from fedmq.messages import Update


@dataclass(frozen=True)
class Memory:
    """What a node keeps.

    run        the run that all of this belongs to, empty before there was one
    seq        of the last update that has its verdict
    update     the one that waits for its verdict
    residual   what the next update carries, of those that came too late and of what their codec lost
    personal   what the node has learned and keeps to itself; None is nothing
    """

    run: str = ""
    seq: int = 0
    update: Update | None = None
    residual: Delta | None = field(default=None, repr=False)
    personal: Params | None = field(default=None, repr=False)

    @property
    def used(self) -> int:
        """The newest seq that an update of this node is known to have."""
        return self.seq if self.update is None else self.update.seq
