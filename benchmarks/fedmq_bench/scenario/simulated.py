"""One run in virtual time: a scenario, a policy and a seed in, a row out. It depends on these three alone."""

from dataclasses import replace
from time import perf_counter
from typing import Any

from fedmq_bench.scenario.case import Case, fleet
from fedmq_bench.scenario.data import Pool
from fedmq_bench.scenario.form import Scenario
from fedmq_bench.scenario.host import DISK_S
from fedmq_bench.scenario.world import World, single
from fedmq_nodes import task as tasks
from fedmq_nodes.trainer import Trainer


def run(scenario: Scenario, policy: str, pool: Pool, trains: bool = True, disk_s: float = DISK_S) -> dict[str, Any]:
    """Run it, and return the row.

    pool       what there is to learn from: `data.pool` of the scenario's source
    trains     False leaves training out: what the system does, without what is learned
    disk_s     until what is written is on a disk
    """
    began = perf_counter()
    case = Case.of(scenario, policy, pool, trains)
    plan, dealt = case.fleet.plan, case.fleet.dealt
    world = World(case.settings, case.job, plan, dealt, case.log, scenario.seed, trains, disk_s=disk_s)
    end = world.run(case.time_s)
    figures = case.log.row(replace(world.aggregator.traffic), end.ended_s, end.finished)
    return case.row("sim", figures, perf_counter() - began)


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
