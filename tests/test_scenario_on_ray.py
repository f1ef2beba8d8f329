"""Sweeps on a Ray cluster: the same rows as from processes of this machine. Skipped where Ray is not installed."""

from pathlib import Path

import pytest

import scenery
from fedmq.errors import ConfigInvalid
from fedmq_bench.errors import ProgramMissing
from fedmq_bench.scenario import commands, on_ray, sweep


def silent(_line: str) -> None:
    pass


def test_an_engine_that_there_is_not_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(ConfigInvalid, match="--engine is 'slurm' and --address None; there are pool, and ray"):
        commands._runner("slurm", None, 1)


def test_without_ray_the_answer_is_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(on_ray, "import_module", missing)
    with pytest.raises(ProgramMissing, match=r'pip install "fedmq\[ray\]"'):
        on_ray.rayed()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what Ray itself warns of, and leaves open
def test_a_local_cluster_gives_the_same_rows_as_processes_do(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    tasks = sweep.tasks(scenery.scenario(tmp_path), ["sync", "fedasync"], 2, trains=True)

    def rows(runner: sweep.Runner) -> list[sweep.Row]:
        return sorted(({**row, "wall_s": 0.0} for row in runner(tasks, silent)), key=lambda row: str(row["key"]))

    assert rows(on_ray.rayed(processes=2)) == rows(sweep.pooled(1))
