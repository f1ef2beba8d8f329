"""A sweep: one scenario under several policies and seeds, in processes, each run a row in a file as soon as it is done.

What the file has already is not run again, so a sweep that was stopped goes on where it was. A row depends on its
scenario, policy and seed alone, so it does not matter who runs it, or in which order.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fedmq_bench import machine
from fedmq_bench.errors import ResultsUnusable
from fedmq_bench.harness import Say
from fedmq_bench.scenario import data, policies, real, simulated
from fedmq_bench.scenario.form import Scenario
from fedmq_bench.scenario.real import Over

START = '{"key": "'  # of every line
Row = dict[str, Any]
# Runs one task: a scenario with its seed, a policy, and whether nodes learn.
Runner = Callable[[Iterable["Task"], Say], Iterator[Row]]


@dataclass(frozen=True)
class Task:
    """One run of a sweep.

    over     what a real run goes over; None is virtual time
    """

    scenario: Scenario
    policy: str
    trains: bool = True
    over: Over | None = None

    @property
    def key(self) -> str:
        """What this run and no other is called: the scenario with everything in it, and what the policy is by now."""
        policy = asdict(policies.settings(self.scenario, self.policy))
        told = [asdict(self.scenario), self.policy, policy, self.trains, self.over]
        return sha256(json.dumps(told, default=str, sort_keys=True).encode()).hexdigest()[:16]


def tasks(
    scenario: Scenario, policies: Sequence[str], seeds: int, trains: bool = True, over: Over | None = None
) -> list[Task]:
    """Return one task per policy and seed, from the file's on; all policies of a seed come before the next one."""
    return [
        Task(replace(scenario, seed=scenario.seed + offset), policy, trains, over)
        for offset in range(seeds)
        for policy in policies
    ]


def sweep(wanted: Sequence[Task], kept: Path, runner: Runner, context: Mapping[str, Any], say: Say) -> list[Row]:
    """Run what the file does not have yet, and return the rows of all tasks, in their order.

    raises     ResultsUnusable if the file cannot be read or written
    """
    found = _kept(kept)
    missing = [task for task in wanted if task.key not in found]
    if len(missing) < len(wanted):
        say(f"{len(wanted) - len(missing)} of {len(wanted)} runs are in {kept} already")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with kept.open("a", encoding="utf-8") as file:
            for number, row in enumerate(runner(missing, say), 1):
                found[row["key"]] = row
                file.write(json.dumps({**row, "context": context}) + "\n")
                file.flush()
                say(f"{number} of {len(missing)}: {row['policy']}, seed {row['seed']}, {row['wall_s']:.1f} s")
    except OSError as error:
        raise ResultsUnusable(f"{kept} cannot be written: {error.strerror}") from error
    return [found[task.key] for task in wanted]


def pooled(processes: int) -> Runner:
    """Return what runs tasks in so many processes of this machine; with one, in this process.

    Real runs want one: they have processes of their own, and would take each other's time.
    """

    def runner(wanted: Iterable[Task], say: Say) -> Iterator[Row]:
        missing = list(wanted)
        for source in {task.scenario.data.source for task in missing}:
            data.pool(source, say)  # what is made once is made before several would make it
        if processes == 1 or len(missing) <= 1:
            yield from (run(task, say) for task in missing)
            return
        with ProcessPoolExecutor(min(processes, len(missing)), get_context("spawn")) as pool:
            for done in as_completed([pool.submit(run, task) for task in missing]):
                yield done.result()

    return runner


def run(task: Task, say: Say = lambda _line: None) -> Row:
    """Run one task."""
    pool = data.pool(task.scenario.data.source, lambda _line: None)
    if task.over is None:
        return {"key": task.key, **simulated.run(task.scenario, task.policy, pool, task.trains)}
    return {"key": task.key, **real.run(task.scenario, task.policy, pool, task.trains, task.over, say)}


def forecast(wanted: Sequence[Task], kept: Path, processes: int, say: Say) -> float:
    """Say what a sweep will cost, and return the seconds: a run without training of each policy, and one training.

    What is done, in the file, costs nothing. A run trains as often as it accepts updates; a real one takes the time
    that it is about.
    """
    found = _kept(kept)
    missing = [task for task in wanted if task.key not in found]
    if not missing:
        return 0.0
    first = {task.policy: task for task in reversed(missing)}
    trained_s = simulated.training_s(missing[0].scenario, data.pool(missing[0].scenario.data.source, say))
    costs = {}
    for policy, task in first.items():
        row = run(replace(task, trains=False, over=None))
        trains_s = row["accepted"] * trained_s if task.trains else 0.0
        costs[policy] = row["wall_s"] + trains_s if task.over is None else row["ended_s"]
    total: float = sum(costs[task.policy] for task in missing) / min(processes, machine.cores(), len(missing))
    say(f"{len(missing)} runs, about {total:.0f} s with {min(processes, len(missing))} processes on a quiet machine")
    return total


def _kept(path: Path) -> dict[str, Row]:
    """Return the rows of a file by their keys; a last line that was cut short is taken away."""
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        whole, _, rest = text.rpartition("\n")
        if rest:
            if not rest.startswith(START):
                raise ValueError(f"its last line begins with {rest[:20]!r}")
            path.write_text(f"{whole}\n" if whole else "", encoding="utf-8")
        return {row["key"]: row for row in map(json.loads, whole.splitlines())}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsUnusable(f"{path} is no file of a sweep: {error}; give --rows another name") from error
