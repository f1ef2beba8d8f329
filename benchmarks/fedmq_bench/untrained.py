"""Untrained: a node that takes part in everything but training, so that what is left is the federation's own work.

It greets, adopts versions, subtracts, packs and delivers as any node does. What its training gives was drawn before:
params of the size of FedCLIP's adapter (525,312 float32 on CLIP ViT-B/32), on one side of where it began and then on
the other, so that a delta is as long in each round as a real one, and never a vector of zeros. Where rounds take old
updates that would run away, each pulling back what others have pulled back already: then it is a step from what the
node holds, one way and then the other.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from fedmq.codec import Frame
from fedmq.core import Event
from fedmq.delta import Arrays, Params, Schema
from fedmq.drive import Drive
from fedmq.effects import Done, Effect, Prepare, Remember, Train
from fedmq.transports import Link
from fedmq_nodes.greeting import Introduction
from fedmq_nodes.node import Node, Trained

Connect = Callable[[str, Generator], Link]

METHOD = "fedclip"
STEP = 6e-4  # standard deviation of a value of a delta, about that of FedCLIP's local epoch


def schema(dim: int) -> Schema:
    """Return names and shapes of FedCLIP's adapter: 2 (dim^2 + dim) params, 525,312 at dim = 512."""
    return Schema((("0.weight", (dim, dim)), ("0.bias", (dim,)), ("2.weight", (dim, dim)), ("2.bias", (dim,))))


def params(dim: int, seed: int) -> Params:
    """Return params as FedCLIP's adapter starts with."""
    form, bound = schema(dim), dim**-0.5
    return Params(Arrays(form, np.random.default_rng(seed).uniform(-bound, bound, form.size).astype(np.float32)))


@dataclass(frozen=True)
class Adoption:
    """A version, and when a node held it: seconds of CLOCK_MONOTONIC, which all processes of a machine share."""

    version: int
    at: float


class Watched:
    """A node as `Drive` sees it, with a note of when it adopted each version."""

    def __init__(self, node: Node, verdict_s: list[float]) -> None:
        self._node, self._verdict_s = node, verdict_s
        self._delivered_at = 0.0
        self.adoptions: list[Adoption] = []

    def trained(self, result: Trained, now: float) -> list[Effect]:
        """Deliver what training gave."""
        self._delivered_at = time.monotonic()
        return self._node.trained(result, now)

    def receive(self, peer: str, frame: Frame, now: float) -> list[Effect]:
        """Take a frame; what the node then holds, it holds now, not at `now`."""
        held, waited = self._node.version, self._node.outbox is not None
        effects = self._node.receive(peer, frame, now)
        if waited and self._node.outbox is None:
            self._verdict_s.append(time.monotonic() - self._delivered_at)
        if self._node.version > held:
            self.adoptions.append(Adoption(self._node.version, time.monotonic()))
        return effects

    def lost(self, peer: str, now: float) -> list[Effect]:
        """Learn that the aggregator cannot be reached."""
        return self._node.lost(peer, now)

    def tick(self, now: float) -> list[Effect]:
        """Look at the clock."""
        return self._node.tick(now)

    def next_deadline(self) -> float | None:
        """Say when to be ticked."""
        return self._node.next_deadline()


async def take_part(
    connect: Connect,
    who: Introduction,
    seed: int,
    before_training: Callable[[int], None] = lambda _version: None,
    verdict_s: list[float] | None = None,
    *,
    stale: bool = False,
) -> list[Adoption]:
    """Be a node until the federation has finished, and return which versions it held since when.

    connect             returns this node's link, given its name and what is random about it
    before_training     told the version, each time that the node is asked to train
    stale               whether rounds take updates from other versions than the newest
    verdict_s           is given the seconds from each update's delivery to its verdict
    """
    loop = asyncio.get_running_loop()
    rng = np.random.default_rng([seed, *who.name.encode()])
    node = Node(who, int(rng.integers(1, 2**63)), rng, loop.time())
    watched = Watched(node, [] if verdict_s is None else verdict_s)
    start = params(who.dim, seed)
    step = rng.normal(0.0, STEP, start.schema.size).astype(np.float32)
    sides = tuple(Params(Arrays(start.schema, start.flat + sign * step)) for sign in (np.float32(1), np.float32(-1)))

    async def answer(event: Event) -> Event:
        return event

    def perform(effect: Effect) -> Awaitable[Event] | None:
        match effect:
            case Prepare():
                return answer(lambda now: node.prepared(1, 0, now))
            case Train(version, before):
                before_training(version)
                after = sides[version % 2]
                if stale:
                    after = Params(Arrays(before.schema, before.flat + (after.flat - start.flat)))
                return answer(lambda now: watched.trained(Trained(version, after, 1, 1, 0.0), now))
            case Remember(memory):
                return answer(lambda now: node.remembered(memory, now))
        return None

    link = connect(who.name, rng)
    try:
        done: Done = await Drive(watched, link, perform, lambda _log: None, list).run(asyncio.Event())
    finally:
        await link.close()
    if done.reason != "finished":
        raise RuntimeError(f"{who.name} left early: {done.reason} {done.text}")
    return watched.adoptions
