"""Rounds: which updates count, and when collecting stops.

A round is a small state machine over (who was invited, who delivered, who is gone, now). It holds no arrays and sends
nothing: the aggregator folds what a round admits. Time is always an argument, so a test can hold a round open for a
year.

Sync and deadline rounds follow Bonawitz et al. 2019 (arXiv:1902.01046); `fedbuff` follows Nguyen et al. 2022
(arXiv:2106.06639), Algorithm 1, where K is our `goal`, and `fedasync` Xie et al. 2019 (arXiv:1903.03934) on deltas. One
difference is deliberate: a node trains at most once from a version, so that no fast node fills a round by itself.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from fedmq.quantities import Amount, Count, Positive, Share, Size


@dataclass(frozen=True)
class Policy:
    """When a round ends, and how late an update may be.

    goal             updates that close a round at once; 0 is one from every node that was invited
    quorum           the fewest updates that may close it
    quorum_share     the same as a share of the nodes that may deliver; the larger of the two holds
    deadline_s       after so long, close with a quorum; None never does
    grace            once the quorum is in, close after this share of the time that it took; None never does
    max_staleness    versions that an update may be behind; 0 refuses the late, more carries them into the open round
    invite           nodes invited to a round, drawn at random; 0 invites all
    over_selection   invite this many times as many, so that the goal survives dropouts
    """

    goal: Count = 0
    quorum: Positive = 1
    quorum_share: Share = 0.0
    deadline_s: Size | None = None
    grace: Amount | None = None
    max_staleness: Count = 0
    invite: Count = 0
    over_selection: Annotated[float, Field(strict=True, ge=1, allow_inf_nan=False)] = 1.0

    @property
    def places(self) -> int | None:
        """How many nodes a round invites, over-selection included; None is all."""
        return _share(self.over_selection, self.invite) or None


PRESETS: dict[str, Policy] = {
    "sync": Policy(),
    "deadline": Policy(deadline_s=60.0),
    "quorum": Policy(quorum_share=0.5, grace=0.25, max_staleness=20),
    "fedbuff": Policy(goal=10, max_staleness=20),
    "fedasync": Policy(goal=1, max_staleness=20),
}


class Cause(StrEnum):
    """Why a round closed: goal met, nobody left to wait for, grace over, or deadline passed; always with a quorum.

    Or there was none: a node was forgotten.
    """

    GOAL = "goal"
    GONE = "gone"
    GRACE = "grace"
    DEADLINE = "deadline"
    FORGOTTEN = "forgotten"


@dataclass
class Round:
    """One collection, which ends in version `number`.

    opened_at     None until somebody is invited: an empty fleet spends no deadline
    waiting_for   invited, and neither delivered nor gone
    gone          invited, and lost before delivering
    carried       training from an older version: not waited for, but their updates may count
    delivered     who did, at least once
    expected      who has delivered, or still may
    """

    number: int
    policy: Policy
    opened_at: float | None = None
    deadline_at: float | None = None
    quorum_at: float | None = None
    updates: int = 0
    invited: set[str] = field(default_factory=set)
    waiting_for: dict[str, None] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    carried: set[str] = field(default_factory=set)
    delivered: set[str] = field(default_factory=set)
    expected: set[str] = field(default_factory=set)

    def expect(self, node: str) -> None:
        """Know of a node that still trains from an older version; one that is waited for is known already."""
        if node in self.waiting_for:
            return
        self.carried.add(node)
        self.expected.add(node)
        self.gone.discard(node)

    def invite(self, node: str, now: float) -> None:
        """Wait for this node."""
        self._open(now)
        self.invited.add(node)
        self.expected.add(node)
        self.waiting_for[node] = None
        self.carried.discard(node)
        self.gone.discard(node)

    def deliver(self, node: str, now: float) -> None:
        """Count an admitted update, of this round or carried over from an earlier one."""
        self._open(now)
        self.updates += 1
        self.waiting_for.pop(node, None)
        self.carried.discard(node)
        self.gone.discard(node)
        self.delivered.add(node)
        self.expected.add(node)
        self._look_for_quorum(now)

    def lose(self, node: str, now: float) -> None:
        """Stop waiting for this node, until it is invited again or delivers."""
        if node in self.waiting_for:
            del self.waiting_for[node]
            self.gone.add(node)
        elif node in self.carried:
            self.carried.discard(node)
        else:
            return
        if node not in self.delivered:
            self.expected.discard(node)
        self._look_for_quorum(now)

    def extend(self, now: float) -> None:
        """Start the deadline anew: it passed without a quorum, and what was accepted must not be lost."""
        assert self.policy.deadline_s is not None
        self.deadline_at = now + self.policy.deadline_s

    def _open(self, now: float) -> None:
        if self.opened_at is None:
            self.opened_at = now
            self.deadline_at = None if self.policy.deadline_s is None else now + self.policy.deadline_s

    def _look_for_quorum(self, now: float) -> None:
        if self.quorum_at is None and self.updates >= self.quorum:
            self.quorum_at = now

    def places_left(self, places: int) -> int:
        """How many more may be invited into a round of so many places: those who are gone have left theirs."""
        return max(0, places - len(self.invited) + len(self.gone))

    @property
    def goal(self) -> int:
        """How many updates close this round at once: never more than can still come."""
        waiting = self.updates + len(self.waiting_for)
        return min(self.policy.goal, waiting + len(self.carried)) if self.policy.goal else waiting

    @property
    def is_full(self) -> bool:
        """Whether a fixed goal is met, and with a quorum, whoever else may come."""
        return 0 < self.policy.goal <= self.updates and self.updates >= self.quorum

    @property
    def quorum(self) -> int:
        """The fewest updates that may close this round."""
        return max(1, self.policy.quorum, _share(self.policy.quorum_share, len(self.expected)))

    @property
    def grace_at(self) -> float | None:
        """When the grace ends; None where there is none, or no quorum."""
        if self.policy.grace is None or self.quorum_at is None or self.opened_at is None or self.updates < self.quorum:
            return None
        return self.quorum_at + self.policy.grace * (self.quorum_at - self.opened_at)

    def cause(self, now: float) -> Cause | None:
        """Return why this round ends now, or None: it goes on."""
        if self.updates < self.quorum:
            return None
        if self.updates >= self.goal:
            return Cause.GONE if self.gone and not self.waiting_for and not self.is_full else Cause.GOAL
        if self.grace_at is not None and now >= self.grace_at:
            return Cause.GRACE
        return Cause.DEADLINE if self.overdue(now) else None

    def overdue(self, now: float) -> bool:
        """Whether the deadline has passed."""
        return self.deadline_at is not None and now >= self.deadline_at

    def next_deadline(self) -> float | None:
        """Return when to look at the clock again."""
        return min((at for at in (self.grace_at, self.deadline_at) if at is not None), default=None)


def _share(share: float, count: int) -> int:
    """Return a share of a count, rounded up: 0.07 of 100 is 7, although the product of the two floats is not."""
    return math.ceil(round(share * count, 9))
