"""A node's file: where its aggregator is, and every option that `fedmq join` has; what `fedmq provision` writes.

    address = "tcp://hub.example:5600"
    federation = "orchards"
    [node]                  any option of `fedmq join`, with underscores

Paths are relative to the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmq import config
from fedmq.errors import ConfigInvalid
from fedmq.quantities import Word
from fedmq_nodes.fleetfile import located
from fedmq_nodes.options import NodeOptions


@dataclass(frozen=True)
class NodeFile:
    """What `fedmq join` is told by a file."""

    address: Word
    federation: Word
    node: NodeOptions
    insecure: bool = False


def is_one(address: str) -> bool:
    """Whether what stands in the place of an address is a file."""
    return address.endswith(".toml")


def read(path: Path, given: Mapping[str, Any]) -> NodeFile:
    """Return what a file says, but for the options that were given on the command line.

    raises     ConfigInvalid, naming the key
    """
    table = config.read(path)
    node = table.get("node")
    if not isinstance(node, dict) or "address" not in table:
        raise ConfigInvalid(f"{path}: a node's file has address, federation and [node]; fedmq provision writes one")
    whole = {"federation": "", **table, "node": {**located(node, path.parent), **given}}
    return config.parse(NodeFile, whole, str(path))
