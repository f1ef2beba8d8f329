"""Cached: the mean of every node's newest delta, whoever sent one now.

ACE (arXiv:2511.19066). A fast node then counts no more than a slow one, which the mean of a round's updates would have
it do, and no round waits for anyone. Its u is the mean over the cache. Published, each arrival moves the params by
lr x u; here a round moves them by the share of the cached nodes that sent in it. A round of everyone is then a step of
the mean, a round of one a part of it, and the same `outer.lr` and momentum go with any policy.

The weighted mean, with the damping that each delta came with: `weight.by = "updates"` and `weight.staleness =
"constant"` are as published. A delta that came more than `oldest` versions ago is dropped (ACED), with its node's
memory: who has left does not push for ever.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from fedmq.delta import Arrays, Delta, Schema, Vector, require_same
from fedmq.rules.rule import Contribution, Rule, Start

BLOCK = 2**18


class Cache:
    """The newest contribution of each node, in order of their names."""

    def __init__(self, schema: Schema, found: Iterable[Contribution]) -> None:
        self._schema = schema
        self._found = {one.node: one for one in found}

    def __iter__(self) -> Iterator[Contribution]:
        return (one for _, one in sorted(self._found.items()))

    def __len__(self) -> int:
        return len(self._found)

    def replace(self, new: Contribution) -> Contribution | None:
        """Keep this in the place of the node's last one, which is returned."""
        require_same(self._schema, new.delta.schema)
        old = self._found.get(new.node)
        self._found[new.node] = new
        return old

    def forget(self, before: int) -> None:
        """Drop what came before this version was the newest."""
        self._found = {node: one for node, one in self._found.items() if one.version >= before}

    def mean(self) -> tuple[Vector, float]:
        """Return sum(weight x damping x scale x delta) / sum(weight) and the mean damping.

        Summed anew each time, in order of names: a sum that is added to and subtracted from would drift, and would
        have to survive a restart.
        """
        found, weight = list(self), sum(one.weight for one in self)
        total = np.zeros(self._schema.size, np.float32)
        for start in range(0, self._schema.size, BLOCK):
            block = total[start : start + BLOCK]
            for one in found:
                block += share(one, weight) * one.delta.flat[start : start + BLOCK]
        return total, sum(one.weight * one.damping for one in found) / weight


def share(one: Contribution, weight: float) -> np.float32:
    """Return what a delta is multiplied by in a mean of so much weight."""
    return np.float32(one.weight * one.damping * one.scale / weight)


class Cached(Rule):
    """Keeps the cache, and who has sent in this round."""

    def __init__(self, start: Start) -> None:
        self._schema, self._oldest, self._version = start.schema, start.combining.oldest, start.version
        self._cache, self._nodes = Cache(start.schema, start.cached), set[str]()

    def add(
        self, delta: Delta, weight: float, damping: float, scale: float = 1.0, node: str = "", number: int = 0
    ) -> None:
        """Keep this delta in the place of its node's last one."""
        self._cache.replace(Contribution(node, number, self._version, delta, weight, damping, scale))
        self._nodes.add(node)

    def step(self) -> tuple[Delta, float]:
        """Return the part of the mean that is as large as the share of the nodes that sent."""
        if self._oldest:
            self._cache.forget(before=self._version - self._oldest)
        mean, damping = self._cache.mean()
        part = len(self._nodes) / len(self._cache)
        self._nodes = set()
        self._version += 1
        return Delta(Arrays(self._schema, mean if part == 1 else np.float32(part) * mean)), part * damping

    @property
    def cached(self) -> tuple[Contribution, ...]:
        """Return the cache."""
        return tuple(self._cache)
