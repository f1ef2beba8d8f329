"""Policies: how a federation deals with those who are late, each as a table of settings beside those of the file."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedmq import config
from fedmq.config import Federation
from fedmq.errors import ConfigInvalid
from fedmq_bench.scenario.form import Scenario

Settings = Mapping[str, Any]

SYNC, FEDBUFF, CACHED_SMALL = "sync", "fedbuff", "cached-small"
FEW = 4  # a version of few updates takes one of so many nodes
POLICIES: Mapping[str, Settings] = {
    SYNC: {"rounds": {"preset": "sync"}},
    "deadline": {"rounds": {"preset": "deadline", "deadline_s": 10.0}},
    "quorum": {"rounds": {"preset": "quorum"}},
    # Versions of a few updates come quickly: who is slow is many of them behind, and is damped, not refused.
    FEDBUFF: {"rounds": {"preset": "fedbuff", "max_staleness": 100}},
    "fedasync": {"rounds": {"preset": "fedasync"}},
    # The newest delta of every node pushes in every round, as much as any other, however old it is: as published.
    # Damped for staleness, the slow ones count for a third, and what only they know is learned too late (lab notes).
    "cached": {
        "rule": "cached",
        "rounds": {"preset": "quorum", "max_staleness": 100},
        "weight": {"staleness": "constant"},
    },
    # The same in versions of a few updates, damped a little: undamped, an old delta would be in very many of them.
    # Chosen on seeds 20 to 25 of heavy-stragglers; rows that are kept are of others (lab notes).
    CACHED_SMALL: {
        "rule": "cached",
        "rounds": {"preset": "fedbuff", "max_staleness": 100},
        "weight": {"staleness": "polynomial", "a": 0.2},
    },
    "calibrated": {
        "rule": "calibrated",
        "rounds": {"preset": "quorum", "max_staleness": 100},
        "weight": {"staleness": "constant"},
    },
}


def named(text: str, scenario: Scenario) -> list[str]:
    """Return the policies that a person has listed.

    raises     ConfigInvalid for one that there is not
    """
    known = dict.fromkeys((*POLICIES, *scenario.policies))
    names = [word.strip() for word in text.split(",")]
    for name in names:
        if name not in known:
            raise ConfigInvalid(f"no policy named {name!r}; there are {', '.join(known)}")
    return names


def settings(scenario: Scenario, policy: str, where: str = "scenario") -> Federation:
    """Return the settings of a federation under this policy: the file's, the policy's, the file's for the policy.

    raises     ConfigInvalid, naming the key
    """
    table: dict[str, Any] = {"federation": "scenario", "evaluate_every": 0}
    for layer in (scenario.federation, *_layers(scenario, policy)):
        table = merged(table, layer)
    table["most_nodes"] = max(table.get("most_nodes", 1), _nodes(scenario))
    return config.federation(table, f"{where}: policy {policy}", Path())


def recipe(scenario: Scenario, policy: str) -> list[str]:
    """Return what a policy is, as lines of a federation file."""
    return list(lines(merged(*_layers(scenario, policy))))


def _layers(scenario: Scenario, policy: str) -> tuple[Settings, Settings]:
    """Return what a policy is in a fleet of this size, and what the file says of it."""
    ours = POLICIES.get(policy, {})
    # FedBuff's 10 are of hundreds: of twelve nodes they would be sync but for two.
    if policy in (FEDBUFF, CACHED_SMALL):
        ours = merged(ours, {"rounds": {"goal": max(1, _nodes(scenario) // FEW)}})
    return ours, scenario.policies.get(policy, {})


def _nodes(scenario: Scenario) -> int:
    return sum(group.count for group in scenario.groups)


def lines(table: Settings, prefix: str = "") -> Iterator[str]:
    """Yield settings as TOML, one dotted key per line; a value is written in JSON as it is in TOML."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from lines(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key} = {json.dumps(str(value) if isinstance(value, Path) else value)}"


def merged(below: Settings, above: Settings) -> dict[str, Any]:
    """Return both tables in one; where both say something, the one above holds."""
    both = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], Mapping) and isinstance(above[key], Mapping):
            both[key] = merged(below[key], above[key])
    return both
