"""Data of a fleet: whose examples are whose. Rows of a domain are dealt to the nodes that have it, class by class."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmq.errors import ConfigInvalid
from fedmq_bench.comm import datasets
from fedmq_bench.comm.datasets import Rows
from fedmq_bench.harness import Say
from fedmq_bench.scenario.draws import Draws
from fedmq_bench.scenario.form import TINY, Group, Scenario
from fedmq_models import bundle as bundles
from fedmq_models.bundle import Bundle
from fedmq_models.examples import Examples
from fedmq_nodes.errors import DataUnusable
from fedmq_nodes.options import user_cache
from fedmq_nodes.sources import Data, Images, Split

MIXED = "all"  # in place of a domain: rows of every one
LEAST = 2  # examples without which there is nothing to train on

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """All that there is to learn from; `domains` names the groups of rows."""

    bundle: Bundle
    rows: Rows = field(repr=False)
    domains: tuple[str, ...] = (MIXED,)


@dataclass(frozen=True)
class Dealt:
    """What one node has, and of which domain."""

    domain: str
    data: Data


def pool(source: str, say: Say) -> Pool:
    """Return the rows of a file, or of the embedded bundle, whose images are drawn and encoded once per machine.

    raises     ConfigInvalid if there is no such file
    """
    if source == TINY:
        return _tiny(say)
    path = Path(source)
    if not path.is_file():
        raise ConfigInvalid(
            f"data.source is {source!r}, and there is no such file; it is {TINY!r} or a file of features"
        )
    found = datasets.load(path, say)
    with np.load(path, allow_pickle=False) as file:
        names = tuple(map(str, np.unique(file["domains"]))) if "domains" in file else (MIXED,)
    return Pool(found.bundle, found.rows, names)


def deal(scenario: Scenario, found: Pool) -> dict[str, Dealt]:
    """Return what each node has, in the order of groups and numbers.

    raises     DataUnusable if a node would have too little to train on; ConfigInvalid for a domain that is not there
    """
    draws, nodes = Draws(scenario.seed), _homes(scenario, found.domains)
    owners = np.full(len(found.rows.labels), -1, np.int64)
    at_home = [name for name, (group, _) in nodes.items() if group.folder is None]
    for number, domain in enumerate(found.domains):
        members = [place for place, name in enumerate(at_home) if nodes[name][1] in (domain, MIXED)]
        alphas = [nodes[at_home[place]][0].alpha for place in members]
        for label in np.unique(found.rows.labels) if members else ():
            rng = draws.rng(domain, "dealing", int(label))
            chosen = rng.permutation(np.flatnonzero((found.rows.groups == number) & (found.rows.labels == label)))
            weights = np.array([rng.gamma(alpha) / alpha if alpha else 1.0 for alpha in alphas])
            cuts = np.round(np.cumsum(weights)[:-1] / weights.sum() * len(chosen)).astype(np.int64)
            # Whoever is first would have all the remainders.
            for place, part in zip(rng.permutation(members), np.split(chosen, cuts), strict=True):
                owners[part] = place
    is_test = draws.rng("", "tests").random(len(owners)) < scenario.data.test_share
    dealt = {name: _own(found.rows, nodes[name], owners == place, is_test) for place, name in enumerate(at_home)}
    for group in scenario.groups:
        if group.folder is not None:
            dealt |= _of_folder(group, found.bundle, scenario.data.test_share)
    for name, one in dealt.items():
        if len(one.data.train) < LEAST:
            raise DataUnusable(
                f"{name} has {len(one.data.train)} examples of {one.domain}, it takes {LEAST}: lower the "
                "group's count, or raise its alpha"
            )
    return {name: dealt[name] for name in nodes}


def _homes(scenario: Scenario, domains: tuple[str, ...]) -> dict[str, tuple[Group, str]]:
    """Return each node's group and domain."""
    homes = {}
    for group in scenario.groups:
        wanted = group.domains or domains
        if unknown := set(wanted) - {*domains, MIXED}:
            raise ConfigInvalid(
                f"group {group.name}: domain {min(unknown)!r}; there are {', '.join((*domains, MIXED))}"
            )
        for place in range(group.count):
            homes[f"{group.name}-{place}"] = group, group.folder.name if group.folder else wanted[place % len(wanted)]
    slow = scenario.correlation.slow_domain
    if slow and slow not in {domain for _, domain in homes.values()}:
        raise ConfigInvalid(f"correlation.slow_domain is {slow!r}, which no node has")
    return homes


def _own(rows: Rows, home: tuple[Group, str], is_own: NDArray[np.bool_], is_test: NDArray[np.bool_]) -> Dealt:
    group, domain = home
    train, test = np.flatnonzero(is_own & ~is_test), np.flatnonzero(is_own & is_test)
    if group.examples:
        train = train[: group.examples]
    examples = [Examples(rows.features, each, rows.labels[each]) for each in (train, test)]
    return Dealt(domain, Data(examples[0], examples[1]))


def _of_folder(group: Group, bundle: Bundle, test_share: float) -> Mapping[str, Dealt]:
    """Return the images of a folder, encoded and dealt out in turn."""
    assert group.folder is not None
    source = Images(group.folder, bundle, user_cache() / "features", "cpu")
    whole = source.load(bundle.labels, Split(test_share), lambda _done, _total: None)
    parts = {}
    for place in range(group.count):
        own = [each.where(np.arange(len(each)) % group.count == place) for each in (whole.train, whole.test)]
        parts[f"{group.name}-{place}"] = Dealt(group.folder.name, Data(own[0], own[1]))
    return parts


def _tiny(say: Say) -> Pool:
    from fedmq_models.tiny.images import DOMAINS

    bundle = bundles.load(TINY)
    kept = user_cache() / f"scenario-{bundle.feature_space[:16]}.npz"
    if not kept.is_file():
        rows = datasets.load(None, say).rows
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f"{kept.name}.part.npz")
        np.savez(partial, features=rows.features, labels=rows.labels, groups=rows.groups)
        partial.replace(kept)
    with np.load(kept, allow_pickle=False) as file:
        return Pool(bundle, Rows(file["features"], file["labels"], file["groups"]), tuple(DOMAINS))
