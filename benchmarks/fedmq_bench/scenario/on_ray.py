"""Sweeps on Ray: the runner of a sweep that has a cluster's machines do its runs, in place of this one's processes.

A run is a task of one core. Machines of the cluster need fedmq installed, and the file of features, if there is one, at
the same path. Nothing else differs: a row depends on its task alone.
"""

import os
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from fedmq_bench.errors import ProgramMissing
from fedmq_bench.harness import Say
from fedmq_bench.scenario.sweep import Row, Runner, Task, run

LOOPBACK = "127.0.0.1"


def rayed(address: str | None = None, processes: int | None = None) -> Runner:
    """Return what runs tasks on the cluster at this address, such as ray://head:10001 or auto.

    address       None starts a cluster on this machine alone, and ends it afterwards
    processes     that a cluster of our own has at most
    raises        ProgramMissing where Ray is not installed
    """
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise ProgramMissing('Ray is not installed: pip install "fedmq[ray]"') from error

    def runner(wanted: Iterable[Task], say: Say) -> Iterator[Row]:
        if address is not None:
            ray.init(address=address, log_to_driver=False)
        else:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or it would report to its makers
            own = {"num_cpus": processes, "include_dashboard": False, "_node_ip_address": LOOPBACK}
            ray.init(address="local", log_to_driver=False, **own)
        try:
            say(f"on a Ray cluster with {ray.cluster_resources().get('CPU', 0):.0f} cores")
            remote = ray.remote(num_cpus=1)(run)
            left = [remote.remote(task) for task in wanted]
            while left:
                done, left = ray.wait(left)
                yield from ray.get(done)
        finally:
            ray.shutdown()

    return runner
