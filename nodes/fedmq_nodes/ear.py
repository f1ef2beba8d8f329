"""An ear: what a node's shell tells whoever measures it. This one hears nothing."""

from collections.abc import Callable
from dataclasses import dataclass

from fedmq.effects import Log
from fedmq_nodes.sources import Data


@dataclass(frozen=True)
class Facts:
    """How a node stands. `waiting`: whether an update of it has no verdict yet."""

    version: int
    activity: str
    connected: bool
    waiting: bool


class Ear:
    """Told in the shell's thread, but for `encoding`, which is told in the one that encodes."""

    def begin(self, look: Callable[[], Facts]) -> None:
        """The node runs; `look` says how it stands, from the shell's thread alone."""

    def logged(self, log: Log) -> None:
        """The core has told a person this."""

    def encoding(self, done: int) -> None:
        """So many images have been through the encoder since the node began to look at its data."""

    def prepared(self, data: Data, took_s: float) -> None:
        """The data are ready."""

    def trained(self, took_s: float) -> None:
        """A local run has ended."""

    def evaluated(self, took_s: float) -> None:
        """A version was measured."""
