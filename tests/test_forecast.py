"""The forecast: its figures against federations in memory, whose aggregators count what they send and receive."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from fedmq import forecast as forecasts
from fedmq.compress import codec
from fedmq.delta import Schema
from fedmq.errors import ConfigInvalid
from fedmq.forecast import DAY_S, Assumed, Bytes, Forecast, Forecaster, Link
from fedmq.plan import Codecs, Pulse, Settings, Stop
from fedmq.rounds import PRESETS, Policy
from fedmq.stats.forms import FORMS
from fedmq.stats.layout import Layout
from fedmq.transports import zmq
from fedmq_bench.rows import RESULTS, read_file
from fedmq_bench.untrained import params as adapter
from fedmq_models import bundle as bundles
from fedmq_nodes import contact
from fedmq_nodes.commands import app
from pair import Fleet, Worker, job, params

FORM = Schema((("weight", (192, 192)), ("bias", (192,))))
TRAIN_S = 5.0
SYNC = Settings("test", codec=Codecs("int8", "fp32"))


def forecast(settings: Settings, nodes: int, assumed: Assumed | None = None) -> Forecast:
    start = job(params(0.0, FORM))
    return Forecaster(settings, start, assumed or Assumed(train_s=TRAIN_S)).of(nodes)


def counted(settings: Settings, nodes: int, first: int = 6, last: int = 30) -> dict[str, float]:
    """Run a federation in memory, and return bytes and seconds of a round."""
    settings = replace(settings, start_nodes=nodes, stop=Stop(versions=last + 1))
    # The times differ a little, or all that happens at once would happen in the order of names.
    workers = {f"node-{at:03d}": Worker(1e-3 * (at + 1), TRAIN_S + 1e-3 * at, tests=10) for at in range(nodes)}
    fleet = Fleet(settings, workers, start=params(0.0, FORM))
    fleet.run()
    entries = {entry.version: entry for entry in fleet.versions()}
    begun, ended = entries[first], entries[last]
    found = {key: (getattr(ended.traffic, key) - getattr(begun.traffic, key)) / (last - first) for key in
             ("up_goodput", "up_application", "down_goodput", "down_application")}  # fmt: skip
    return found | {"round_s": (ended.closed_at - begun.closed_at) / (last - first)}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(SYNC, id="sync"),
        pytest.param(replace(SYNC, codec=Codecs("fp32", "int8")), id="a lossy downlink"),
        pytest.param(replace(SYNC, evaluate_every=0), id="never evaluated"),
        pytest.param(replace(SYNC, rounds=Policy(invite=3), evaluate_every=0), id="some invited"),
        pytest.param(replace(SYNC, rounds=Policy(invite=3), evaluate_every=1), id="some invited and all evaluate"),
        pytest.param(replace(SYNC, rounds=Policy(goal=3, max_staleness=20)), id="a fixed goal"),
        pytest.param(
            replace(SYNC, rounds=Policy(goal=3, max_staleness=20), codec=Codecs("int8", "int8")),
            id="a fixed goal and a lossy downlink",
        ),
        pytest.param(replace(SYNC, rounds=PRESETS["fedasync"], codec=Codecs("fp16", "int8")), id="fedasync"),
    ],
)
def test_bytes_are_those_that_a_federation_in_memory_counts_within_a_hundredth(settings: Settings) -> None:
    nodes = 6
    told, seen = forecast(settings, nodes), counted(settings, nodes)
    expected = {
        "up_goodput": told.up.goodput,
        "up_application": told.up.application,
        "down_goodput": told.down.goodput,
        "down_application": told.down.application,
        "round_s": told.round_s,
    }
    assert seen == pytest.approx(expected, rel=0.01)


def test_goodput_of_sync_rounds_is_told_to_the_byte() -> None:
    told, seen = forecast(SYNC, 4), counted(SYNC, 4)
    assert (told.up.goodput, told.down.goodput) == (seen["up_goodput"], seen["down_goodput"])
    assert told.up.goodput == 4 * codec("int8").size_bytes(FORM)


def test_a_node_sees_its_share_and_the_layers_add_up() -> None:
    told = forecast(SYNC, 8)
    assert told.node_up.goodput == told.up.goodput / 8
    for found in (told.up, told.down, told.node_up, told.node_down):
        assert found.transport is not None
        assert found.wire is not None
        assert found.goodput < found.application < found.transport < found.wire


def test_a_broker_is_sent_each_version_once_and_every_node_receives_it() -> None:
    told = forecast(SYNC, 10, Assumed(broker=True))
    direct = forecast(SYNC, 10, Assumed())
    assert told.down.goodput == told.node_down.goodput == direct.node_down.goodput == direct.down.goodput / 10
    assert (told.up.transport, told.up.wire) == (None, None)


def test_a_round_over_a_link_is_its_bytes_its_delay_and_the_training() -> None:
    told = forecast(SYNC, 4, Assumed(train_s=2.0, link=Link(mbps=1.0, rtt_ms=50.0)))
    node_bytes = (told.node_up.transport or 0) + (told.node_down.transport or 0)
    # What pings take is not in a round's time.
    assert told.round_s == pytest.approx(2.0 + 0.05 + 8 * node_bytes / 1e6, rel=0.01)
    assert told.rounds_per_day == pytest.approx(DAY_S / (told.round_s or 0))


def test_rounds_come_no_faster_than_they_are_wanted() -> None:
    assert forecast(SYNC, 4, Assumed(train_s=2.0, interval_s=60.0)).round_s == 60.0
    assert forecast(SYNC, 4, Assumed(train_s=90.0, interval_s=60.0)).round_s == 90.0
    unknown = forecast(SYNC, 4, Assumed())
    assert (unknown.round_s, unknown.rounds_per_day) == (None, None)


def test_a_link_that_is_slower_than_the_pulse_is_warned_of_with_both_numbers() -> None:
    size = codec("fp32").size_bytes(FORM)
    settings = replace(SYNC, codec=Codecs("fp32", "fp32"), pulse=Pulse(heartbeat_s=1.0, lost_after_s=5.0))
    slow = forecast(settings, 4, Assumed(link=Link(mbps=8 * size / 1e6 / 6)))
    assert [warning.split(";")[0] for warning in slow.warnings] == [
        "sending an update takes 6.0 s on this link, and a node that is not heard for 5 s counts as lost",
        "receiving a whole version takes 6.0 s on this link, and a node that hears nothing for 4 s greets again",
    ]
    assert forecast(settings, 4, Assumed(link=Link(mbps=8 * size / 1e6 / 3))).warnings == ()


def test_the_limits_that_are_warned_of_are_those_that_hold() -> None:
    assert (forecasts.SILENT_HEARTBEATS, forecasts.ANSWER_S) == (contact.SILENT_HEARTBEATS, contact.ANSWER_S)
    assert zmq.BEAT_TIMEOUT_MS == 1000 * forecasts.BEAT_S


def test_a_link_that_is_too_slow_for_any_conversation_is_warned_of() -> None:
    size = codec("fp32").size_bytes(FORM)
    settings = replace(SYNC, codec=Codecs("fp32", "fp32"), pulse=Pulse(heartbeat_s=100.0, lost_after_s=1000.0))
    slow = forecast(settings, 4, Assumed(link=Link(mbps=8 * size / 1e6 / 70)))
    assert [warning.split(", ")[0] for warning in slow.warnings] == [
        "sending an update takes 70.1 s on this link",
        "a frame takes 70.1 s on this link",
    ]


def test_memory_is_near_what_was_measured() -> None:
    *_, measured = read_file(RESULTS / "memory.jsonl")
    settings = Settings("test", codec=Codecs(measured["codec"], "fp32"))
    told = Forecaster(settings, job(adapter(512, 0)), Assumed()).of(measured["nodes"])
    assert told.memory_bytes == pytest.approx(measured["peak_rss_bytes"], rel=0.3)


# The command


def run(*words: object) -> Any:
    return CliRunner().invoke(app, ["estimate", *(str(word) for word in words)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "federation.toml"
    path.write_text('federation = "pets"\nstart_nodes = 3\n[codec]\nup = "fp16"\n')
    return path


def test_the_command_tells_a_line_per_number_of_nodes(file: Path) -> None:
    found = run(file, "--nodes", "2,5", "--link-mbps", 10, "--rtt-ms", 20, "--train-s", 1, "--json")
    assert found.exit_code == 0, found.output
    two, five = (json.loads(line) for line in found.stdout.splitlines())
    assert (two["nodes"], five["nodes"]) == (2, 5)
    assert two["node_up"]["goodput"] == five["node_up"]["goodput"] == 2 * 131_584
    assert two["round_s"] > 1.02
    assert two["per_day"]["up"] == pytest.approx(two["up"]["application"] * two["rounds_per_day"])
    assert Bytes(**two["up"]).goodput == 2 * 2 * 131_584


def test_without_a_number_it_is_that_of_the_file(file: Path, tmp_path: Path) -> None:
    assert "3 nodes" in run(file).stdout
    fleet = tmp_path / "fleet.toml"
    nodes = "".join(f'[[nodes]]\nname = "{name}"\nfeatures = "{name}.npz"\n' for name in "ab")
    fleet.write_text(f'federation = "{file.name}"\n{nodes}')
    assert "2 nodes" in run(fleet).stdout


def test_a_number_that_is_none_is_refused(file: Path) -> None:
    found = run(file, "--nodes", "many").exception
    assert isinstance(found, ConfigInvalid)
    assert "--nodes is 'many'" in str(found)


def test_statistics_are_foretold_as_the_one_round_that_they_take(file: Path) -> None:
    how = ["--set", "task.method=statistics", "--set", "codec.up=stats-rank4"]
    (found,) = (
        json.loads(line) for line in run(file, "--nodes", 10, "--train-s", 5, "--json", *how).output.splitlines()
    )
    bundle = bundles.load("tiny")
    payload = FORMS["stats-rank4"].size_bytes(Layout(len(bundle.labels), bundle.dim))
    assert (found["node_up"]["goodput"], found["rounds_per_day"], found["once"]) == (payload, None, True)
    refused = run(file, *how[:2])
    assert "codec.up" in str(refused.exception)


def test_the_pool_of_a_target_domain_is_in_what_a_node_is_sent_when_it_joins(file: Path, tmp_path: Path) -> None:
    dim = bundles.load("tiny").dim
    np.savez(tmp_path / "pool.npz", features=np.random.default_rng(0).normal(size=(60, dim)).astype(np.float32))
    target = ["--set", f'task.target.pool="{tmp_path / "pool.npz"}"', "--set", "task.method=faaclip"]
    joins = [
        json.loads(run(file, "--nodes", 1, "--json", *target, "--set", f"task.target.rows={rows}").output)["join"]
        for rows in (10, 60)
    ]
    assert joins[1]["application"] - joins[0]["application"] == pytest.approx(50 * dim * 2, abs=10)
