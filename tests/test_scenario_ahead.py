"""Trainings in other processes, ahead of their time: the same bits, in the order in which they are due, and no hang."""

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scenery
from fedmq.delta import digest_of
from fedmq.effects import Train
from fedmq.plan import Job
from fedmq_bench.scenario import data
from fedmq_bench.scenario.ahead import AHEAD, Ahead, training
from fedmq_bench.scenario.case import Case
from fedmq_bench.scenario.slots import Learner
from fedmq_bench.scenario.world import World
from fedmq_models.examples import Examples
from fedmq_nodes import task as tasks
from fedmq_nodes.results import Trained
from fedmq_nodes.sources import Data
from fedmq_nodes.task import Task
from fedmq_nodes.trainer import Trainer
from test_scenario_run import EVERYTHING
from toy import DIM, LABELS

MOST = 40
ONES = {"updates_per_node": 3}


def examples(seed: int, count: int = MOST) -> Examples:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((2 * count, DIM)).astype(np.float32)
    return Examples(features, np.arange(count) * 2, rng.integers(0, len(LABELS), count))


def learned(folder: Path, **task: Any) -> tuple[Job, Task]:
    found = scenery.scenario(folder, task={"lr": 0.05, "batch_size": 16} | task)
    job = tasks.job(data.pool(found.data.source, lambda _line: None).bundle, found.task, found.seed)
    return job, tasks.understand(job.task, job.arrays)


def here(task: Task, learner: Learner, train: Train) -> Trained:
    """Return the same training, done in this process."""
    own = Data(learner.examples, learner.examples)
    return Trainer(task, own, learner.seed).train(train.version, train.params, train.personal)


def same(one: Trained, other: Trained) -> bool:
    def told(trained: Trained) -> tuple[object, ...]:
        parts = [None if part is None else digest_of(part) for part in (trained.params, trained.personal)]
        return (trained.version, trained.examples, trained.steps, trained.loss, *parts)

    return told(one) == told(other)


def run(found: Any, policy: str, many: int) -> dict[str, Any]:
    """Return the row of a run with so many processes, beside this one; 0 is none."""
    pool = data.pool(found.data.source, lambda _line: None)
    case = Case.of(found, policy, pool, trains=True)
    plan, dealt, log = case.fleet.plan, case.fleet.dealt, case.log

    def row(ahead: Ahead | None) -> dict[str, Any]:
        world = World(case.settings, case.job, plan, dealt, log, found.seed, trains=True, ahead=ahead)
        end = world.run(case.time_s)
        assert ahead is None or ahead.spent.processes > 0
        return log.row(world.aggregator.traffic, end.ended_s, end.finished)

    if not many:
        return row(None)
    task = tasks.understand(case.job.task, case.job.arrays)
    with training(many, task, max(len(one.data.train) for one in dealt.values())) as ahead:
        assert ahead is not None
        return row(ahead)


def test_a_run_has_the_same_bits_with_processes_and_without_whatever_dies_in_it(tmp_path: Path) -> None:
    found = scenery.scenario(tmp_path, EVERYTHING)
    rows = [run(found, "quorum", many) for many in (0, 1, 3)]
    assert rows[0] == rows[1] == rows[2]
    assert rows[0]["finished"]


@pytest.mark.parametrize("method", ["linear", "personal"])
def test_what_stays_on_a_node_goes_there_and_back(method: str, tmp_path: Path) -> None:
    found = scenery.scenario(tmp_path, task={"method": method, "lr": 0.05}, stop=ONES)
    assert run(found, "sync", 2) == run(found, "sync", 0)


def test_trainings_that_are_never_asked_for_keep_no_slot_and_change_no_bits(tmp_path: Path) -> None:
    job, task = learned(tmp_path)
    with training(2, task, MOST) as ahead:
        assert ahead is not None
        planned = []
        for number in range(40):
            learner, train = Learner(examples(number, MOST - number % 3), number), Train(number, job.params)
            planned.append((ahead.plan(learner, train, float(number)), learner, train))
        asked = [one for number, one in enumerate(planned) if number % 7 in (0, 3, 4)]
        assert all(same(work(), here(task, learner, train)) for work, learner, train in asked)


def test_what_is_planned_late_is_done_before_what_was_begun_for_later(tmp_path: Path) -> None:
    job, task = learned(tmp_path)
    with training(1, task, MOST) as ahead:
        assert ahead is not None
        due = [1.0, *range(10, 10 + 2 * AHEAD)]
        learner, train = Learner(examples(0), 0), [Train(version, job.params) for version in range(len(due) + 1)]
        works = [ahead.plan(learner, one, float(at)) for one, at in zip(train, due, strict=False)]
        assert same(works[0](), here(task, learner, train[0]))
        late = ahead.plan(learner, train[-1], 2.0)
        assert same(late(), here(task, learner, train[-1]))
        assert all(same(work(), here(task, learner, one)) for work, one in zip(works[1:], train[1:], strict=False))


def test_a_training_that_was_dropped_and_is_asked_for_all_the_same_is_done_again(tmp_path: Path) -> None:
    job, task = learned(tmp_path)
    with training(1, task, MOST) as ahead:
        assert ahead is not None
        learner = Learner(examples(0), 0)
        works = [ahead.plan(learner, Train(version, job.params), float(version)) for version in range(4)]
        found = [works[number]().version for number in (0, 3, 1)]
    assert found == [0, 3, 1]


@pytest.mark.parametrize("task", [{"moon": 1.0}])
def test_what_keeps_a_state_on_its_node_is_not_trained_elsewhere(task: dict[str, Any], tmp_path: Path) -> None:
    with training(2, learned(tmp_path, **task)[1], MOST) as ahead:
        assert ahead is None
    assert multiprocessing.active_children() == []


def test_what_a_training_raises_is_raised_where_it_is_asked_for_and_the_next_one_is_done(tmp_path: Path) -> None:
    job, task = learned(tmp_path)
    wrong = examples(0)
    wrong.labels[3] = 99
    with training(1, task, MOST) as ahead:
        assert ahead is not None
        fails = ahead.plan(Learner(wrong, 0), Train(7, job.params), 0.0)
        works = ahead.plan(Learner(examples(0), 0), Train(8, job.params), 1.0)
        with pytest.raises(RuntimeError, match="training from version 7 failed: .*Target 99 is out of bounds") as told:
            fails()
        assert "slots.py" in told.value.__notes__[0]
        assert works().version == 8


def test_a_process_that_is_killed_is_told_of_and_not_waited_for(tmp_path: Path) -> None:
    job, task = learned(tmp_path)
    with training(2, task, MOST) as ahead:
        assert ahead is not None
        works = [ahead.plan(Learner(examples(0), 0), Train(at, job.params), float(at)) for at in range(20)]
        works[0]()
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        with pytest.raises(RuntimeError, match="a process of the benchmark ended early"):
            [work() for work in works[1:]]
    assert multiprocessing.active_children() == []
