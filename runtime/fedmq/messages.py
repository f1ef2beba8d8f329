"""What crosses the wire, one frozen dataclass each.

    node -> aggregator     Hello, Ready, Update, Report, Ping, Bye
    aggregator -> node     Welcome, Refuse, Model, Task, Verdict, Pong, Bye

Links are at least once and unordered, so no message relies on the one before it. A `session` is a number that a node
process draws when it starts; it goes with everything that the process sends, so that what a dead process left in a
queue is never taken for its successor's. Whatever is lost, saying Hello again repairs it: the node is told the last seq
that the ledger has from it, the verdict on it, the newest version and its task. A node that pings as idle although it
has been sent something is sent that again, without a new Hello.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from pydantic import GetPydanticSchema
from pydantic_core import core_schema

from fedmq.quantities import Amount, Count, Held, Identifier, Label, Sentence, Word

Buffer = bytes | memoryview
# A raw field travels beside the envelope, uncopied; it is bytes on the way out and a view of the frame on the way in.
Raw = Annotated[Buffer, GetPydanticSchema(lambda _source, _handler: core_schema.any_schema())]


class Code(StrEnum):
    """What became of an update."""

    ACCEPTED = "accepted"
    TOO_STALE = "too_stale"
    UNKNOWN_VERSION = "unknown_version"
    WRONG_CODEC = "wrong_codec"
    BAD_PAYLOAD = "bad_payload"
    NOT_FINITE = "not_finite"
    TOO_LARGE = "too_large"
    NO_EXAMPLES = "no_examples"
    FINISHED = "finished"
    BUSY = "busy"
    WRONG_COUNTS = "wrong_counts"
    WRONG_SUMS = "wrong_sums"
    WRONG_TRACE = "wrong_trace"
    NOT_POSITIVE = "not_positive"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True)
class Hello:
    """A node introduces itself, or resumes. Its identity is the link's peer name, not something that it says here.

    federation    that it means to join; empty is whichever listens there
    version       newest that it holds, -1 none; `proof` is the digest of its params
    protocols     the oldest and the newest that it reads; a node that does not say reads the first
    """

    session: Identifier
    federation: Word
    name: Word
    feature_space: Word
    dim: Count
    methods: tuple[Word, ...]
    codecs: tuple[Word, ...]
    version: Held = -1
    proof: bytes = b""
    software: Word = ""
    protocols: tuple[Count, Count] = (1, 1)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of update `seq`, and why. `staleness` and `weight` are as admitted; 0 where it was not.

    A verdict of "busy" is none yet: the update was not looked at, and is to be sent again after `retry_after_s`.
    """

    session: Identifier
    seq: Count
    code: Code
    text: Sentence = ""
    staleness: Count = 0
    weight: Amount = 0.0
    retry_after_s: Amount = 0.0

    @property
    def is_final(self) -> bool:
        """Whether it is a verdict at all."""
        return self.code is not Code.BUSY


@dataclass(frozen=True, slots=True)
class Welcome:
    """The conversation is open. Everything that a node needs to know before it can work.

    version    the newest
    disowned   the version that the node said it holds, if the ledger has lost it, or has another for it; otherwise -1
    trained    the newest version that the ledger has an accepted update from, of this node; -1 none
    seq        the last one that the ledger has from this node; the node goes on from there, also after a reinstall
    verdict    on that seq; None where it is still being written, or nothing was ever sent
    origin     of the versions that follow; those of another origin are not meant, however new
    task       what the federation learns, opaque to the runtime
    arrays     arrays that belong to the task (class text features), opaque to the runtime
    schema     names and shapes of the params
    run        which run this is, of all those that a federation of this name may have had; empty is unknown
    protocol   the newest that both ends read
    """

    session: Identifier
    version: Count
    seq: Count
    verdict: Verdict | None
    heartbeat_s: Amount
    up: Word
    task: Mapping[str, Any]
    schema: tuple[tuple[Word, tuple[Count, ...]], ...]
    evaluate_every: Count = 1
    trained: Held = -1
    disowned: Held = -1
    run: Word = ""
    origin: Identifier = 0
    protocol: Count = 1
    arrays: Raw = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Refuse:
    """The conversation cannot be had; `reason` is a code, `text` states both values."""

    session: Identifier
    reason: Word
    text: Sentence = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """The node has its features and can train. `examples` is 0 on a node that only evaluates."""

    session: Identifier
    examples: Count
    tests: Count


@dataclass(frozen=True, slots=True)
class Model:
    """Version `version` of the params, whole (`since` -1) or as what to add to version `since`.

    digest     of the params that the receiver then holds, first 16 bytes of sha256; empty where the payload is exact
    origin     a number that an aggregator's process draws where its versions may outlive it in a broker; 0 where not
    """

    version: Count
    since: Held
    codec: Word
    digest: bytes = b""
    payload: Raw = field(default=b"", repr=False)
    origin: Identifier = 0


@dataclass(frozen=True, slots=True)
class Task:
    """Train from `version`, or from a newer one that you hold by then."""

    version: Count


@dataclass(frozen=True, slots=True)
class Update:
    """One node's delta against `base_version`."""

    session: Identifier
    seq: Count
    base_version: Count
    codec: Word
    examples: Count
    steps: Count = 0
    loss: Label = 0.0
    train_s: Amount = 0.0
    payload: Raw = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Report:
    """Accuracy of a version on the node's own test split; `version` None is the frozen model without an adapter.

    correct    with what all nodes share
    personal   right with the node's own part beside it; None where there is none
    """

    session: Identifier
    version: Count | None
    examples: Count
    correct: Count
    loss: Label = 0.0
    personal: Count | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    """The node is alive; `activity` is a word for the status table, `done` of `total` its progress."""

    session: Identifier
    version: Held
    activity: Word = ""
    done: Count = 0
    total: Count = 0


@dataclass(frozen=True, slots=True)
class Pong:
    """The aggregator is alive, and this is its newest version."""

    session: Identifier
    version: Count


@dataclass(frozen=True, slots=True)
class Bye:
    """The sender leaves.

    From the aggregator, `reason` "finished" asks for an evaluation of `version`, the last one, and for a Bye in return.
    """

    session: Identifier
    reason: Word = "leaving"
    version: Count = 0


Message = Hello | Welcome | Refuse | Ready | Model | Task | Update | Verdict | Report | Ping | Pong | Bye
