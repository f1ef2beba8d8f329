"""Effects: what a core asks of its shell. Values, so that a test compares them and a simulation carries them out.

Work that takes time comes back as an event: `Keep` as kept, `Prepare` as prepared, `Train` as trained, `Evaluate` as
evaluated, `Remember` as remembered. A core never waits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from fedmq.codec import Frame
from fedmq.delta import Params, Schema
from fedmq.journal import Entry
from fedmq.memory import Memory

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True)
class Send:
    """Hand this frame to the link, for each of these peers."""

    peers: tuple[str, ...]
    frame: Frame


class Audience(StrEnum):
    """Whom a publication is for: those who are there, those who come later, or both."""

    PRESENT = "present"
    LATER = "later"
    ALL = "all"


@dataclass(frozen=True)
class Publish:
    """Hand this frame to the link once, for all of these nodes.

    Only a core that was told that its link can do so asks for it.
    """

    frame: Frame
    audience: Audience


@dataclass(frozen=True)
class Keep:
    """Make these entries durable, in this order, in one transaction; then say kept(number)."""

    number: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Log:
    """Tell a person. `event` is noun.verb in the past tense; the same key means the same everywhere."""

    level: Level
    event: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepare:
    """Get the features ready for this task, whose params have this schema; then say prepared(...).

    up         codec of updates, or form of statistics
    """

    task: Mapping[str, Any]
    arrays: bytes
    schema: Schema
    up: str = ""


@dataclass(frozen=True)
class Train:
    """Train from these params, and the node's own; then say trained(...)."""

    version: int
    params: Params
    personal: Params | None = None


@dataclass(frozen=True)
class Evaluate:
    """Measure these params on the test split, or without any the frozen model alone; then say evaluated(...).

    personal     the node's own part, with which they are measured as well
    """

    version: int | None
    params: Params | None
    personal: Params | None = None


@dataclass(frozen=True)
class Cancel:
    """Stop training; its result is not wanted."""


@dataclass(frozen=True)
class Remember:
    """Make this what the node's next process is handed, in place of what it was; then say remembered(memory)."""

    memory: Memory


@dataclass(frozen=True)
class Done:
    """This core has nothing more to do. `refused` where the other end would not have us."""

    reason: str
    text: str = ""
    refused: bool = False


Effect = Send | Publish | Keep | Log | Prepare | Train | Evaluate | Cancel | Remember | Done
