"""Rules: how the updates of a round become one step. One small file each."""

from collections.abc import Callable, Mapping

from fedmq.delta import Schema
from fedmq.rules.cached import Cached
from fedmq.rules.calibrated import Calibrated
from fedmq.rules.clipping import Clipping
from fedmq.rules.combining import Combining
from fedmq.rules.krum import Krum
from fedmq.rules.mean import Mean
from fedmq.rules.median import Median
from fedmq.rules.rule import Rule, Start
from fedmq.rules.trimmed import Trimmed

__all__ = ["CACHING", "RULES", "Rule", "Start", "fewest", "held_bytes"]

RULES: Mapping[str, Callable[[Start], Rule]] = {
    "mean": lambda start: Mean(start.schema),
    "median": lambda start: Median(start.schema, start.combining),
    "trimmed": lambda start: Trimmed(start.schema, start.combining),
    "krum": lambda start: Krum(start.schema, start.combining),
    "clipping": lambda start: Clipping(start.schema, start.combining, start.states),
    "cached": Cached,
    "calibrated": Calibrated,
}

CACHING = frozenset({"cached", "calibrated"})  # they go on from deltas of earlier rounds, which the ledger keeps
COMPARING = frozenset({"median", "trimmed", "krum", "clipping"})
FEWEST = 3  # nodes of which one can be seen to be odd


def fewest(rule: str, combining: Combining) -> int:
    """Return how many updates a round must have for this rule to mean anything."""
    return 1 if rule not in COMPARING or (rule == "clipping" and combining.radius) else FEWEST


def held_bytes(rule: str, schema: Schema, nodes: int) -> int:
    """Return the most that a rule holds of so many nodes' deltas: the mean sums them up, all others keep them."""
    return 0 if rule == "mean" else 4 * schema.size * nodes
