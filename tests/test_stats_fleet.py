"""The statistics job over real processes: once up, an exact head, replayed, forgotten, personal, and begun from."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmq.delta import Params, digest_of, gather
from fedmq.record import LEDGER, Record
from fedmq.stats.heads import SHARPNESS, ridge
from fedmq.stats.layout import HEAD, Layout, count
from fedmq.stats.sums import Sum
from fedmq_models import bundle as bundles
from fedmq_models import head
from fedmq_models.examples import Examples
from fedmq_models.methods import method, version_0
from fedmq_models.training import Training
from fedmq_nodes import task
from fedmq_nodes.sources import Split
from toy import DIM, LABELS, features, settle, text

PATIENCE_S = 240.0
FLEET = """
[federation]
federation = "toy"
bundle = "./toy"
run = "run"
task.method = "statistics"
codec.up = "stats-fp32"
statistics.penalty = 0.5
stop.versions = 1
pulse.heartbeat_s = 0.2
pulse.lost_after_s = 5.0
[defaults]
bundle = "./toy"
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(tmp_path, monkeypatch, "abc")


def fedmq(*words: str, code: int = 0) -> list[dict[str, Any]]:
    """Run a command to its end and return the lines of JSON that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "fedmq", *words, "--json"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == code, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()] if not code else [{"error": done.stderr}]


def up(names: str, *words: str) -> dict[str, Any]:
    Path("fleet.toml").write_text(FLEET + "".join(f'[[nodes]]\nname = "{n}"\nfeatures = "{n}.npz"\n' for n in names))
    more = ("--set", f"start_nodes={len(names)}", *words)
    return fedmq("up", "fleet.toml", *more)[0]


def test_a_node_that_only_evaluates_is_ready_before_the_others_begin_the_only_round() -> None:
    summary = up("abc", "--set", "start_nodes=2", "--hold-out", "c")
    (row,) = (row for row in summary["nodes"] if row["node"] == "c")
    assert (row["trains"], row["version"]) == (False, 1)
    lines = Path("run/without-c/logs/aggregator.log").read_text().splitlines()
    happened = [(line["event"], line["name"]) for line in map(json.loads, lines) if line["event"].startswith("node.")]
    assert happened.index(("node.ready", "c")) < min(happened.index(("node.joined", name)) for name in "ab")


def test_a_run_that_is_over_is_told_again_without_starting_a_node() -> None:
    first = up("ab")
    logs = {path: path.read_text() for path in Path("run/logs").glob("[ab].log")}
    assert up("ab")["federated"] == first["federated"]
    assert {path: path.read_text() for path in Path("run/logs").glob("[ab].log")} == logs


def newest(run: str) -> Params:
    with Record.open(Path(run) / LEDGER) as record:
        return record.params()[1]


def solved(names: str) -> np.ndarray:
    """Return the ridge head of what these nodes train on, read from their files here."""
    total = Sum(Layout(len(LABELS), DIM))
    for name in names:
        data = source(name).load(LABELS, Split(), lambda _done, _total: None)
        total.add(count([(data.train.batch(slice(None)), data.train.labels)], Layout(len(LABELS), DIM)))
    return SHARPNESS * ridge(total.totals(), text().astype(np.float64), 0.5, 3.0)


def source(name: str) -> Any:
    from fedmq_nodes.options import NodeOptions

    return NodeOptions(name, features=Path(f"{name}.npz")).source(bundles.load("./toy"))


def test_a_fleet_sends_its_statistics_once_and_forgetting_a_node_is_never_having_had_it() -> None:
    summary = up("abc")
    assert summary["updates"] == {"accepted": 3, "refused": 0, "by_code": {"accepted": 3}, "lost": 0, "duplicated": 0}
    assert summary["federated"] > summary["zero_shot"]
    np.testing.assert_allclose(newest("run").named()[HEAD], solved("abc"), atol=1e-3)
    assert [one["outcome"] for one in fedmq("replay", "run")] == ["same", "same"]
    (done,) = fedmq("forget", "run", "b")
    assert (done["version"], done["nodes"], done["payloads"]) == (2, 2, 1)
    up("ac", "--set", 'run="without"')
    assert digest_of(newest("run")) == digest_of(newest("without"))
    (found,) = fedmq("eval", "run", "--features", "a.npz", "--own-head")
    assert (found["version"], found["personal"] >= found["zero_shot"]) == (2, True)


def test_a_method_of_statistics_and_a_codec_of_deltas_are_told_apart_before_anything_starts() -> None:
    Path("federation.toml").write_text(FLEET.replace("[federation]\n", "").partition("[defaults]")[0])
    (refused,) = fedmq("serve", "federation.toml", "--set", "codec.up=int8", code=2)
    assert "task.method is 'statistics' and codec.up 'int8'" in refused["error"]


def test_version_0_of_the_method_classifies_as_the_frozen_model_does() -> None:
    job = task.job(bundles.load("./toy"), Training(method="statistics"))
    values, _ = features(50, 9)
    found = head.solved(job.params.named(), values)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    np.testing.assert_allclose(found, 20.0 * unit @ text().T, rtol=1e-4, atol=1e-4)
    assert job.params.schema == gather(version_0(method("statistics"), text(), 1.0, np.random.default_rng(0))).schema


def test_examples_of_a_source_are_counted_in_chunks() -> None:
    values, labels = features(5000, 3)
    examples = Examples(values, np.arange(5000), labels)
    layout = Layout(len(LABELS), DIM)
    parts = count(((examples.batch(chosen), examples.labels[chosen]) for chosen in examples.chunks()), layout)
    whole = count([(values, labels)], layout)
    assert (len(examples.chunks()), parts.counts.tolist()) == (2, whole.counts.tolist())
    np.testing.assert_allclose(parts.gram, whole.gram, rtol=1e-9)
