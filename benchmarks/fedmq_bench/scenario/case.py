"""A case: one scenario under one policy, made ready for whichever engine runs it, and the row that tells of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fedmq.config import Federation
from fedmq.plan import Job
from fedmq_bench.scenario import data as dealing
from fedmq_bench.scenario import policies, speed
from fedmq_bench.scenario.data import Dealt, Pool
from fedmq_bench.scenario.fleet import Plan, plan
from fedmq_bench.scenario.form import Scenario
from fedmq_bench.scenario.gauge import Gauge
from fedmq_bench.scenario.log import RunLog
from fedmq_bench.scenario.world import World, single
from fedmq_nodes import task as tasks

CASE = "scenario run"
LOOKS = 4  # times that versions are measured while as many updates come as there are nodes


@dataclass(frozen=True)
class Fleet:
    """Who takes part, with what."""

    plan: Plan
    dealt: Mapping[str, Dealt]


def fleet(scenario: Scenario, pool: Pool) -> Fleet:
    """Draw the fleet of a scenario."""
    dealt = dealing.deal(scenario, pool)
    homes = {name: (one.domain, len(one.data.train)) for name, one in dealt.items()}
    return Fleet(plan(scenario, homes), dealt)


@dataclass(frozen=True)
class Case:
    """What an engine is given.

    scenario     with its times as they are run, which may be faster than they stand in its file
    gauge        None where nothing is trained
    time_s       when it is over; 0 is never
    """

    scenario: Scenario
    policy: str
    settings: Federation
    fleet: Fleet
    job: Job
    log: RunLog
    gauge: Gauge | None
    time_s: float

    @classmethod
    def of(cls, scenario: Scenario, policy: str, pool: Pool, trains: bool) -> "Case":
        """Draw the fleet, and say what it learns under this policy, and for how long."""
        faster = speed.scenario(scenario)
        found, job = fleet(faster, pool), tasks.job(pool.bundle, scenario.task, scenario.seed)
        settings = _settings(faster, policy, found.plan)
        updates, time_s = faster.stop.updates_per_node * len(found.plan.members), faster.stop.time_s
        if policy != policies.SYNC and updates:
            time_s = time_s or _sync_s(faster, found, job, updates)
            updates = round(faster.stop.others * updates)
        gauge = None
        if trains:
            single()
            gauge = Gauge(tasks.understand(job.task, job.arrays), found.dealt, found.plan.stragglers)
        log = _log(found, updates, gauge)
        log.begin(job.params)
        return cls(faster, policy, settings, found, job, log, gauge, time_s)

    def row(self, engine: str, figures: Mapping[str, Any], wall_s: float) -> dict[str, Any]:
        """Return what is told of it, whichever engine ran it."""
        return {
            "case": CASE,
            "preset": self.scenario.name,
            "policy": self.policy,
            "engine": engine,
            "seed": self.scenario.seed,
            "speed": self.scenario.speed,
            "trained": self.gauge is not None,
            **figures,
            "zero_shot": None if self.gauge is None else self.gauge.zero_shot().accuracy,
            "bars": self.log.bars,
            "wall_s": wall_s,
        }


def _settings(scenario: Scenario, policy: str, whole: Plan) -> Federation:
    found = speed.settings(policies.settings(scenario, policy), scenario.speed)
    return replace(found, start_nodes=max(found.start_nodes, whole.present))


def _log(found: Fleet, updates: int, gauge: Gauge | None) -> RunLog:
    every = max(1, len(found.plan.members) // LOOKS)
    return RunLog(found.plan, every, None if gauge is None else gauge.measure, updates)


def _sync_s(scenario: Scenario, found: Fleet, job: Job, updates: int) -> float:
    """Return how long sync takes for so many updates, in virtual time."""
    settings, log = _settings(scenario, policies.SYNC, found.plan), _log(found, updates, None)
    return World(settings, job, found.plan, found.dealt, log, scenario.seed, trains=False).run(0.0).ended_s
