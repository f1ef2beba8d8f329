"""The plan of a fleet: who is slow, absent, cut off, dishonest, and when. Drawn before anything happens.

It knows neither policies nor clocks nor cores, so whoever carries it out, in virtual time or with real processes, does
the same to the same nodes. What depends on what a node does has an index: its third training, its second upload.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray

from fedmq_bench.scenario import timeline
from fedmq_bench.scenario.draws import Draws
from fedmq_bench.scenario.form import Byzantine, Group, Partition, Scenario
from fedmq_bench.scenario.timeline import FOREVER_S, Outages, Spell

USUAL_OF = 20  # trainings, the mean of which is what a node usually takes
PATIENCE_S, PATIENCE = 600.0, 100.0  # without an accepted update, and as many times what a training usually takes
STRAGGLES = 2.0  # times the fleet's median, from which on a node is a straggler


class Phase(StrEnum):
    """When in a task a node drops out."""

    BEFORE_TRAINING = "before_training"
    MID_UPLOAD = "mid_upload"
    AFTER_UPLOAD = "after_upload"


@dataclass(frozen=True)
class Member:
    """One node of the plan.

    place        its number in its group
    examples     to train on
    pace         what its trainings take times as long as its group's draws
    attack       None where it is honest
    ahead_s      how far its clock is off at the start; `drift` is what that grows by, per second
    partitions   that concern it
    """

    name: str
    group: Group
    place: int
    domain: str
    examples: int
    pace: float
    attack: Byzantine | None
    ahead_s: float
    drift: float
    partitions: tuple[Partition, ...]
    draws: Draws = field(repr=False)

    def train_s(self, index: int) -> float:
        """Return how long its training of this index takes."""
        compute = self.group.compute
        if compute.dist == "constant":
            seconds = compute.scale * self.pace
        else:
            seconds = compute.draw(self.draws.rng(self.name, "compute", index), self._known) * self.pace
        return seconds * self.examples if self.group.per_example else seconds

    @cached_property
    def usual_s(self) -> float:
        """How long a training usually takes."""
        return fmean(self.train_s(index) for index in range(1 if self.group.compute.dist == "constant" else USUAL_OF))

    @cached_property
    def _known(self) -> NDArray[np.float64] | None:
        return None if self.group.compute.file is None else self.group.compute.numbers()

    @property
    def training_seed(self) -> int:
        """What the order of its examples is drawn from."""
        return int(self.draws.rng(self.name, "training").integers(2**31))

    def drops(self, phase: Phase, index: int) -> bool:
        """Whether it drops out in this phase of its task, or upload, of this index."""
        return self.draws.chance(getattr(self.group.drop, phase), self.name, phase, index)

    def lost_after(self, index: int) -> float:
        """Return the share of an upload that has gone out when its connection breaks."""
        return float(self.draws.rng(self.name, "lost after", index).random())

    def away(self) -> Iterator[Spell]:
        """Yield when no process of this node runs, whatever it does."""
        group = self.group
        late = group.joins_s
        if group.joins_within_s:
            late += group.joins_within_s * float(self.draws.rng(self.name, "joins").random())
        spells: list[Spell] = [(0.0, late)] if late else []
        gone = [(group.leaves_s, FOREVER_S)] if group.leaves_s else []
        absent = timeline.absences(group.present, self.draws, self.name, "present", self.place)
        return timeline.merged(spells, absent, timeline.crashes(group.crash, self.draws, self.name), gone)

    def cut_off(self) -> Outages:
        """Return when nothing passes over its link."""
        absent = timeline.absences(self.group.reachable, self.draws, self.name, "reachable", self.place)
        partitions = sorted((one.at_s, one.at_s + one.for_s) for one in self.partitions)
        return Outages(timeline.merged(absent, partitions))


@dataclass(frozen=True)
class Plan:
    """Everyone, by name."""

    members: Mapping[str, Member]

    @property
    def present(self) -> int:
        """How many are there from the beginning: the first round waits for them."""
        return sum(next(member.away(), (FOREVER_S,))[0] > 0 for member in self.members.values())

    @property
    def patience_s(self) -> float:
        """How long without an accepted update a run is given up."""
        return PATIENCE_S + PATIENCE * median(member.usual_s for member in self.members.values())

    @cached_property
    def stragglers(self) -> tuple[str, ...]:
        """Who usually takes twice as long as half of the fleet; if nobody does, the slowest tenth."""
        usual = {name: member.usual_s for name, member in self.members.items()}
        limit = STRAGGLES * median(usual.values())
        slow = [name for name, seconds in usual.items() if seconds > limit]
        tenth = max(1, len(usual) // 10)
        return tuple(slow or sorted(usual, key=lambda name: (-usual[name], name))[:tenth])


def plan(scenario: Scenario, homes: Mapping[str, tuple[str, int]]) -> Plan:
    """Draw the fleet.

    homes     per node its domain and its examples, in the order of groups and numbers
    """
    draws, correlation = Draws(scenario.seed), scenario.correlation
    middle = median(examples for _, examples in homes.values())
    places = [(group, place) for group in scenario.groups for place in range(group.count)]
    members = {}
    for (group, place), (name, (domain, examples)) in zip(places, homes.items(), strict=True):
        pace = group.speed.draw(draws.rng(name, "speed"))
        pace *= correlation.slower if domain == correlation.slow_domain else 1.0
        pace *= (examples / middle) ** correlation.examples
        members[name] = Member(
            name=name,
            group=group,
            place=place,
            domain=domain,
            examples=examples,
            pace=pace,
            attack=group.byzantine if place in _attackers(group, draws) else None,
            ahead_s=group.skew.offset_s * float(draws.rng(name, "skew").random()),
            drift=group.skew.drift * float(draws.rng(name, "drift").uniform(-1, 1)),
            partitions=tuple(one for one in scenario.partitions if group.name in (one.groups or (group.name,))),
            draws=draws,
        )
    return Plan(members)


def _attackers(group: Group, draws: Draws) -> frozenset[int]:
    many = round(group.byzantine.share * group.count)
    return frozenset(map(int, draws.rng(group.name, "attackers").permutation(group.count)[:many]))
