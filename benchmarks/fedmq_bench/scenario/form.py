"""The form of a scenario file: what can be said of a fleet, one dataclass per table. How it is read, `file` knows.

What each key says stands in docs/scenarios.md as well, and a test holds every one of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from fedmq.quantities import Amount, Count, Positive, Share, Size, Word
from fedmq_bench.scenario.draws import Spread
from fedmq_models.training import Training

TINY = "tiny"
Below1 = Annotated[float, Field(strict=True, ge=0, lt=1)]


@dataclass(frozen=True)
class Source:
    """What is learned from: the drawn images of the embedded bundle, or a file of features with class text.

    test_share      of each node's examples, held back to measure on
    """

    source: Word = TINY
    test_share: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.2


@dataclass(frozen=True)
class Way:
    """One direction of a node's link, as TCP makes it look from above.

    mbps          0 is as fast as can be
    rtt_ms        there and back; a frame takes half of it
    jitter_ms     mean of what a frame takes longer, drawn from an exponential distribution
    loss          share of packets that are lost: fewer arrive per second, and a last one is waited for
    duplicate     share of frames that arrive twice
    reorder       share of frames that arrive `reorder_ms` late, behind those that were sent after them
    """

    mbps: Amount = 0.0
    rtt_ms: Amount = 0.0
    jitter_ms: Amount = 0.0
    loss: Below1 = 0.0
    duplicate: Below1 = 0.0
    reorder: Below1 = 0.0
    reorder_ms: Amount = 1000.0


@dataclass(frozen=True)
class Presence:
    """When something is there.

    kind        always; markov: on and off for exponential times with means `on_s` and `off_s`; diurnal: on for `share`
                of each `period_s`, from a moment that is drawn per node, or `phase_s` if that is not negative; trace:
                as `file` has it
    """

    kind: Literal["always", "markov", "diurnal", "trace"] = "always"
    on_s: Size = 300.0
    off_s: Size = 60.0
    period_s: Size = 600.0
    share: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.5
    phase_s: float = -1.0
    file: Path | None = None

    def __post_init__(self) -> None:
        if (self.kind == "trace") != (self.file is not None):
            raise ValueError(f"kind is {self.kind!r} and file {self.file}; trace takes a file, no other does")


@dataclass(frozen=True)
class Drop:
    """Shares of tasks in which a node drops out: before it trains, while it uploads, after it has; back after back_s.

    One that drops out while it uploads loses its connection; in the other two cases its process dies.
    """

    before_training: Below1 = 0.0
    mid_upload: Below1 = 0.0
    after_upload: Below1 = 0.0
    back_s: Amount = 5.0


@dataclass(frozen=True)
class Crash:
    """every_s: mean time between crashes of a process, 0 is never; back_s: how long until it is started again."""

    every_s: Amount = 0.0
    back_s: Size = 10.0


@dataclass(frozen=True)
class Skew:
    """offset_s: how far a node's clock is off, drawn up to there; drift: by how much of a second per second."""

    offset_s: Amount = 0.0
    drift: Annotated[float, Field(strict=True, ge=0, le=0.1)] = 0.0


@dataclass(frozen=True)
class Byzantine:
    """share: of the group's nodes, which attack; attack: what they send in place of what they learned.

    flip: -by x their delta; scale: by x; noise: of by x its length; zero: nothing learned; nan: no numbers; labels:
    learned from turned labels; claim: their delta, as if of 10,000 examples
    """

    share: Share = 0.0
    attack: Literal["flip", "scale", "noise", "zero", "nan", "labels", "claim"] = "flip"
    by: Size = 1.0


@dataclass(frozen=True)
class Group:
    """Nodes that are alike.

    domains        of the data, dealt out to the nodes in turn; none are all
    alpha          Dirichlet's concentration of classes among the nodes of a domain; 0 deals evenly
    examples       of a node at most; 0 is all that there are for it
    folder         a folder of images in place of the source's, shared among the nodes
    compute        how long a training takes, in seconds, drawn for each
    speed          what a node's trainings take times as long, drawn once for each node
    per_example    whether `compute` is of one example
    joins_s        when it comes; `joins_within_s` later at most
    leaves_s       when it goes for good; 0 is never
    """

    name: Word = "node"
    count: Positive = 1
    domains: tuple[Word, ...] = ()
    alpha: Amount = 0.0
    examples: Count = 0
    folder: Path | None = None
    compute: Spread = Spread()
    speed: Spread = Spread()
    per_example: bool = False
    up: Way = Way()
    down: Way = Way()
    present: Presence = Presence()
    reachable: Presence = Presence()
    drop: Drop = Drop()
    crash: Crash = Crash()
    skew: Skew = Skew()
    byzantine: Byzantine = Byzantine()
    joins_s: Amount = 0.0
    joins_within_s: Amount = 0.0
    leaves_s: Amount = 0.0


@dataclass(frozen=True)
class Correlation:
    """Speed that goes with data, the case that breaks asynchronous methods.

    slow_domain     whose nodes take `slower` times as long; empty is none
    examples        a training takes (examples / median of the fleet) ^ this times as long; 0 is not at all
    """

    slow_domain: Word = ""
    slower: Size = 10.0
    examples: Amount = 0.0


@dataclass(frozen=True)
class Partition:
    """From at_s on, for for_s, these groups cannot be reached; none are all."""

    at_s: Amount = 0.0
    for_s: Size = 30.0
    groups: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Stop:
    """When a run is over; 0 is no limit.

    updates_per_node     accepted, on average
    others               policies other than sync may take so many times as many, but no more time than sync takes for
                         its own: they spend them on fast nodes, and the slow ones need the time
    time_s               in place of the time that sync takes
    """

    updates_per_node: Count = 30
    others: Annotated[float, Field(strict=True, ge=1, allow_inf_nan=False)] = 3.0
    time_s: Amount = 0.0

    def __post_init__(self) -> None:
        if not self.updates_per_node and not self.time_s:
            raise ValueError("updates_per_node and time_s are both 0: a run needs an end; set one of them")


@dataclass(frozen=True)
class Scenario:
    """Everything that a scenario file says.

    speed                     times as fast as the file says is it run, whichever engine runs it
    federation, policies      tables of settings, merged and checked for each policy
    """

    seed: Count = 0
    describe: str = ""
    speed: Size = 1.0
    data: Source = Source()
    stop: Stop = Stop()
    correlation: Correlation = Correlation()
    groups: tuple[Group, ...] = ()
    partitions: tuple[Partition, ...] = ()
    task: Training = Training()
    federation: Mapping[str, Any] = field(default_factory=dict)
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    name: str = ""
