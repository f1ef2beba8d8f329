"""A crowd: very many nodes that train nothing, over connections of their own, in a few processes.

How many processes there are at the other end is nothing that an aggregator could notice.
"""

import asyncio
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from fedmq_bench.untrained import METHOD, take_part
from fedmq_bench.wires import Wire
from fedmq_nodes.greeting import Introduction


@dataclass(frozen=True)
class Crowd:
    """Who they are and where they go.

    address    that the aggregator's end of the wire has in fact
    drivers    processes that the nodes share
    stale      whether rounds take updates from other versions than the newest
    """

    wire: Wire
    address: str
    federation: str
    space: str
    nodes: int
    drivers: int
    dim: int
    seed: int
    stale: bool = False


@dataclass(frozen=True)
class Told:
    """What one process of a crowd has seen: the version that each node ended with, and the wait for each verdict."""

    versions: Sequence[int]
    verdict_s: NDArray[np.float64]


def names(nodes: int) -> list[str]:
    """Return what so many nodes are called."""
    return [f"node-{node}" for node in range(nodes)]


def drive(pipe: Connection, number: int, crowd: Crowd) -> None:
    """Be every `drivers`-th node, the `number`-th first, until the federation has finished; tell what was seen."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    verdict_s: list[float] = []

    async def main() -> list[int]:
        mine = names(crowd.nodes)[number :: crowd.drivers]
        people = [Introduction(crowd.federation, name, crowd.space, crowd.dim, (METHOD,)) for name in mine]
        connect = partial(crowd.wire.link, crowd.address, crowd.federation)
        notes = await asyncio.gather(
            *(take_part(connect, who, crowd.seed, verdict_s=verdict_s, stale=crowd.stale) for who in people)
        )
        return [adoptions[-1].version for adoptions in notes]

    pipe.send(Told(asyncio.run(main()), np.array(verdict_s)))
