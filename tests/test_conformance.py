"""Whole federations against the published formulas: nodes of different speed, from their training to the last version.

The parts are held to their formulas beside them (`test_rounds`, `test_weight`, `test_rules_cached`). Here is what only
shows between them, and what public implementations get wrong: deltas against the newest version in the place of the
one trained from, staleness that is counted from the wrong end, a fresh update that is damped, whole models averaged, a
fresh node that replaces the model, and a rate that decays because it is multiplied in place.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmq.core import Event
from fedmq.delta import Arrays, Params
from fedmq.effects import Effect, Train
from fedmq.guards import Guard
from fedmq.journal import UpdateEntry
from fedmq.messages import Code
from fedmq.outer import Outer
from fedmq.plan import Codecs, Settings
from fedmq.rounds import PRESETS, Policy
from fedmq.weight import Weighting
from fedmq_nodes.node import Node, Trained
from pair import SCHEMA, Fleet, Worker, params

RATE = np.float32(0.25)
SECONDS = {"a": 1.0, "b": 1.1, "c": 2.3, "d": 7.0}
LR = 0.6
PLAIN = Settings(
    "test",
    codec=Codecs("fp32", "fp32"),
    guard=Guard(norm_factor=0.0),
    weight=Weighting(by="updates"),
    outer=Outer(lr=LR),
    start_nodes=4,
)
POLICIES = {
    "sync": PRESETS["sync"],
    "fedbuff": Policy(goal=2, max_staleness=100),
    "fedasync": replace(PRESETS["fedasync"], max_staleness=100),
    "quorum": replace(PRESETS["quorum"], max_staleness=100),
}


def target(name: str) -> NDArray[np.float32]:
    """Where a node's own data would have the params."""
    return np.random.default_rng(ord(name)).standard_normal(SCHEMA.size).astype(np.float32)


class Pulled(Fleet):
    """A fleet in which each node pulls what it holds towards its own target, so that a delta tells its base."""

    def _work(self, name: str, node: Node, effect: Effect) -> Iterable[tuple[float, Event]]:
        if isinstance(effect, Train):
            after = Params(Arrays(SCHEMA, effect.params.flat + RATE * (target(name) - effect.params.flat)))
            result = Trained(effect.version, after, 10, 1, 0.0)
            return [(SECONDS[name], lambda now: node.trained(result, now))]
        return super()._work(name, node, effect)


def federated(settings: Settings, until_s: float = 60.0) -> tuple[list[NDArray[np.float32]], list[list[UpdateEntry]]]:
    """Return the params of each version, and the updates in each from the first on."""
    fleet = Pulled(settings, {name: Worker() for name in SECONDS}, start=params(1.0))
    fleet.run(until_s)
    updates = [entry for entry in fleet.updates() if entry.code is Code.ACCEPTED]
    folded = [0, *(entry.folded for entry in fleet.versions())]
    parts = [updates[start:end] for start, end in pairwise(folded)]
    assert len(parts) > 6
    return [params(1.0).flat, *(entry.params.flat for entry in fleet.versions())], parts


def delta(entry: UpdateEntry) -> NDArray[np.float64]:
    return np.frombuffer(entry.update.payload, "<f4").astype(np.float64)


@pytest.mark.parametrize("name", POLICIES)
def test_a_delta_is_what_was_learned_since_the_version_that_it_names_however_many_came_meanwhile(name: str) -> None:
    versions, parts = federated(replace(PLAIN, rounds=POLICIES[name]))
    entries = [entry for part in parts for entry in part]
    for entry in entries:
        base = versions[entry.update.base_version].astype(np.float64)
        np.testing.assert_allclose(delta(entry), RATE * (target(entry.node) - base), atol=1e-6)
    assert max(entry.staleness for entry in entries) == 0 or name != "sync"
    assert max(entry.staleness for entry in entries) >= 2 or name == "sync"


@pytest.mark.parametrize("name", POLICIES)
def test_each_version_is_the_last_one_and_the_damped_mean_of_its_deltas(name: str) -> None:
    """FedAvg, FedBuff and FedAsync on deltas in one: w += lr / K sum (1 + t)^-1/2 delta, t counted in commits."""
    versions, parts = federated(replace(PLAIN, rounds=POLICIES[name]))
    for number, part in enumerate(parts):
        behind = [number - entry.update.base_version for entry in part]
        assert [entry.staleness for entry in part] == behind
        step = sum((1 + t) ** -0.5 * delta(entry) for t, entry in zip(behind, part, strict=True)) / len(part)
        np.testing.assert_allclose(versions[number + 1], versions[number] + LR * step, atol=1e-5)


def test_a_fresh_update_is_not_damped_and_the_last_commit_damps_as_the_first_did() -> None:
    _, parts = federated(replace(PLAIN, rounds=POLICIES["fedasync"]))
    found = {(entry.staleness, entry.damping) for part in parts for entry in part}
    assert (0, 1.0) in found
    assert len(found) == len({staleness for staleness, _ in found})


def test_cached_moves_by_the_newest_delta_of_everyone_as_published() -> None:
    """ACE: u = the mean of the cache, undamped; here by the share of nodes that have sent."""
    settings = replace(PLAIN, rule="cached", weight=Weighting(by="updates", staleness="constant"))
    versions, parts = federated(replace(settings, rounds=POLICIES["quorum"]))
    cache: dict[str, NDArray[np.float64]] = {}
    for number, part in enumerate(parts):
        cache |= {entry.node: delta(entry) for entry in part}
        share = len({entry.node for entry in part}) / len(cache)
        step = share * np.mean(list(cache.values()), axis=0)
        np.testing.assert_allclose(versions[number + 1], versions[number] + LR * step, atol=1e-5)


def test_no_node_replaces_the_model_however_fresh_its_update_is() -> None:
    versions, parts = federated(replace(PLAIN, rounds=POLICIES["fedasync"], outer=Outer(lr=1.0)))
    for number, (entry,) in enumerate(parts):
        held = versions[entry.update.base_version] + delta(entry)
        moved = np.linalg.norm(versions[number + 1] - versions[number])
        assert moved == pytest.approx(entry.damping * np.linalg.norm(delta(entry)), rel=1e-4)
        if entry.staleness:
            assert not np.allclose(versions[number + 1], held, atol=1e-3)
