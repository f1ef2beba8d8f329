"""A link that broadcasts: a version costs the aggregator one frame, and whoever lacks one gets it in the end."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from numpy.random import Generator

from desk import SYNC
from fedmq import codec
from fedmq.codec import Frame
from fedmq.compress import codec as compression
from fedmq.messages import Model
from fedmq.past import Past
from fedmq.plan import Codecs, Settings, Stop
from pair import SCHEMA, Fleet, Worker, params

WHOLE = compression("fp32").size_bytes(SCHEMA)


def settings(down: str, versions: int = 4) -> Settings:
    return replace(SYNC, codec=Codecs("fp32", down), stop=Stop(versions))


def fleet(down: str, count: int, **more: object) -> Fleet:
    workers = {f"edge-{n}": Worker(step=0.5 + n) for n in range(count)}
    start = replace(settings(down), start_nodes=count)
    return Fleet(start, workers, origin=1, **more)  # type: ignore[arg-type]


def held(found: Fleet) -> set[bytes]:
    """What the nodes hold in the end, each different set of params once."""
    arrays = [node.params.flat.tobytes() for node in found.nodes.values() if node.params is not None]
    assert len(arrays) == len(found.nodes)
    return set(arrays)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_whole_versions_go_out_once_however_many_nodes_there_are(count: int) -> None:
    found = fleet("fp32", count)
    found.run()
    assert found.aggregator.traffic.down_goodput == 5 * WHOLE  # versions 0 to 4
    assert held(found) == {found.aggregator.collector.versions.broadcast.flat.tobytes()}


@pytest.mark.parametrize("count", [1, 3, 9])
def test_differences_and_the_keyframes_beside_them_go_out_once_however_many_nodes_there_are(count: int) -> None:
    found = fleet("fp16", count)
    found.run()
    differences, keyframes = 4 * compression("fp16").size_bytes(SCHEMA), 3 * WHOLE  # of versions 0, 2 and 4
    assert found.aggregator.traffic.down_goodput == differences + keyframes
    assert held(found) == {found.aggregator.collector.versions.broadcast.flat.tobytes()}


def test_a_node_that_comes_late_finds_the_version_there_and_is_sent_none() -> None:
    found = fleet("fp32", 2)
    found.run(stop=lambda: found.nodes["edge-0"].version == 2)
    before = found.aggregator.traffic.down_goodput
    found.workers["late"] = Worker(train_s=0.1)
    late = found.start_node("late")
    found.run(stop=lambda: late.version >= 2)
    assert found.aggregator.traffic.down_goodput == before
    found.run()
    assert found.aggregator.traffic.down_goodput == 5 * WHOLE
    assert "late" in {entry.node for entry in found.updates()}


def test_a_node_that_comes_late_finds_the_keyframe_and_is_sent_only_what_it_has_missed_since() -> None:
    found = fleet("int8", 2)
    found.run(stop=lambda: found.nodes["edge-0"].version == 1)
    traffic = found.aggregator.traffic
    before = traffic.down_goodput
    found.workers["late"] = Worker(train_s=0.1)
    late = found.start_node("late")
    found.run(stop=lambda: late.version >= 1)
    assert traffic.down_goodput - before == compression("int8").size_bytes(SCHEMA)
    found.run()
    assert held(found) == {found.aggregator.collector.versions.broadcast.flat.tobytes()}


def test_a_node_that_has_no_features_yet_lets_differences_pass_that_it_cannot_use() -> None:
    found = fleet("int8", 2)
    found.run(stop=lambda: found.nodes["edge-0"].version == 1)
    found.workers["slow"] = Worker(prepare_s=1e6)
    slow = found.start_node("slow")
    found.run(stop=lambda: found.nodes["edge-0"].version == 3)
    greetings = [log for _, name, log in found.simulation.logs if name == "aggregator" and log.event == "node.joined"]
    assert [log.fields["node"] for log in greetings].count("slow") == 1
    assert slow.version in (0, 3)


def test_what_a_broker_kept_of_a_process_that_is_no_more_is_not_taken_for_a_version() -> None:
    found = fleet("fp32", 1)
    node = found.nodes["edge-0"]
    stale = Model(40, -1, "fp32", payload=params(9.0).flat.tobytes(), origin=7)
    node.receive("aggregator", codec.encode(stale), 0.0)
    found.run()
    node.receive("aggregator", codec.encode(stale), found.simulation.now)
    assert (node.version, held(found)) == (4, {found.aggregator.collector.versions.exact.flat.tobytes()})


def lossy(_sender: str, _receiver: str, _frame: Frame, rng: Generator) -> Iterable[float]:
    """Lose a quarter of the frames, repeat a tenth, delay all."""
    draw = rng.random()
    copies = 0 if draw < 0.25 else 2 if draw > 0.9 else 1
    return tuple(float(rng.uniform(0.01, 0.3)) for _ in range(copies))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("down", ["fp32", "fp16"])
def test_a_broker_that_loses_and_repeats_costs_nothing_but_time(down: str, seed: int) -> None:
    found = fleet(down, 3, carry=lossy, seed=seed)
    endless = replace(found.settings, stop=Stop(0))
    found.settings = endless
    found.start_aggregator(Past.none(found.start))
    found.run(until_s=2000.0, stop=lambda: found.aggregator.version >= 6)
    versions = [entry.version for entry in found.versions()]
    assert versions == list(range(1, len(versions) + 1))
    assert found.aggregator.version >= 6
    counted = [(entry.node, entry.update.session, entry.update.seq) for entry in found.updates()]
    assert len(counted) == len(set(counted))
