"""The past of a federation, as a ledger has it: what an aggregator needs in order to go on where it left off."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedmq.delta import Params, Vector
from fedmq.journal import Traffic, UpdateEntry
from fedmq.messages import Verdict
from fedmq.rules.rule import Contribution


@dataclass(frozen=True)
class Point:
    """Where a federation stands between two rounds: its newest version, and what the next commit builds on.

    states     what the rule and the optimizer go on from, by name: vectors as long as the params
    cached     what the rule goes on from of earlier rounds
    folded     how many updates were folded since the federation began
    norms      of the last of them, oldest first
    beginning  version 0, towards which statistics are drawn; None where none are collected, or where this is version 0
    live       of each node the newest statistics, in the order of folding
    forgotten  nodes whose statistics are not wanted any more
    """

    version: int
    exact: Params
    broadcast: Params
    states: Mapping[str, Vector] = field(default_factory=dict)
    cached: tuple[Contribution, ...] = ()
    folded: int = 0
    norms: tuple[float, ...] = ()
    beginning: Params | None = None
    live: tuple[UpdateEntry, ...] = ()
    forgotten: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Known:
    """A node as the ledger remembers it.

    seq        of its last update, `verdict` on it
    trained    newest version that it has delivered from; -1 none
    active     whether it was connected when the ledger was last written
    examples   that it trains on; 0 on a node that only evaluates, or has not got ready
    """

    node: str
    name: str
    seq: int = 0
    verdict: Verdict | None = None
    trained: int = -1
    active: bool = False
    examples: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    strikes: int = 0


@dataclass(frozen=True)
class Past:
    """What the ledger has: where the last commit left off, the updates accepted since, in order, and the nodes.

    run        what tells this ledger from every other; empty where it does not say
    """

    point: Point
    pending: tuple[UpdateEntry, ...] = ()
    nodes: tuple[Known, ...] = ()
    traffic: Traffic = field(default_factory=Traffic)
    run: str = ""

    @classmethod
    def none(cls, params: Params) -> "Past":
        """Return the past of a federation that has none: version 0."""
        return cls(Point(0, params, params))
