"""Convening: who is invited to a round, and what follows when it ends. Step 11 of the walk of a delta.

The round itself says who has a place in it, when it is over and why (`rounds`). Here its word is carried out: nodes are
asked to train, what was collected becomes a version, and once that is announced, the next round knows whom it has.
"""

from dataclasses import replace

from numpy.random import Generator

from fedmq.collecting import Collecting
from fedmq.journal import Journal, Traffic
from fedmq.plan import Settings
from fedmq.post import Post
from fedmq.roster import Roster
from fedmq.rounds import Cause


class Convener:
    """Convenes one round after the other."""

    def __init__(
        self,
        settings: Settings,
        roster: Roster,
        collector: Collecting,
        journal: Journal,
        post: Post,
        traffic: Traffic,
        rng: Generator,
    ) -> None:
        self._settings, self._roster, self._collector = settings, roster, collector
        self._journal, self._post, self._traffic, self._rng = journal, post, traffic, rng

    def go_on(self, now: float) -> bool:
        """Invite whom the round has a place for, and end it if it is over; return whether a version came of it."""
        round_ = self._collector.round
        if not round_.invited:
            # A new round asks first: an update carried over must not close it before anyone could take part.
            self._invite(now)
        if (cause := round_.cause(now)) is not None:
            self._commit(cause, now)
            return True
        self._invite(now)
        if round_.overdue(now):
            self._extend(now)
        return False

    def reconvene(self) -> None:
        """Begin the round after a version that was just announced, with those who are there."""
        version = self._collector.versions.number
        ready = [member for member in self._roster.connected() if member.ready]
        for member in ready:
            self._roster.update_free(member, version)
            if member.task is not None:
                self._collector.round.expect(member.peer)
        if self._settings.evaluates(version):
            # A node that trains is not disturbed: it is brought up to date when it is next invited.
            self._post.bring(member for member in ready if member.task is None)

    def _invite(self, now: float) -> None:
        """Invite the free nodes that the open round has a place for.

        A round that waits for everyone whom it invited takes nobody more while it waits; one with a fixed goal takes
        all.
        """
        round_, policy, newest = self._collector.round, self._settings.rounds, self._collector.versions.number
        if not self._roster.free or round_.is_full or (round_.waiting_for and not policy.goal):
            return
        if newest == 0 and round_.opened_at is None and self._roster.ready() < self._settings.start_nodes:
            return
        places = len(self._roster.free) if policy.places is None else round_.places_left(policy.places)
        if not places:
            return
        chosen = list(self._roster.free)
        if len(chosen) > places:
            chosen = [chosen[i] for i in sorted(self._rng.choice(len(chosen), places, replace=False))]
        members = [self._roster.members[peer] for peer in chosen]
        self._post.assign(members)
        for member in members:
            round_.invite(member.peer, now)
            self._roster.update_free(member, newest)

    def _commit(self, cause: Cause, now: float) -> None:
        entry = self._collector.commit(cause, replace(self._traffic), now)
        self._journal.add(entry)
        self._post.log(
            "info",
            "round.closed",
            now,
            version=entry.version,
            cause=cause.value,
            updates=entry.updates,
            invited=entry.invited,
            open_s=round(now - entry.opened_at, 3),
            step_norm=round(entry.step_norm, 6),
        )

    def _extend(self, now: float) -> None:
        """The deadline passed without a quorum: what was accepted stays, and the round goes on."""
        round_ = self._collector.round
        waiting = sorted(round_.waiting_for)
        self._post.log(
            "warning", "round.extended", now, updates=round_.updates, quorum=round_.quorum, waiting_for=waiting
        )
        round_.extend(now)
