"""The benchmarks, each end to end with small sizes; what their rows say, and what becomes of the rows."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import broker
from fedmq.errors import FedmqError
from fedmq_bench import (
    encoder,
    fold,
    kills,
    latency,
    ledger,
    load,
    local,
    memory,
    reference,
    report,
    rows,
    startup,
    wires,
)
from fedmq_bench.commands import app
from fedmq_bench.errors import ResultsUnusable
from fedmq_bench.harness import Pair, figures, in_turns
from fedmq_models.examples import Examples
from fedmq_models.export import clip
from fedmq_models.methods import method
from fedmq_models.training import fit

SMALL = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
MODEL = "small-for-bench"
CONTEXT = {
    "at": "2026-11-20T12:00:00+00:00",
    "command": "fedmq bench fold",
    "commit": None,
    "cpu": "abacus",
    "cores": 2,
    "load": 0.0,
    "seed": 0,
    "versions": {"python": "3.11.7"},
}
FOLD = {
    "case": "fold",
    "codec": "int8",
    "median_s": 2e-4,
    "numpy_s": 1e-4,
    "ratio": 2.0,
    "judged_s": 3e-4,
    "judged_ratio": 3.0,
    "context": CONTEXT,
}
TWO_SIDES = {"case", "ratio", "ratio_low", "ratio_high", "repeats"}


@pytest.fixture(scope="module", autouse=True)
def _small_model(tmp_path_factory: pytest.TempPathFactory) -> None:
    import open_clip

    folder = tmp_path_factory.mktemp("models")
    (folder / f"{MODEL}.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(folder)


def silent(_line: str) -> None: ...


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["bench", *(str(word) for word in words)])


def refusal(*words: object) -> str:
    found = run(*words).exception
    assert isinstance(found, FedmqError), found
    return str(found)


def only(found: Iterator[dict[str, Any]]) -> dict[str, Any]:
    (row,) = found
    return row


# The harness


def test_both_sides_take_turns_and_the_first_ones_do_not_count() -> None:
    done: list[str] = []
    pair = in_turns(lambda: done.append("a"), lambda: done.append("b"), repeats=2, warm_up=1)
    assert ("".join(done), len(pair.ours), len(pair.theirs)) == ("ababab", 2, 2)


def test_a_ratio_is_of_medians_and_lies_within_its_spread() -> None:
    pair = Pair([2.0, 4.0, 90.0], [1.0, 2.0, 3.0])
    assert (pair.median_s, pair.other_s, pair.ratio) == (4.0, 2.0, 2.0)
    found = figures(pair)
    assert found["ratio_low"] <= found["ratio"] <= found["ratio_high"]
    faster = figures(pair, faster=True)
    assert (faster["ratio"], faster["ratio_low"]) == (0.5, 1 / found["ratio_high"])


# Each benchmark


@pytest.mark.parametrize("link", wires.WIRES)
def test_latency_measures_rounds_of_real_processes_beside_echoes_over_the_same_link(link: str) -> None:
    if link in wires.BROKERED:
        broker.installed()
    row = latency.run(latency.Size(nodes=2, link=link, up="int8", dim=4, rounds=2, blocks=2), seed=0)
    assert row.keys() >= TWO_SIDES | {"link", "nodes", "codec", "median_s", "floor_median_s"}
    assert (row["case"], row["link"], row["nodes"], row["codec"], row["repeats"]) == ("latency", link, 2, "int8", 4)
    assert (row["down_bytes"], row["up_bytes"]) == (4 * 40, 40 + 4 * 10)
    assert row["ratio"] == row["median_s"] / row["floor_median_s"] > 0
    assert row["commit_median_s"] > 0


def test_the_first_round_of_a_block_holds_the_echoes_and_is_not_counted() -> None:
    size = latency.Size(nodes=1, rounds=2, blocks=2)
    assert [version for version in range(9) if size.ends_block(version)] == [3, 6]
    assert [version for version in range(9) if size.counts(version)] == [1, 2, 4, 5]


def test_ledger_measures_rounds_with_and_without_durability_beside_none() -> None:
    found = list(ledger.measure(nodes=2, name="int8", rounds=2, repeats=1, seed=0, say=silent, dim=4))
    assert [(row["case"], row["durable"], row["repeats"]) for row in found] == [
        ("ledger", True, 2),
        ("ledger", False, 2),
    ]
    for row in found:
        assert row.keys() >= TWO_SIDES | {"updates_per_s", "off_updates_per_s", "alone_updates_per_s"}
        assert row["ratio"] == pytest.approx(row["off_updates_per_s"] / row["updates_per_s"])
        assert row["alone_updates_per_s"] > 0


@pytest.mark.parametrize("codec", ["fp32", "int8", "fp16", "bf16", "int4"])
def test_fold_does_the_work_that_numpy_does(codec: str) -> None:
    row = only(fold.measure([codec], repeats=2, seed=0, say=silent, dim=8, updates=3))
    assert row.keys() >= TWO_SIDES | {"codec", "median_s", "numpy_s"}
    assert row["ratio"] == row["median_s"] / row["numpy_s"] > 0
    assert min(row["encode_s"], row["decode_s"]) > 0
    assert row["difference"] <= {"fp32": 0.0, "int8": 1e-5, "fp16": 1e-6, "bf16": 1e-5, "int4": 2e-4}[codec]


def test_local_measures_an_epoch_beside_the_reference_loop() -> None:
    row = only(local.measure(MODEL, images=40, repeats=1, threads=1, seed=0, say=silent))
    assert row.keys() >= TWO_SIDES | {"cached_epoch_s", "reference_epoch_s"}
    assert (row["images"], row["dim"], row["reference_scaled_from_images"]) == (40, 8, 32)
    assert row["ratio"] == pytest.approx(row["reference_epoch_s"] / row["cached_epoch_s"])


def test_a_step_of_the_reference_loop_has_the_loss_of_a_step_on_its_cached_features() -> None:
    import torch

    made = clip.load(MODEL, None, seed=1)
    rng = np.random.default_rng(2)
    labels = rng.integers(0, len(local.LABELS), 12)
    pixels = torch.from_numpy(rng.standard_normal((12, 3, 16, 16), dtype=np.float32))
    text = clip.text_features(made, local.LABELS, (clip.DEFAULT_PROMPT,))
    start = method("fedclip").start(text.shape[1], rng)

    loop = reference.Loop(made.model, reference.adapter(text.shape[1]))
    loop.adapter.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in start.items()})
    theirs = loop.step(pixels, made.tokenizer([clip.DEFAULT_PROMPT.replace("{}", local.LABELS[n]) for n in labels]))

    features = made.model.encode_image(pixels).numpy()
    ours = fit(reference.TRAINING, start, Examples(features, np.arange(12), labels), text, made.logit_scale, seed=0)
    assert ours.loss == pytest.approx(theirs, rel=1e-5)


def test_encoder_measures_from_pixels_and_from_files() -> None:
    setup = encoder.Setup(model=MODEL, threads=1, images=5)
    found = list(encoder.measure(setup, repeats=1, seed=0, say=silent))
    assert [row["stage"] for row in found] == ["encode", "files"]
    for row in found:
        assert row.keys() >= TWO_SIDES | {"device", "onnx_images_per_s", "torch_images_per_s"}
        assert row["ratio"] == pytest.approx(row["onnx_images_per_s"] / row["torch_images_per_s"])
        assert row["cosine"] > 0.9999


def test_both_sides_of_encoder_read_files_alike(tmp_path: Path) -> None:
    from fedmq_models.encode import read_pixels

    made = clip.load(MODEL, None, seed=0)
    eager = encoder.Eager(made, encoder.Setup(model=MODEL, threads=1))
    (file,) = encoder.photographs(tmp_path, 1, np.random.default_rng(0))
    assert np.array_equal(eager.encode_files([file]), eager.encode(read_pixels(file, made.preprocess)[None]))


@pytest.mark.parametrize("link", ["zmq", "mqtt"])
def test_load_answers_every_update_of_every_node(link: str) -> None:
    if link in wires.BROKERED:
        broker.installed()
    row = only(load.measure(link, nodes=4, updates=20, seed=0, say=silent, drivers=2, dim=4))
    assert row["updates"] >= 20
    assert 0 < row["verdict_p50_s"] <= row["verdict_p99_s"]
    assert row["updates_per_s"] == pytest.approx(row["updates"] / row["seconds"])
    assert f"4 nodes over {link}" in report.sentence(row)


@pytest.mark.slow
@pytest.mark.parametrize(("link", "seed"), [("zmq", 1), ("mqtt", 2)])
def test_kills_of_everyone_lose_nothing_and_count_nothing_twice(link: str, seed: int) -> None:
    """Each seed is one with which every kind of process is killed."""
    if link == "mqtt":
        broker.installed()
    row = only(kills.measure(kills=4, link=link, seed=seed, say=silent, nodes=2, dim=8))
    assert (row["link"], row["kills"], row["lost"], row["duplicated"]) == (link, 4, 0, 0)
    assert row["killed"].keys() == {"aggregator", "node"} | ({"broker"} if link == "mqtt" else set())
    assert row["versions"] >= 4
    assert row["killed"].keys() == row["recovery_s"].keys()
    assert 0 < row["return_s"]["p50"] <= row["return_s"]["max"]
    assert f"SIGKILL over {link}: aggregator" in report.sentence(row)


def test_kills_over_mqtt_without_a_broker_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert refusal("kills", "--link", "mqtt").endswith("is not installed: apt-get install mosquitto")


def test_memory_is_that_of_an_aggregator_without_torch() -> None:
    row = only(memory.measure(nodes=3, codec_name="int8", rounds=2, seed=0, say=silent, drivers=2, dim=4))
    assert (row["nodes"], row["rounds"], row["torch_loaded"], row["onnxruntime_loaded"]) == (3, 2, False, False)
    assert 10e6 < row["first_rss_bytes"] <= row["peak_rss_bytes"]


def test_startup_takes_longer_than_doing_nothing() -> None:
    row = only(startup.measure(repeats=1, say=silent))
    assert row.keys() >= TWO_SIDES | {"median_s", "python_s"}
    assert row["ratio"] > 1


# What becomes of rows


def test_a_row_is_printed_and_kept_with_its_context_and_the_command_that_makes_it(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    found = run("fold", "--codec", "fp32", "--updates", 1, "--repeats", 1, "--json", "--out", out)
    assert found.exit_code == 0, found.output
    assert found.stdout == out.read_text()
    row = json.loads(found.stdout)
    assert row["context"].keys() == CONTEXT.keys()
    assert row["context"]["command"] == "fedmq bench fold --codec fp32 --updates 1 --repeats 1"
    assert "fp32: 1 turns of 1 updates" in found.stderr


def test_without_json_a_row_is_a_sentence_that_says_whether_the_target_was_missed() -> None:
    assert report.sentence({**FOLD, "codec": "fp32"}) == (
        "decode, weigh and fold one fp32 update: 0.2 ms (judged as well 0.3 ms, ratio 3.00), "
        "beside numpy `acc += w * x` 0.1 ms, ratio 2.00 "
        "(target at most 1.3 x: missed)"
    )


def test_the_table_has_the_newest_row_of_each_size(tmp_path: Path) -> None:
    old = {**FOLD, "median_s": 9e-4, "ratio": 9.0}
    new = {**FOLD, "context": {**CONTEXT, "at": "2026-11-21T12:00:00+00:00"}}
    memory_row = {"case": "memory", "nodes": 64, "codec": "int8", "peak_rss_bytes": 2e8, "context": CONTEXT}
    (tmp_path / "fold.jsonl").write_text(f"{json.dumps(new)}\n{json.dumps(old)}\n")
    (tmp_path / "memory.jsonl").write_text(f"{json.dumps(memory_row)}\n")
    found = run("table", "--results", tmp_path)
    assert found.stdout.splitlines() == [
        "| measured | fedmq | beside it | ratio | target | command |",
        "| --- | --- | --- | --- | --- | --- |",
        "| decode, weigh and fold one int8 update | 0.2 ms (judged as well 0.3 ms, ratio 3.00) "
        "| numpy `acc += w * x` 0.1 ms | 2.00 | at most 3 x "
        "| `fedmq bench fold` |",
        "| aggregator's peak memory, 64 nodes send int8 | 200 MB |  |  | at most 150 MB: missed | `fedmq bench fold` |",
        "",
        "Measured on abacus, 2 cores, 2026-11-21, python 3.11.7.",
        "Measured on abacus, 2 cores, 2026-11-20, python 3.11.7.",
    ]


def test_every_case_has_a_sentence() -> None:
    two = {"median_s": 1.0, "ratio": 2.0}
    found = [
        {"case": "latency", "link": "zmq", "nodes": 16, "codec": "fp32", "durable": False, "floor_median_s": 0.5,
         **two},
        {"case": "ledger", "nodes": 16, "codec": "int8", "durable": True, "updates_per_s": 100.0,
         "off_updates_per_s": 200.0, "alone_updates_per_s": 900.0, **two},
        {"case": "local", "images": 9, "model": "m", "cached_epoch_s": 1.0, "reference_epoch_s": 2.0, "ratio": 2e3},
        {"case": "encoder", "stage": "files", "model": "m", "precision": "fp32", "device": "cpu", "ratio": 1.5,
         "onnx_images_per_s": 3.0, "torch_images_per_s": 2.0},
        {"case": "startup", "python_s": 0.01, **two},
    ]  # fmt: skip
    assert [report.sentence(row) for row in found] == [
        "round of 16 nodes, fp32 up: 1.00 s, beside bare pyzmq 500 ms, ratio 2.00 (target at most 2 x)",
        "int8 updates of 16 nodes into the ledger, durable: 100 updates/s (the ledger alone 900), "
        "beside no ledger 200 updates/s, ratio 2.00 (target at most 1.5 x: missed)",
        "local epoch of 9 images, m: 1.00 s, beside both encoders per batch 2.0 s, ratio 2,000 "
        "(target at least 1,000 x)",
        "encode from JPEG files, m fp32 on cpu: 3.0 images/s, beside eager PyTorch 2.0 images/s, ratio 1.50",
        "`fedmq --help`: 1.00 s, beside `python -c pass` 10 ms (target at most 0.3 s: missed)",
    ]


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    measured: list[str] = []

    def measure() -> Iterator[dict[str, Any]]:
        measured.append("yes")
        yield {"case": "startup"}

    with pytest.raises(ResultsUnusable, match="cannot be written"):
        rows.publish(measure(), CONTEXT, rows.Outlet("startup", out=tmp_path / "absent" / "rows.jsonl"))
    assert measured == []


@pytest.mark.parametrize(("line", "says"), [("{", "is not JSON"), ("[]", "no case"), ('{"case": "fold"}', "no case")])
def test_a_line_that_is_no_row_is_named(line: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "fold.jsonl").write_text(f"{line}\n")
    with pytest.raises(ResultsUnusable, match=rf"fold\.jsonl line 1 .*{says}"):
        rows.read(tmp_path)


def test_a_folder_without_rows_is_answered_with_the_command_that_makes_some(tmp_path: Path) -> None:
    assert "--keep adds some" in refusal("table", "--results", tmp_path)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("latency", "--nodes", "4,x"), "--nodes is '4,x'; it takes whole numbers above 0, such as 1,4,16"),
        (("latency", "--nodes", "0"), "--nodes is '0'"),
        (("fold", "--codec", "zip"), "no codec named 'zip'; there are fp32"),
        (("kills", "--link", "avian"), "--link is 'avian'; it is one of zmq, mqtt"),
        (("encoder", "--device", "tpu"), "--device is 'tpu'; it is one of cpu, cuda"),
    ],
)
def test_wrong_arguments_are_answered_with_a_sentence(words: tuple[str, ...], says: str) -> None:
    assert says in refusal(*words)


def test_the_commands_cost_nothing_until_they_run() -> None:
    code = "import sys, fedmq_bench.commands; print([m for m in ('numpy', 'zmq', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
