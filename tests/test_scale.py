"""Scale, at a size that a test can wait for: as many updates as were asked for, real ones, and a row that says so."""

import json

from typer.testing import CliRunner

from fedmq_bench.commands import app
from fedmq_bench.scale import Size, measure


def test_a_version_takes_its_goal_of_updates_of_real_size_from_very_many_nodes() -> None:
    (row,) = measure(Size(nodes=50, versions=3, goal=5, codec="fp32"), 0, lambda _line: None)
    assert (row["versions"], row["updates"], row["params"]) == (3, 15, 525_312)
    assert row["events"] > 50 * 4


def test_with_training_a_round_has_everyone() -> None:
    said = CliRunner().invoke(
        app, ["bench", "scale", "--nodes", "4", "--versions", "2", "--goal", "0", "--train", "--json"]
    )
    (row,) = (json.loads(line) for line in said.stdout.splitlines())
    assert (row["updates"], row["trained"], row["examples"]) == (8, True, 100)
    assert row["context"]["command"] == "fedmq bench scale --nodes 4 --versions 2 --goal 0 --train"
