"""The plan of a federation: its settings, and the job that it has nodes do.

Settings come from federation.toml; the job comes from the bundle and the task. The runtime does not look inside the
task: it carries it to the nodes and knows only what must agree (feature space, dimension, method) and the params at
version 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator

from fedmq.codec import Limits
from fedmq.compress import CODECS
from fedmq.compress import codec as compression
from fedmq.delta import Params, Schema
from fedmq.errors import ConfigInvalid
from fedmq.guards import Guard
from fedmq.outer import Outer
from fedmq.quantities import Amount, Count, Positive, Size, Word
from fedmq.rounds import Policy
from fedmq.rules import held_bytes
from fedmq.rules.combining import Combining
from fedmq.stats.forms import FORMS
from fedmq.stats.layout import Layout
from fedmq.stats.settings import Statistics
from fedmq.weight import Weighting

CAVEAT = "caveat"  # the note of a job without which its figures would be misread; shown wherever they are
STAYS = "stays"  # the note that says, in words, what each node keeps to itself of what it learns
HEAD_BYTES = 1024  # more than the head of an update or of a version ever takes


def _known_codec(name: str) -> str:
    if name not in CODECS:
        raise ValueError(f"no codec named {name!r}; there are {', '.join(CODECS)}")
    return name


def _known_upwards(name: str) -> str:
    return name if name in FORMS else _known_codec(name)


CodecName = Annotated[Word, AfterValidator(_known_codec)]
UpName = Annotated[Word, AfterValidator(_known_upwards)]


@dataclass(frozen=True)
class Job:
    """What the nodes learn.

    task       settings of the method, plain values that travel in the welcome message
    arrays     arrays of the task (class text features), serialised
    params     version 0
    notes      what a reader of the run's record should know beside, such as which bundle this is
    """

    feature_space: str
    dim: int
    method: str
    task: Mapping[str, Any]
    arrays: bytes = field(repr=False)
    params: Params = field(repr=False)
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Codecs:
    """The codec of each direction; upwards it may be a form of statistics."""

    up: UpName = "int8"
    down: CodecName = "fp32"


@dataclass(frozen=True)
class Pulse:
    """heartbeat_s: how often a node says that it is there; lost_after_s: how long a silence makes it gone."""

    heartbeat_s: Size = 2.0
    lost_after_s: Size = 10.0

    def __post_init__(self) -> None:
        if self.lost_after_s < 2 * self.heartbeat_s:
            raise ValueError(
                f"lost_after_s is {self.lost_after_s:g} and heartbeat_s {self.heartbeat_s:g}: a node that misses one "
                "heartbeat is not lost yet; make lost_after_s at least twice as long"
            )


@dataclass(frozen=True)
class Stop:
    """versions: stop after so many, 0 never; finish_s: how long nodes have for their last evaluation."""

    versions: Count = 0
    finish_s: Amount = 30.0

    def is_last(self, version: int) -> bool:
        """Whether a federation ends with this version."""
        return 0 < self.versions <= version


@dataclass(frozen=True)
class Settings:
    """How a federation runs.

    start_nodes      nodes that must be ready before the first round
    evaluate_every   nodes report accuracy on every n-th version; 0 only at the end
    most_nodes       how many nodes a federation remembers; a further one is refused
    backlog_bytes    of updates that may wait for the ledger; whoever sends more is told when to try again
    strikes          faults after which a peer is not listened to for `mute_s`
    """

    federation: Word
    rule: Word = "mean"
    start_nodes: Positive = 1
    evaluate_every: Count = 1
    most_nodes: Positive = 10_000
    backlog_bytes: Positive = 256 * 2**20
    strikes: Positive = 10
    mute_s: Amount = 60.0
    rounds: Policy = Policy()
    combine: Combining = Combining()
    weight: Weighting = Weighting()
    guard: Guard = Guard()
    outer: Outer = Outer()
    statistics: Statistics = Statistics()
    codec: Codecs = Codecs()
    pulse: Pulse = Pulse()
    limits: Limits = Limits()
    stop: Stop = Stop()

    @property
    def one_shot(self) -> bool:
        """Whether nodes send statistics, each process once, and not deltas."""
        return self.codec.up in FORMS

    def evaluates(self, version: int) -> bool:
        """Whether nodes report their accuracy on this version."""
        return bool(self.evaluate_every) and version % self.evaluate_every == 0

    def require_room(self, schema: Schema) -> None:
        """Raise ConfigInvalid if an honest update, or a whole version, is over the limit of who reads it, or a delta of
        each node over that of the rule.
        """
        held, limit = held_bytes(self.rule, schema, self.most_nodes), self.combine.memory_bytes
        if held > limit:
            raise ConfigInvalid(
                f"the rule {self.rule} holds a delta of each node, {held} bytes for {self.most_nodes} nodes, limit is "
                f"{limit}: set most_nodes to {limit // (4 * schema.size)} or less, or raise combine.memory_bytes"
            )
        for what, name, limits in (("an update", self.codec.up, self.limits), ("a version", "fp32", Limits())):
            form = FORMS.get(name)
            size = compression(name).size_bytes(schema) if form is None else form.size_bytes(Layout.of(schema))
            size += HEAD_BYTES
            if size > limits.frame_bytes:
                raise ConfigInvalid(
                    f"{what} of {schema.size} values is a frame of up to {size} bytes as {name}, limit is "
                    f"{limits.frame_bytes}; raise limits.frame_bytes, or make the adapter smaller"
                )
