"""Whole fleets as processes of their own, over ZeroMQ, through the commands that a person types."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import zmq
from PIL import Image

from fedmq import codec
from fedmq.messages import Hello, Update
from fedmq.record import LEDGER, Record
from fedmq_models import bundle as bundles
from fedmq_models.encode.preprocess import pixels
from fedmq_models.tiny import images as tiny
from fedmq_nodes import fleetfile, state, up, use
from fedmq_nodes.fleet import RunningFleet
from fedmq_nodes.live import View
from running import PATIENCE_S, command, federation, fedmq
from toy import settle

FEDERATION = federation(start_nodes=2)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of its own, with features for three nodes and the bundle that they belong to."""
    settle(tmp_path, monkeypatch, "abc")
    monkeypatch.setenv("COLUMNS", "160")


@contextmanager
def started(*words: str, log: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command meanwhile; its log goes to a file."""
    with Path(log).open("a") as errors:
        process = subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@contextmanager
def serving(file: str, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run an aggregator meanwhile, at a port of its own unless told; its address is known."""
    port = ("--set", "link.address=tcp://127.0.0.1:*")
    with started("serve", file, *port, *words, "--json", log="serve.log") as process:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())["listening"]


def fleet_file(nodes: Sequence[str], versions: int, more: str = "") -> Path:
    table = FEDERATION.replace("[", "[federation.").replace("\nfederation =", "\n[federation]\nfederation =", 1)
    table = table.replace("start_nodes = 2\n", "")
    entries = "".join(f'[[nodes]]\nname = "{name}"\nfeatures = "{name}.npz"\n{more}' for name in nodes)
    path = Path("fleet.toml")
    path.write_text(f'{table}[federation.stop]\nversions = {versions}\n[defaults]\nbundle = "./toy"\n{entries}')
    return path


def test_up_runs_a_fleet_to_its_end_holding_a_node_out_and_reports_it() -> None:
    path = fleet_file("abc", versions=4)
    (summary,) = map(
        json.loads, fedmq("up", str(path), "--hold-out", "c", "--set", "rounds.preset=sync", "--json").splitlines()
    )
    assert (summary["held_out"], summary["versions"]) == ("c", 4)
    assert summary["updates"] | {"accepted": 0, "refused": 0, "by_code": {}} == {
        "accepted": 0,
        "refused": 0,
        "by_code": {},
        "lost": 0,
        "duplicated": 0,
    }
    assert {row["node"]: row["trains"] for row in summary["nodes"]} == {"a": True, "b": True, "c": False}
    assert summary["federated"] > summary["zero_shot"]
    report = fedmq("report", summary["run"])
    page = Path(report.split()[-1]).read_text()
    assert "<svg" in page
    loads = re.findall(r"<script|<link|@import|(?:src|href)=.?http[^>]*|url\(.?http[^)]*", page)
    assert loads == []


def test_what_a_node_keeps_to_itself_is_in_its_state_alone_and_makes_its_own_model() -> None:
    path = fleet_file("abc", versions=3, more='state = "state"\n')
    chosen = ["--set", "rounds.preset=sync", "--set", "task.method=fedot", "--set", "task.lr=0.1"]
    (summary,) = map(json.loads, fedmq("up", str(path), *chosen, "--set", "task.epochs=5", "--json").splitlines())
    assert summary["personal"] > summary["federated"] >= summary["zero_shot"]
    assert summary["bytes"]["fp32_per_update"] == 4 * 3 * 8
    with Record.open(Path(summary["run"]) / LEDGER) as record:
        assert [name for name, _ in record.schema().entries] == ["head.weight"]
    page = Path(fedmq("report", summary["run"]).split()[-1]).read_text()
    assert "personal: with each node's own part" in page.replace("&#39;", "'")
    (own,) = Path("state").glob("a-*")
    evaluated = [
        json.loads(fedmq("eval", summary["run"], "--features", "a.npz", "--json", *more))
        for more in ([], ["--personal", str(own)])
    ]
    assert evaluated[1]["federated"] > evaluated[0]["federated"]
    assert use.Learned.of(Path(summary["run"]), personal=own).params["rotation.blocks"].any()


def test_a_fleet_that_can_never_begin_ends_with_the_words_of_the_node_that_failed() -> None:
    for node, label in (("a", "tree"), ("b", "zebra")):
        folder = Path(node) / label
        folder.mkdir(parents=True)
        Image.new("RGB", (48, 48)).save(folder / "one.png")
    Path("fleet.toml").write_text(
        '[federation]\nfederation = "hopeless"\n[[nodes]]\nname = "a"\ndata = "a"\n[[nodes]]\nname = "b"\ndata = "b"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "fedmq", "up", "fleet.toml"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, "node b ended with code 3" in done.stderr, "zebra" in done.stderr) == (3, True, True)


def test_a_node_that_is_killed_with_sigkill_and_started_again_costs_nothing() -> None:
    path = fleet_file("abc", versions=8, more="examples_per_s = 200.0\n")
    fleet = fleetfile.read(path, [])

    async def story(running: RunningFleet, watch: up.Watch, _view: View) -> None:
        await watch.until(lambda status: status["version"] >= 2)
        running.kill_node("b")
        await watch.until(lambda status: status["version"] >= 4)
        await running.start_node("b")

    summary = asyncio.run(up.run(fleet, path, [], View(quiet=True), story))
    assert (summary["versions"], summary["updates"]["lost"], summary["updates"]["duplicated"]) == (8, 0, 0)
    record = Record.open(Path(summary["run"]) / LEDGER)
    seqs = [row["seq"] for row in record.updates() if row["node"] == "b"]
    assert seqs == list(range(1, len(seqs) + 1))


def test_an_update_that_a_killed_node_could_not_send_is_sent_by_its_next_process() -> None:
    """The aggregator dies while the node trains; the node is killed once it has what it learned on its disk."""
    Path("federation.toml").write_text(FEDERATION.replace("start_nodes = 2", "start_nodes = 1"))
    node = ("join", "--bundle", "./toy", "--features", "a.npz", "--name", "a", "--state", "state")
    with serving("federation.toml") as (first, address):
        with started(*node, "--examples-per-s", "40", address, log="a.log") as dies:
            wait_for_version(Path("run"), 1)
            first.kill()
            first.wait(PATIENCE_S)
            before = [row["seq"] for row in Record.open(Path("run") / LEDGER).updates()]
            kept = wait_for_unsent(dies, len(before) + 1)
        again = ("--set", f"link.address={address}", "--set", f"stop.versions={len(before) + 1}")
        with serving("federation.toml", *again) as (second, _), started(*node, address, log="b.log"):
            assert second.wait(PATIENCE_S) == 0
    updates = Record.open(Path("run") / LEDGER).updates()
    assert [row["seq"] for row in updates] == [*before, kept.seq]
    found = updates[-1]
    told = (found["code"], found["base_version"], found["loss"], found["train_s"])
    assert told == ("accepted", kept.base_version, kept.loss, kept.train_s)


def wait_for_unsent(node: subprocess.Popen[str], seq: int) -> Update:
    """Wait until the update with this seq is on the disk of a node, which must live so long."""
    while True:
        with pytest.raises(subprocess.TimeoutExpired):
            node.wait(0.1)
        for memory in Path("state").glob("a-*/memory"):
            update = state.unpack(memory)[0].update
            if update is not None and update.seq == seq:
                return update


def test_ctrl_c_stops_an_aggregator_cleanly_and_the_next_start_goes_on() -> None:
    Path("federation.toml").write_text(FEDERATION)
    with serving("federation.toml") as (process, address):
        join = ("join", address, "--bundle", "./toy", "--features")
        with started(*join, "a.npz", "--name", "a", log="a.log"), started(*join, "b.npz", "--name", "b", log="b.log"):
            wait_for_version(Path("run"), 2)
            assert json.loads(fedmq("status", "run", "--json"))["version"] >= 2
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 130
            before = Record.open(Path("run") / LEDGER).versions()
            again = ("federation.toml", "--set", f"link.address={address}", "--set", f"stop.versions={len(before) + 2}")
            with serving(*again) as (resumed, _):
                assert resumed.wait(PATIENCE_S) == 0
    after = Record.open(Path("run") / LEDGER).versions()
    assert after[: len(before)] == before
    assert after[-1]["version"] == len(before) + 2


def wait_for_version(run: Path, version: int) -> None:
    """Ask the aggregator until it says so."""
    while True:
        done = subprocess.run(
            [sys.executable, "-m", "fedmq", "status", str(run), "--json"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0 and json.loads(done.stdout)["version"] >= version:
            return


def test_an_encrypted_link_needs_enrolled_keys_and_carries_the_same_federation() -> None:
    Path("federation.toml").write_text(FEDERATION + '[link]\ncurve = "on"\naddress = "tcp://127.0.0.1:*"\n')
    for name in ("aggregator", "a", "b", "stranger"):
        fedmq("keys", "new", name)
    for name in ("a", "b"):
        fedmq("keys", "enrol", f"keys/{name}.key")
    with serving("federation.toml", "--set", "stop.versions=2") as (process, address):

        def join(name: str) -> tuple[str, ...]:
            keys = ("--key", f"keys/{name}.key_secret", "--aggregator-key", "keys/aggregator.key")
            return ("join", address, "--bundle", "./toy", "--features", "a.npz", "--name", name, *keys)

        with (
            started(*join("stranger"), log="stranger.log"),
            started(*join("a"), log="a.log"),
            started(*join("b"), log="b.log"),
        ):
            assert process.wait(PATIENCE_S) == 0
    record = Record.open(Path("run") / LEDGER)
    assert {row["name"] for row in record.nodes()} == {"a", "b"}
    assert all(len(row["node"]) == 40 for row in record.nodes())


def test_garbage_on_the_socket_costs_its_sender_strikes_and_nobody_else_notices() -> None:
    Path("federation.toml").write_text(FEDERATION + "[limits]\nframe_bytes = 4096\n")
    found = bundles.load("./toy")
    hello = codec.encode(Hello(7, "toy", "bad", found.feature_space, found.dim, ("fedclip",), ("fp32", "fp16", "int8")))
    nan = np.full(2 * (8 * 8 + 8), np.nan, "<f4").tobytes()
    garbage: list[Sequence[bytes | memoryview]] = [
        (os.urandom(200),),
        (b"fmq\x01\xff\xff\xff\xff",),
        (hello[0][:20],),
        (b"x" * 6000,),
        codec.encode(Update(7, 1, 0, "int8", 10, payload=b"short")),
        codec.encode(Update(7, 2, 0, "fp32", 10, payload=nan)),
    ]
    with serving("federation.toml", "--set", "stop.versions=3") as (process, address):
        join = ("join", address, "--bundle", "./toy", "--features")
        with (
            zmq.Context() as context,
            context.socket(zmq.DEALER) as bad,
            started(*join, "a.npz", "--name", "a", log="a.log"),
            started(*join, "b.npz", "--name", "b", log="b.log"),
        ):
            bad.set(zmq.LINGER, 0)
            bad.connect(address)
            for frame in (garbage[0], hello, *garbage[1:]):
                bad.send_multipart([b"bad", *frame])
            assert process.wait(PATIENCE_S) == 0
    record = Record.open(Path("run") / LEDGER)
    struck = [json.loads(row["fields"]) for row in record.events() if row["event"] == "peer.struck"]
    reasons = ["not_fedmq", "too_large", "truncated", "too_large", "bad_payload", "wrong_codec"]
    assert [fields["reason"] for fields in struck] == reasons
    assert {fields["node"] for fields in struck} == {"bad"}
    assert record.versions()[-1]["version"] == 3


def test_a_refused_node_says_why_and_exits_with_4() -> None:
    Path("federation.toml").write_text(FEDERATION)
    other = bundles.write("other", name="o", labels=("cat",), text=np.eye(1, 8), declared_space="elsewhere")
    with serving("federation.toml") as (_, address):
        done = subprocess.run(
            [sys.executable, "-m", "fedmq", "join", address, "--features", "a.npz", "--bundle", "./other"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 4
    assert other.feature_space[:16] in done.stderr
    assert bundles.load("./toy").feature_space[:16] in done.stderr


@pytest.fixture
def learned() -> Path:
    """A run of the embedded default, with images, as short as it can be."""
    for number, domain in enumerate(("photo", "sketch")):
        tiny.write(Path(domain), domain, 3, tiny.UNSEEN + 100 * number)
    Path("images.toml").write_text(
        '[federation]\nfederation = "images"\nrun = "images"\n[federation.stop]\nversions = 2\n'
        '[[nodes]]\nname = "photo"\ndata = "photo"\n[[nodes]]\nname = "sketch"\ndata = "sketch"\n'
    )
    fedmq("up", "images.toml")
    return Path("images")


def test_what_was_learned_is_used_evaluated_and_exported_alike(learned: Path) -> None:
    pictures = sorted(Path("sketch").glob("*/*.png"))[:8]
    (evaluation,) = map(
        json.loads, fedmq("eval", str(learned), "--data", "sketch", "--save", "again", "--json").splitlines()
    )
    assert (evaluation["version"], evaluation["examples"]) == (2, 36)

    said = [
        json.loads(line)
        for line in fedmq("classify", "--run", str(learned), *map(str, pictures), "--json").splitlines()
    ]
    exported = fedmq("export-adapted", str(learned), "--out", "adapted.onnx", "--json")
    assert json.loads(exported) == {"version": 2, "file": "adapted.onnx"}
    session = onnxruntime.InferenceSession("adapted.onnx", providers=["CPUExecutionProvider"])
    how = use.Learned.of(learned).bundle.preprocess
    assert how is not None
    batch = np.stack([pixels(Image.open(path).convert("RGB"), how) for path in pictures])
    (logits,) = session.run(None, {"pixels": batch})
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    labels = json.loads(session.get_modelmeta().custom_metadata_map["fedmq.labels"])
    for row, answer in zip(shares, said, strict=True):
        best = [(labels[i], float(row[i])) for i in np.argsort(-row)[:3]]
        told = [(one["label"], one["probability"]) for one in answer["labels"]]
        assert [label for label, _ in told] == [label for label, _ in best]
        np.testing.assert_allclose([p for _, p in told], [p for _, p in best], atol=2e-4)

    assert "again" in (Path(fedmq("report", str(learned)).split()[-1])).read_text()


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_classified(learned: Path) -> None:
    Path("bad.png").write_bytes(b"no image")
    good = next(Path("photo").glob("*/*.png"))
    lines = fedmq("classify", "--run", str(learned), "bad.png", str(good), "--json", code=3).splitlines()
    bad, found = map(json.loads, lines)
    assert "bad.png" in bad["error"]
    assert len(found["labels"]) == 3


def keys_of(found: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: found[name] for name in names}


@pytest.mark.slow
def test_the_demo_ends_with_the_keys_that_scripts_rely_on_and_a_win() -> None:
    found = json.loads(fedmq("demo", "--folder", "demo", "--json"))
    assert set(found["per_domain"]) == {"photo", "sketch", "cartoon", "painting"}
    assert found["federated"] > found["zero_shot"] + 0.04
    assert keys_of(found["updates"], "lost", "duplicated") == {"lost": 0, "duplicated": 0}
    assert found["updates"]["accepted"] >= 60
    assert set(found["bytes"]) >= {"up_per_update", "down_per_update", "fp32_per_update"}
    assert found["bytes"]["up_per_update"] * 3.5 < found["bytes"]["fp32_per_update"] == 4 * 131_584
    assert set(found["round_s"]) == {"p50", "p95"}
    assert found["versions"] == 20
    assert Path(found["report"]).is_file()
