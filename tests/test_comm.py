"""The benchmark of bytes: what its parts measure, and what its rows say."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import toy
from evaluation_data import DATA, needs
from fedmq import framing
from fedmq.compress import CODECS, codec
from fedmq.delta import Arrays
from fedmq.errors import ConfigInvalid, FedmqError
from fedmq.journal import Traffic
from fedmq.plan import Codecs
from fedmq_bench import cables, machine, relay, report
from fedmq_bench.comm import curves, datasets, ladder, layers, theory
from fedmq_bench.comm.curves import Runs
from fedmq_bench.comm.datasets import Dataset, Rows
from fedmq_bench.comm.learned import Curve, learn
from fedmq_bench.comm.squeezed import Sample
from fedmq_bench.commands import app
from fedmq_bench.untrained import STEP, schema
from fedmq_nodes.errors import DataUnusable

PACS = "pacs_features_mobilenet_v2_clip.npz"
NO_CABLE = cables.why_not()
KEYS = {"codec", "direction", "payload_bytes", "application_bytes", "transport_bytes", "wire_bytes", "nmse", "accuracy",
        "accuracy_std", "encode_s", "decode_s"}  # fmt: skip


def silent(_line: str) -> None: ...


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["bench", *(str(word) for word in words)])


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with machine.torch_threads(1):
        yield


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of toy features in two domains."""
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    features, labels = toy.features(400, seed=3)
    domains = np.where(np.arange(400) % 2, "photo", "sketch")
    np.savez(path, features=features, labels=labels, domains=domains, classes=np.array(toy.LABELS), text=toy.text())
    return path


@pytest.fixture(scope="module")
def dataset(file: Path) -> Dataset:
    return datasets.load(file, silent)


# Layers


def gaussian(dim: int) -> Arrays:
    form = schema(dim)
    return Arrays(form, np.random.default_rng(0).normal(0, STEP, form.size).astype(np.float32))


@pytest.mark.parametrize("name", ["fp32", "int8"])
def test_each_layer_of_a_real_federation_adds_to_the_one_above(name: str) -> None:
    found = layers.measure(layers.Plan(name, name, nodes=2, rounds=2, dim=64), seed=0)
    size = len(codec(name).pack(gaussian(64), 0))
    assert found.up.goodput == found.down.goodput == size
    for direction in (found.up, found.down):
        # A verdict is the most that may be under way at one of the two moments and not at the other.
        assert size < direction.application < size + 300
        assert direction.application < direction.transport + 50 < direction.application + 150
    assert found.round_s > 0
    assert found.up.wire is found.down.wire is None


@pytest.mark.skipif(bool(NO_CABLE), reason=NO_CABLE)
def test_the_wire_carries_what_the_sockets_do_in_the_packets_that_the_formula_expects() -> None:
    with cables.cable() as cable:
        found = layers.measure(layers.Plan("fp32", "fp32", nodes=2, rounds=3, dim=256), seed=0, cable=cable)
        near, far = cable.near, cable.far
    for ours, theirs in ((found.up, found.down), (found.down, found.up)):
        assert ours.wire is not None
        headers = framing.PACKET_BYTES * framing.packets(int(ours.transport))
        assert ours.wire > ours.transport + 0.95 * headers
        # Acknowledgements are the kernel's to group, and a busy machine has segments go out half full, or twice.
        assert ours.wire < 1.3 * framing.wire(int(ours.transport), int(theirs.transport))
    # The namespaces have ended with who held them.
    assert not Path(f"/proc/{near}").exists()
    assert not Path(f"/proc/{far}").exists()


def test_a_round_over_a_slow_link_takes_what_its_bytes_take() -> None:
    shape = relay.Shape.of(2.0, 20.0)
    found = layers.measure(layers.Plan("fp32", "fp32", nodes=2, rounds=2, dim=64, link=shape), seed=0)
    least_s = (found.up.transport + found.down.transport) / shape.bytes_per_s + 2 * shape.delay_s
    assert found.up.wire is None
    # Each direction may save one burst; what nodes and aggregator need for themselves comes on top.
    assert least_s - 2 * relay.BURST_S <= found.round_s < least_s + 10


# Datasets


def test_a_node_has_one_domain_and_every_row_has_one_node(dataset: Dataset) -> None:
    dealt = dataset.deal(4, seed=1)
    rows = np.concatenate([part.rows for data in dealt for part in (data.train, data.test)])
    assert sorted(rows) == list(range(400))
    for data in dealt:
        assert len(set(dataset.rows.groups[data.train.rows])) == 1
        assert 0.05 < len(data.test) / (len(data.train) + len(data.test)) < 0.4


def test_the_same_seed_deals_the_same_and_another_one_another(dataset: Dataset) -> None:
    def dealt(seed: int) -> list[list[int]]:
        return [list(data.train.rows) for data in dataset.deal(4, seed)]

    assert dealt(1) == dealt(1) != dealt(2)


def test_features_get_the_norm_that_an_encoder_gives_them(dataset: Dataset) -> None:
    assert np.linalg.norm(dataset.rows.features, axis=1).mean() == pytest.approx(datasets.NORM, rel=1e-5)
    assert dataset.bundle.labels == toy.LABELS


def test_a_split_of_the_file_is_kept(dataset: Dataset) -> None:
    tests = np.arange(400) % 5 == 0
    split = replace(dataset, rows=replace(dataset.rows, tests=tests))
    dealt = split.deal(3, seed=0)
    assert sorted(np.concatenate([data.test.rows for data in dealt])) == list(np.flatnonzero(tests))
    assert {len(data.test) for data in dealt} == {26, 27}


def test_too_few_rows_for_the_nodes_are_refused_with_both_numbers(dataset: Dataset) -> None:
    few = Rows(dataset.rows.features[:6], dataset.rows.labels[:6], dataset.rows.groups[:6])
    with pytest.raises(DataUnusable, match="6 rows: too few for 5 nodes"):
        replace(dataset, rows=few).deal(5, seed=0)


@needs(PACS)
def test_pacs_has_four_domains_and_the_zero_shot_accuracy_that_is_known_of_it() -> None:
    found = datasets.load(DATA / PACS, silent)
    assert found.rows.features.shape == (9991, 512)
    assert len(np.unique(found.rows.groups)) == 4
    right = (found.rows.features @ found.bundle.text.T).argmax(axis=1) == found.rows.labels
    by_domain = [right[found.rows.groups == group].mean() for group in range(4)]
    assert by_domain == pytest.approx([0.548, 0.402, 0.856, 0.172], abs=1e-3)


# Learning


def test_learning_counts_what_each_version_took(dataset: Dataset) -> None:
    nodes, rounds = 3, 2
    curve = learn(dataset, Codecs("int8", "fp16"), nodes, rounds, seed=0)
    assert len(curve.accuracy) == len(curve.traffic) == rounds + 1
    form = schema(toy.DIM)
    up, down, whole = (codec(name).size_bytes(form) for name in ("int8", "fp16", "fp32"))
    assert [t.up_goodput for t in curve.traffic] == [nodes * up * version for version in range(rounds + 1)]
    assert [t.down_goodput for t in curve.traffic] == [
        nodes * (whole + down * version) for version in range(rounds + 1)
    ]
    assert all(t.up_application > t.up_goodput and t.down_application > t.down_goodput for t in curve.traffic)


def test_learning_learns_and_a_seed_is_repeated_to_the_bit(dataset: Dataset) -> None:
    first, again = (learn(dataset, Codecs("fp32", "fp32"), 3, 6, seed=1) for _ in range(2))
    assert first == again
    assert first.accuracy[-1] > first.accuracy[0]


def curve(*accuracy: float, zero_shot: float = 0.4) -> Curve:
    """A curve of which every version took 10 bytes up and 20 down."""
    traffic = tuple(Traffic(10 * at, 11 * at, 20 * at, 22 * at) for at in range(len(accuracy)))
    return Curve(accuracy, traffic, zero_shot)


def test_what_it_took_to_a_target_is_the_median_over_seeds_and_nothing_if_one_never_got_there() -> None:
    exact = Runs([curve(0.5, 0.8, 1.0), curve(0.5, 0.9, 1.0)], nodes=1)
    slower = Runs([curve(0.5, 0.95, 0.95), curve(0.5, 0.8, 0.96)], nodes=1)
    found = slower.targets(exact, curves.UP)
    assert found["to_95"] == {"reached": 2, "rounds": 1.5, "goodput": 15, "application": 16.5}
    assert found["to_99"] == {"reached": 0, "rounds": None, "goodput": None, "application": None}
    assert found["to_95_of_gain"]["reached"] == 0  # 0.4 + 0.95 * 0.6 is 0.97


def test_what_was_lost_is_compared_seed_by_seed() -> None:
    exact = Runs([curve(0.5, 0.8), curve(0.5, 0.9)], nodes=1)
    found = Runs([curve(0.5, 0.79), curve(0.5, 0.89)], nodes=1).accuracy(exact)
    assert found == pytest.approx(
        {"accuracy": 0.84, "accuracy_std": 0.1 / math.sqrt(2), "accuracy_lost": 0.01, "accuracy_lost_std": 0.0,
         "zero_shot": 0.4}
    )  # fmt: skip


def test_a_curve_is_told_per_node_and_direction() -> None:
    runs = Runs([curve(0.5, 0.75)], nodes=5)
    assert runs.points(curves.BOTH) == [[0.0, 0.5, 0.0], [33 / 5, 0.75, 0.0]]
    assert [runs.payload(direction) for direction in (curves.UP, curves.DOWN, curves.BOTH)] == [2, 4, 6]


# Squeezing


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_is_as_wrong_as_theory_says(name: str, dataset: Dataset) -> None:
    sample = Sample(dataset, 3, seed=0)
    sample.delta = gaussian(64)  # type: ignore[assignment]
    found = sample.squeeze(name, repeats=9)
    assert found.theory == theory.nmse(name, sample.delta)
    if found.theory is not None:
        assert found.nmse == pytest.approx(found.theory, rel=0.05)
    assert min(found.encode_s, found.decode_s, found.epoch_s) > 0


def test_the_theory_of_rotations_is_that_of_the_quantiser_for_a_normal() -> None:
    assert theory.nmse("eden1", gaussian(4)) == pytest.approx(math.pi / 2 - 1)
    assert theory.nmse("eden2", gaussian(4)) == pytest.approx(0.1331, abs=1e-4)


# Rows


def test_a_codec_is_learned_with_in_one_direction_and_a_pair_in_both() -> None:
    assert ladder.rungs("int8, fp16/int8", "up,down") == [
        ladder.Rung("int8", "up", "int8", "fp32"),
        ladder.Rung("int8", "down", "fp32", "int8"),
        ladder.Rung("fp16/int8", "both", "fp16", "int8"),
    ]
    assert [rung.system for rung in ladder.rungs("int8,fp16/int8", "up")] == [("int8", "int8"), ("fp16", "int8")]


@pytest.mark.parametrize(
    ("names", "directions", "says"), [("zip", "up", "no codec named 'zip'"), ("int8", "left", "--direction is 'left'")]
)
def test_an_unknown_codec_or_direction_is_refused(names: str, directions: str, says: str) -> None:
    with pytest.raises(ConfigInvalid, match=says):
        ladder.rungs(names, directions)


def test_the_command_gives_a_row_per_codec_and_direction_a_table_and_a_plot(file: Path, tmp_path: Path) -> None:
    out, drawn = tmp_path / "rows.jsonl", tmp_path / "comm.svg"
    found = run("comm", "--codec", "int8,fp16/int8", "--data", file, "--nodes", 2, "--rounds", 2, "--seeds", 2,
                "--system-rounds", 1, "--link-mbps", 50, "--rtt-ms", 4, "--out", out, "--plot", drawn)  # fmt: skip
    assert found.exit_code == 0, found.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["codec"], row["direction"]) for row in rows] == [
        ("int8", "up"), ("int8", "down"), ("fp16/int8", "both")
    ]  # fmt: skip
    for row in rows:
        assert row.keys() >= KEYS
        assert row["case"] == "comm"
        assert (row["dataset"], row["nodes"], row["rounds"], row["seeds"]) == ("toy", 2, 2, 2)
        assert row["link_round_s"] > row["link_least_s"] - 2 * relay.BURST_S
        assert (row["efficiency"] is None) == bool(NO_CABLE)
        assert [before[0] < after[0] for before, after in pairwise(row["curve"])] == [True, True]
        assert row["targets"]["to_95"].keys() == {"reached", "rounds", "goodput", "application", "transport", "wire"}
    assert " --data toy.npz " in rows[0]["context"]["command"]
    form = schema(toy.DIM)
    assert rows[0]["payload_bytes"] == rows[0]["learned_payload_bytes"] == codec("int8").size_bytes(form)
    assert rows[0]["ratio"] == 4 * form.size / rows[0]["payload_bytes"]
    assert rows[2]["payload_bytes"] == codec("int8").size_bytes(form) + codec("fp16").size_bytes(form)
    assert "bytes per node and round" in found.stdout
    assert "toy: accuracy after 2 rounds, 2 seeds" in found.stdout
    assert drawn.read_text().count("<svg") == 1
    assert report.sentence(rows[0]).startswith("an update as int8, toy, 2 nodes: ")


def test_a_part_alone_leaves_the_other_empty(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    for part in ladder.PARTS:
        words = ("--codec", "int8", "--direction", "up", "--nodes", 2, "--rounds", 1, "--seeds", 1, "--data", file)
        found = run("comm", *words, "--system-rounds", 1, "--part", part, "--json", "--out", out)
        assert found.exit_code == 0, found.output
    system, learning = (json.loads(line) for line in out.read_text().splitlines())
    assert (system["accuracy"], system["curve"], system["nmse"]) == (None, None, None)
    assert (learning["application_bytes"], learning["wire_bytes"], learning["round_s"]) == (None, None, None)
    assert learning["payload_bytes"] == codec("int8").size_bytes(schema(toy.DIM))
    for row in (system, learning):
        assert report.sentence(row).startswith("an update as int8")
    assert run("plot", out, "--out", tmp_path / "again.png").exit_code == 0
    assert (tmp_path / "again.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--plot", "comm.pdf"), "a plot is .svg or .png"),
        (("--part", "theory"), "--part is 'theory'"),
        (("--codec", "zip"), "no codec named 'zip'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(words: tuple[str, ...], says: str) -> None:
    found = run("comm", *words).exception
    assert isinstance(found, FedmqError), found
    assert says in str(found)
