"""Fleet files: one aggregator and its nodes on this machine.

    [federation]            everything that federation.toml may say, or federation = "federation.toml"
    [defaults]              options of every node, unless it has its own
    [[nodes]]               name, data or features, and any other option of `fedmq join`

Paths are relative to the file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedmq import config
from fedmq.config import Federation, Table
from fedmq.errors import ConfigInvalid
from fedmq_nodes import pool
from fedmq_nodes.options import NodeOptions

PATHS = ("data", "features", "cache", "state", "key", "aggregator_key", "password", "ca", "cert", "cert_key")


@dataclass(frozen=True)
class Fleet:
    """A federation and the nodes that this machine runs for it."""

    federation: Federation
    nodes: tuple[NodeOptions, ...]


def federation(path: Path, overrides: Sequence[str]) -> Federation:
    """Return the federation that a federation file or a fleet file describes."""
    table = config.read(path)
    return _fleet(table, path, overrides).federation if "nodes" in table else _federation(table, path, overrides)


def read(path: Path, overrides: Sequence[str]) -> Fleet:
    """Return the fleet that a file describes; overrides are of its federation.

    raises     ConfigInvalid, naming the key
    """
    return _fleet(config.read(path), path, overrides)


def _fleet(table: Table, path: Path, overrides: Sequence[str]) -> Fleet:
    unknown = set(table) - {"federation", "defaults", "nodes"}
    if unknown or not table.get("federation") or not table.get("nodes"):
        problem = f"unknown key {min(unknown)}" if unknown else "[federation] or [[nodes]] is missing"
        raise ConfigInvalid(f"{path}: {problem}; a fleet file has [federation], [defaults] and [[nodes]]")
    defaults = table.get("defaults", {})
    nodes = tuple(
        _node(defaults | entry, f"{path} nodes[{at}]", path.parent) for at, entry in enumerate(table["nodes"])
    )
    names = [node.name for node in nodes]
    for name in names:
        if names.count(name) > 1:
            raise ConfigInvalid(f"{path}: {names.count(name)} nodes are named {name!r}; a name is an identity")
    own = table["federation"]
    if isinstance(own, str):
        path = path.parent / own
        own = config.read(path)
    # The whole fleet starts together, so the first round waits for it; and its nodes are told the port.
    own.setdefault("start_nodes", max(1, sum(node.train for node in nodes)))
    own.setdefault("link", {}).setdefault("address", "tcp://127.0.0.1:*")
    return Fleet(_federation(own, path, overrides), nodes)


def _federation(table: Table, path: Path, overrides: Sequence[str]) -> Federation:
    config.override(table, overrides)
    found = config.federation(table, str(path), path.parent)
    return replace(found, task=pool.located(found.task, path.parent))


def located(table: Mapping[str, object], folder: Path) -> Table:
    """Return the options of a node with their paths relative to a folder."""
    found = {key: folder / str(value) if key in PATHS else value for key, value in table.items()}
    bundle = found.get("bundle")
    if isinstance(bundle, str) and ("/" in bundle or (folder / bundle).is_dir()):
        found["bundle"] = str(folder / bundle)
    return found


def _node(table: Mapping[str, object], where: str, folder: Path) -> NodeOptions:
    return config.parse(NodeOptions, located(table, folder), where)
