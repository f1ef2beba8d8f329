"""What Prometheus is told: of an aggregator from what became durable, of a node from what its shell did."""

import json
import re
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from desk import HELLO, Desk
from fedmq.effects import Log
from fedmq.journal import Entry, EventEntry
from fedmq.messages import Code
from fedmq.metrics import aggregator
from fedmq.plan import Settings, Stop
from fedmq.rounds import PRESETS
from fedmq.status import status
from fedmq.transports.tally import Tally
from fedmq_models.examples import Examples
from fedmq_nodes import meter
from fedmq_nodes.ear import Facts
from fedmq_nodes.sources import Data
from pair import Fleet, Worker
from running import Running, settle
from toy import features

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "operating.md"
BOARD = ROOT / "deploy" / "grafana" / "fedmq.json"
ROW = re.compile(r"^\| `(fedmq_\w+)` \| (\w+) \| (.*?) \|", re.MULTILINE)
GENERAL = ("process_", "python_", "fedmq_build")
Found = TypeVar("Found")
TALLY = Tally(received_bytes=500, sent_bytes=700, waiting=3, most=2, full=5, gone=7)


def at_once(look: Callable[[], Found]) -> Callable[[], Found]:
    return look


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def ended(workers: dict[str, Worker], versions: int = 3) -> tuple[Fleet, aggregator.Meter]:
    """A federation that has run to its end in memory, and the meter that was told of it."""
    fleet = Fleet(Settings("test", rounds=PRESETS["quorum"], stop=Stop(versions=versions)), workers)
    fleet.run()
    found = aggregator.Meter(at_once, lambda: TALLY)
    found.begin(lambda: status(fleet.aggregator, fleet.simulation.now))
    found.kept(fleet.kept, 0.002)
    return fleet, found


def measured_node() -> meter.Meter:
    """A node's meter that has been told of everything that there is to be told."""
    found = meter.Meter(at_once)
    found.begin(lambda: Facts(7, "training", True, False))
    values, labels = features(10, 0)
    examples = Examples(values, labels * 0, labels)
    found.encoding(4)
    found.encoding(10)
    found.prepared(Data(examples, examples, {"x.png": "cut"}, encoded=10), 2.5)
    found.trained(0.4)
    found.evaluated(0.1)
    found.logged(Log("info", "update.judged", {"code": "accepted"}))
    return found


def told(*registries: Collector) -> dict[str, tuple[str, frozenset[str]]]:
    """Return name -> (type, labels) of all metrics of fedmq's own."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for registry in registries:
        for family in registry.collect():
            if family.name.startswith(GENERAL):
                continue
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            name = family.name + ("_total" if family.type == "counter" else "")
            found[name] = (family.type, frozenset(labels))
    return found


def test_an_aggregator_counts_what_is_durable_and_says_how_it_stands() -> None:
    fleet, found = ended({"a": Worker(), "b": Worker(), "slow": Worker(train_s=1.6)}, versions=6)
    registry, updates = found.registry, fleet.updates()
    stale = [entry.staleness for entry in updates if entry.code is Code.ACCEPTED]
    assert value(registry, "fedmq_updates_total", verdict="accepted") == len(stale)
    assert value(registry, "fedmq_update_staleness_sum") == sum(stale) > 0
    assert value(registry, "fedmq_version") == 6
    causes = {entry.cause for entry in fleet.versions()}
    assert sum(value(registry, "fedmq_round_seconds_count", cause=cause) or 0 for cause in causes) == 6
    assert value(registry, "fedmq_nodes", state="finished") == 3
    traffic = fleet.aggregator.traffic
    assert value(registry, "fedmq_bytes_total", direction="up", layer="application") == traffic.up_application > 0
    assert value(registry, "fedmq_ledger_batch_entries_sum") == len(fleet.kept)


def test_an_aggregator_says_what_its_link_has_carried_and_what_waits_there() -> None:
    _, found = ended({"a": Worker()})
    assert value(found.registry, "fedmq_bytes_total", direction="up", layer="transport") == TALLY.received_bytes
    assert value(found.registry, "fedmq_bytes_total", direction="down", layer="transport") == TALLY.sent_bytes
    assert value(found.registry, "fedmq_link_waiting_frames") == TALLY.waiting
    assert value(found.registry, "fedmq_link_waiting_frames_most") == TALLY.most
    untaken = [value(found.registry, "fedmq_link_untaken_frames_total", reason=why) for why in ("full", "gone")]
    assert untaken == [TALLY.full, TALLY.gone]


def test_ten_thousand_nodes_and_what_they_claim_make_no_label() -> None:
    fleet, found = ended({"a": Worker()})
    before = {sample.name + str(sample.labels) for family in found.registry.collect() for sample in family.samples}
    (known,) = fleet.aggregator.roster.members.values()
    for at in range(10_000):
        fleet.aggregator.roster.members[f"node-{at}"] = replace(known, peer=f"node-{at}", activity=f"word-{at}")
    updates: list[Entry] = [
        replace(entry, node=f"node-{at}", update=replace(entry.update, train_s=float("nan")))
        for at in range(100)
        for entry in fleet.updates()
    ]
    found.kept(updates, 0.1)
    after = {sample.name + str(sample.labels) for family in found.registry.collect() for sample in family.samples}
    assert after == before
    assert value(found.registry, "fedmq_update_training_seconds_sum") == pytest.approx(3.0)


def test_who_was_refused_or_struck_is_counted_by_reason() -> None:
    desk, found = Desk(), aggregator.Meter(at_once, Tally)
    desk.hold = True
    desk.say("odd", replace(HELLO, feature_space="f" * 64))
    (batch,) = desk.held
    found.kept(batch.entries, 0.0)
    assert value(found.registry, "fedmq_nodes_refused_total", reason="feature_space") == 1
    assert value(found.registry, "fedmq_strikes_total", reason="feature_space") == 1


def test_an_aggregator_that_does_not_answer_has_counters_and_no_gauges() -> None:
    _, found = ended({"a": Worker()})
    found.end()
    assert value(found.registry, "fedmq_version") is None
    assert value(found.registry, "fedmq_updates_total", verdict="accepted") == 3


def test_a_node_measures_what_its_shell_did() -> None:
    registry = measured_node().registry
    assert value(registry, "fedmq_node_images_encoded_total") == 10
    assert value(registry, "fedmq_node_encoding_seconds_total") == 2.5
    assert value(registry, "fedmq_node_training_seconds_sum") == 0.4
    assert value(registry, "fedmq_node_activity", activity="training") == 1
    assert value(registry, "fedmq_node_images_skipped") == 1


def test_every_metric_stands_in_the_page_with_its_type_and_labels() -> None:
    _, found = ended({"a": Worker(tests=5), "b": Worker(tests=5)})
    facts = {"node": "a", "reason": "feature_space"}
    found.kept([EventEntry(0.0, "warning", event, facts) for event in ("node.refused", "peer.struck")], 0.0)
    node = measured_node()
    node._bytes.labels("up")
    known = told(found.registry, node.registry)
    named = {
        name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(PAGE.read_text())
    }
    assert named == known


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    board = json.loads(BOARD.read_text())
    asked = {name for text in expressions(board) for name in re.findall(r"\bfedmq_\w+", text)}
    named = {name: kind for name, kind, _ in ROW.findall(PAGE.read_text())}
    known = {
        name + ending
        for name, kind in named.items()
        for ending in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }
    assert asked <= known
    assert len(asked) > 15
    places = [panel["gridPos"] for panel in board["panels"]]
    taken = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(taken) == len(set(taken)), "two panels lie on each other"
    assert len({panel["id"] for panel in board["panels"]}) == len(places)


def expressions(board: dict[str, object]) -> list[str]:
    panels = board["panels"]
    assert isinstance(panels, list)
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def scraped(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url, timeout=30) as answer:
        text = answer.read().decode()
    return {
        sample.name + "".join(f" {value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_running_aggregator_and_a_running_node_answer_on_this_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(tmp_path, monkeypatch, "ab")
    with Running("--metrics", "0", "--set", "rounds.preset=sync", "--set", "start_nodes=2") as running:
        assert running.told["metrics"].startswith("http://127.0.0.1:")
        running.join("a")
        url = running.join("b", "--metrics", "0", "--log-level", "info").line("metrics.served")["url"]
        running.until(lambda found: found["version"] >= 3)
        found = scraped(running.told["metrics"])
        assert found["fedmq_version"] >= 3
        assert found["fedmq_updates_total accepted"] >= 4
        assert found["fedmq_ledger_write_seconds_count"] > 0
        assert found["fedmq_bytes_total up transport"] > found["fedmq_bytes_total up application"]
        assert found["fedmq_link_untaken_frames_total full"] == 0
        assert found["process_resident_memory_bytes"] < 150e6
        node = scraped(url)
        assert node["fedmq_node_training_seconds_count"] >= 2
        assert node["fedmq_node_transport_bytes_total up"] > node["fedmq_node_bytes_total up"] > 0
        assert node["fedmq_node_connected"] == 1


def test_a_metrics_port_in_use_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(tmp_path, monkeypatch, "a")
    with Running("--metrics", "0") as running:
        port = running.told["metrics"].rsplit(":", 1)[1].partition("/")[0]
        assert f"metrics cannot be served at 127.0.0.1:{port}" in running.fails("--metrics", port, "--set", "run=other")
