"""One run in virtual time: a scenario, a policy and a seed in, a row out. It depends on these three alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from fedmq.plan import Job
from fedmq_bench.scenario import data as dealing
from fedmq_bench.scenario import policies
from fedmq_bench.scenario.data import Dealt, Pool
from fedmq_bench.scenario.fleet import Plan, plan
from fedmq_bench.scenario.form import Scenario
from fedmq_bench.scenario.gauge import Gauge
from fedmq_bench.scenario.log import RunLog
from fedmq_bench.scenario.world import World, single
from fedmq_nodes import task as tasks
from fedmq_nodes.trainer import Trainer

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


def run(scenario: Scenario, policy: str, pool: Pool, trains: bool = True) -> dict[str, Any]:
    """Run it, and return the row.

    pool       what there is to learn from: `data.pool` of the scenario's source
    trains     False leaves training out: what the system does, without what is learned
    """
    began = perf_counter()
    found = fleet(scenario, pool)
    job = tasks.job(pool.bundle, scenario.task, scenario.seed)
    gauge = None
    if trains:
        single()
        gauge = Gauge(tasks.understand(job.task, job.arrays), found.dealt, found.plan.stragglers)
    nodes = len(found.plan.members)
    updates, time_s = scenario.stop.updates_per_node * nodes, scenario.stop.time_s
    if policy != policies.SYNC and updates:
        time_s = time_s or _world(scenario, policies.SYNC, found, job, None).run(updates, 0.0).ended_s
        updates = round(scenario.stop.others * updates)
    world = _world(scenario, policy, found, job, gauge)
    world.log.begin(job.params)
    end = world.run(updates, time_s)
    figures = world.log.row(replace(world.aggregator.traffic), end.ended_s, end.finished)
    return {
        "case": CASE,
        "preset": scenario.name,
        "policy": policy,
        "engine": "sim",
        "seed": scenario.seed,
        "trained": trains,
        **figures,
        "zero_shot": None if gauge is None else gauge.zero_shot().accuracy,
        "bars": world.log.bars,
        "wall_s": perf_counter() - began,
    }


def _world(scenario: Scenario, policy: str, found: Fleet, job: Job, gauge: Gauge | None) -> World:
    """Return a world to run; without a gauge nothing is trained in it."""
    log = RunLog(found.plan, max(1, len(found.plan.members) // LOOKS), None if gauge is None else gauge.measure)
    settings = policies.settings(scenario, policy)
    return World(settings, job, found.plan, found.dealt, log, scenario.seed, gauge is not None)


def training_s(scenario: Scenario, pool: Pool) -> float:
    """Return how long a training of this scenario takes on this machine, by doing one of a node of middling size."""
    single()
    dealt = sorted(fleet(scenario, pool).dealt.values(), key=lambda one: len(one.data.train))
    job = tasks.job(pool.bundle, scenario.task, scenario.seed)
    trainer = Trainer(tasks.understand(job.task, job.arrays), dealt[len(dealt) // 2].data, 0)
    trainer.train(0, job.params)
    began = perf_counter()
    trainer.train(1, job.params)
    return perf_counter() - began
