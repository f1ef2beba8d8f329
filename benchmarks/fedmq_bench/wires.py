"""Wires: the links that a benchmark can run over, each as its users have it.

zmq       ZeroMQ on loopback
curve     the same, encrypted by CURVE: only enrolled keys may come
mqtt      a Mosquitto of the benchmark's own on loopback
sealed    the same, every frame sealed end to end for the same keys
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from numpy.random import Generator

from fedmq import keys
from fedmq.config import Endpoint
from fedmq.transports import AGGREGATOR, Link
from fedmq_bench import broker
from fedmq_nodes import links
from fedmq_nodes.options import NodeOptions

BROKERED, SECURE = ("mqtt", "sealed"), ("curve", "sealed")
WIRES = ("zmq", "curve", "mqtt", "sealed")


@dataclass(frozen=True)
class Wire:
    """One of them, as it is handed to every process of a benchmark.

    address    that the aggregator listens at, or the broker's
    folder     of the keys, where it has any
    """

    name: str
    address: str
    folder: Path

    @property
    def secure(self) -> bool:
        """Whether it takes keys."""
        return self.name in SECURE

    @property
    def brokered(self) -> bool:
        """Whether there is a broker between the ends."""
        return self.name in BROKERED

    @property
    def own_key(self) -> Path:
        """The aggregator's secret key."""
        return self.folder / f"{AGGREGATOR}.key_secret"

    @property
    def endpoint(self) -> Endpoint:
        """The aggregator's end, as its configuration has it."""
        return Endpoint(self.address, "on" if self.secure else "off", self.own_key, self.folder / "enrolled")

    def link(self, address: str, federation: str, name: str, rng: Generator) -> Link:
        """Return a node's end.

        address    that the aggregator's end has in fact
        """
        pair = (self.folder / f"{name}.key_secret", self.folder / f"{AGGREGATOR}.key") if self.secure else (None, None)
        options = NodeOptions(name, features=self.folder, key=pair[0], aggregator_key=pair[1])
        return links.link(address, federation, options, False, rng)


@contextmanager
def laid(name: str, folder: Path, nodes: Sequence[str]) -> Iterator[Wire]:
    """Make keys for these nodes and run a broker, as the wire needs them."""
    with broker.running(folder) if name in BROKERED else nullcontext() as mosquitto:
        wire = Wire(name, mosquitto.address if mosquitto else "tcp://127.0.0.1:*", folder / "keys")
        if wire.secure:
            keys.new(wire.folder, AGGREGATOR)
            for node in nodes:
                keys.enrol(keys.new(wire.folder, node), wire.endpoint.enrolled)
        yield wire
