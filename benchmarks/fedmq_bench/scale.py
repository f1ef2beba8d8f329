"""Scale: very many real cores in one process under the virtual clock, folding real updates of FedCLIP's size.

Of the whole system, training alone is left out: what a node sends is generated from what it holds, as long as an
update is, squeezed, framed, judged and folded as any other. With training, each node has its own examples, and what is
measured is how many local runs a second the simulation gets through. There is nothing beside it to compare with but
other simulators' words.
"""

import resource
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from fedmq.plan import Job
from fedmq_bench import machine
from fedmq_bench.harness import Say
from fedmq_bench.scenario import file, policies
from fedmq_bench.scenario.ahead import Ahead, training
from fedmq_bench.scenario.data import Dealt
from fedmq_bench.scenario.fleet import plan
from fedmq_bench.scenario.form import Scenario
from fedmq_bench.scenario.log import RunLog
from fedmq_bench.scenario.slots import Spent
from fedmq_bench.scenario.world import World, single
from fedmq_models import bundle as bundles
from fedmq_models.bundle import Bundle
from fedmq_models.examples import Examples
from fedmq_nodes import task as tasks
from fedmq_nodes.sources import Data

CASE, POLICY = "scale", "scale"
DIM, CLASSES = 512, 10
NORM = 10.0  # of a feature, as CLIP gives it
WORTH = 500  # trainings; with fewer, processes win less time than the seconds in which they load torch


@dataclass(frozen=True)
class Size:
    """How much.

    goal         updates of a version; 0 is one of every node
    examples     of a node, where it trains
    """

    nodes: int
    versions: int
    goal: int = 0
    examples: int = 100
    trains: bool = False
    codec: str = "int8"


def measure(size: Size, seed: int, say: Say) -> Iterator[dict[str, Any]]:
    """Yield the row of one size."""
    scenario = _scenario(size, seed)
    job = tasks.job(_bundle(), scenario.task, seed)
    began, began_cpu = perf_counter(), process_time()
    with _trained_by(size, job) as ahead:
        world = _world(size, seed, scenario, job, ahead)
        say(f"{size.nodes} nodes are there after {perf_counter() - began:.1f} s")
        ready, ready_cpu = perf_counter(), process_time()
        world.simulation.run(stop=lambda: world.aggregator.version >= size.versions)
        ended, ended_cpu = perf_counter(), process_time()
        elsewhere = Spent() if ahead is None else ahead.spent
    rounds, wall_s = world.log.accepted.total(), ended - ready
    yield {
        "case": CASE,
        "nodes": size.nodes,
        "versions": world.aggregator.version,
        "params": world.aggregator.collector.versions.exact.schema.size,
        "goal": size.goal,
        "trained": size.trains,
        "examples": size.examples if size.trains else None,
        "codec": size.codec,
        "processes": 1 + elsewhere.processes,
        "updates": rounds,
        "events": world.simulation.happened,
        "setup_s": ready - began,
        "wall_s": ended - began,
        "cpu_s": ended_cpu - began_cpu + elsewhere.cpu_s,
        "events_per_s": world.simulation.happened / wall_s,
        "node_rounds_per_s": rounds / wall_s,
        "per_1000_s": 1000 * wall_s / rounds,
        "per_1000_cpu_s": 1000 * (ended_cpu - ready_cpu + elsewhere.cpu_s) / rounds,
        "virtual_s": world.simulation.now,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + elsewhere.peak_rss_bytes,
    }


def _trained_by(size: Size, job: Job) -> AbstractContextManager[Ahead | None]:
    """Return what trains: processes, one per core, if there is enough to do; this one beside has a third as much."""
    if not size.trains:
        return nullcontext()
    if size.versions * (size.goal or size.nodes) < WORTH or machine.cores() == 1:
        single()
        return nullcontext()
    return training(machine.cores(), tasks.understand(job.task, job.arrays), size.examples)


def _scenario(size: Size, seed: int) -> Scenario:
    group = {
        "count": size.nodes,
        "speed": {"dist": "lognormal", "scale": 1.0, "shape": 0.6},
        "joins_within_s": 1.0,
        "up": {"mbps": 20.0, "rtt_ms": 40.0},
        "down": {"mbps": 50.0, "rtt_ms": 40.0},
    }
    # As many as are awaited: a surplus would still be under way when the next round asks for one more (lab notes).
    rounds = {"preset": "fedbuff", "goal": size.goal, "invite": size.goal}
    return file.scenario(
        {
            "seed": seed,
            "groups": [group],
            # So many nodes that say every two seconds that they are there would keep an aggregator busy by that alone.
            "federation": {"codec": {"up": size.codec}, "pulse": {"heartbeat_s": 60.0, "lost_after_s": 300.0}},
            "policies": {POLICY: {"rounds": rounds if size.goal else {"preset": "sync"}}},
        },
        "scale",
        Path(),
    )


def _world(size: Size, seed: int, scenario: Scenario, job: Job, ahead: Ahead | None) -> World:
    dealt = _dealt(size, seed)
    fleet = plan(scenario, {name: (one.domain, size.examples) for name, one in dealt.items()})
    log = RunLog(fleet, size.nodes, None)
    settings = replace(policies.settings(scenario, POLICY), start_nodes=size.nodes)
    return World(settings, job, fleet, dealt, log, seed, size.trains, ahead)


def _dealt(size: Size, seed: int) -> dict[str, Dealt]:
    """Return examples for each node, of its own where it trains, and none to measure on."""
    rng = np.random.default_rng([seed, size.nodes])
    many = size.nodes * size.examples if size.trains else size.examples
    features = rng.standard_normal((many, DIM), np.float32)
    features *= NORM / DIM**0.5
    labels = rng.integers(0, CLASSES, many)
    none = Examples(features, np.arange(0), labels[:0])
    dealt = {}
    for node in range(size.nodes):
        rows = np.arange(size.examples) + (node * size.examples if size.trains else 0)
        dealt[f"node-{node}"] = Dealt("all", Data(Examples(features, rows, labels[rows]), none))
    return dealt


def _bundle() -> Bundle:
    text = np.random.default_rng(0).standard_normal((CLASSES, DIM)).astype(np.float32)
    labels = [f"class {number}" for number in range(CLASSES)]
    with tempfile.TemporaryDirectory(prefix="fedmq-bench-") as folder:
        return bundles.write(Path(folder) / "bundle", name="scale", labels=labels, text=text, declared_space="scale")
