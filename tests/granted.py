"""What the pages take for granted: encoders, features, photos, and a federation that runs already."""

import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import trustme
from PIL import Image

import linear_encoder
from documented import ROOT
from fedmq import control
from fedmq.errors import AddressUnusable
from fedmq_bench.broker import AS_ROOT, free_port
from pages import PAGES, Shown, blocks
from running import wait
from terminal import Terminal

AGGREGATOR = "tcp://10.0.0.5:5600"  # where the pages have it
LISTENS, WORKS = r" listens at (\S+),", r"data\.ready"
LOOPBACK = "tcp://127.0.0.1:*"
LABELS = ("dog", "cat", "horse")
DIM, SIZE, EXAMPLES, PHOTOS = 8, 224, 240, 6
DOMAINS = ("photo", "sketch", "cartoon", "painting")
FEATURES = ("text", "features", "target", "edge-1", "edge-7")
FOLDERS = (
    "photos",
    "more-photos",
    "more-pets",
    *(f"{run}/{node}" for run in ("pacs", "pets") for node in ("photo", "sketch")),
)
CALTECH = "".join(
    f'[[nodes]]\nname = "quarter-{k}"\nfeatures = "caltech101.npz"\npart = "{k}/4"\nbundle = "caltech-bundle"\n'
    for k in (1, 2)
)


def settle(folder: Path) -> None:
    """Put into a folder what people bring along."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(LABELS), EXAMPLES)
    text = linear_encoder.text(len(LABELS), DIM)
    arrays: dict[str, Any] = {
        "features": text[labels] + 0.1 * rng.normal(size=(EXAMPLES, DIM)).astype(np.float32),
        "labels": labels,
    }
    for name in FEATURES:
        np.savez(folder / f"{name}.npz", text=text, classes=LABELS, domains=rng.choice(DOMAINS, EXAMPLES), **arrays)
    empty: dict[str, Any] = {"text": np.vstack([text, np.zeros_like(text[:1])]), "classes": (*LABELS, "background")}
    np.savez(folder / "caltech101.npz", **empty, **arrays)
    (folder / "caltech.toml").write_text(f'[federation]\nfederation = "caltech"\nbundle = "caltech-bundle"\n{CALTECH}')
    linear_encoder.write_encoder(folder / "encoder.onnx", dim=DIM, size=SIZE)
    for at, place in enumerate(FOLDERS):
        for label in LABELS:
            (folder / place / label).mkdir(parents=True)
            for number in range(PHOTOS):
                _photo(folder / place / label / f"{number}.jpg", 100 * at + number)
    for name in ("dog.jpg", "cat.jpg"):
        _photo(folder / name, 1)
    encoder, how = {"dim": DIM, "size": SIZE}, replace(linear_encoder.HOW, size=SIZE)
    linear_encoder.write_bundle(folder / "clip-bundle", encoder=encoder, preprocess=how, labels=LABELS, text=text)
    show(folder, shown_by("quick-start.md", "fleet.toml"))


def shown_by(page: str, name: str) -> Shown:
    """Return a file as a page has it; others go on from it."""
    (found,) = (path for path in PAGES if path.name == page)
    return next(block for block in blocks(found) if isinstance(block, Shown) and block.name == name)


def _photo(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def show(folder: Path, shown: Shown) -> None:
    """Write a file as a page has it, but for where an aggregator listens: a port of this machine that is free.

    Who shows a fleet file means the same federation by federation.toml.
    """
    (folder / shown.name).write_text(shown.text)
    table = tomllib.loads(shown.text)
    if shown.name != "scenario.toml":
        federation = table.get("federation", {}) if shown.name == "fleet.toml" else table
        federation.setdefault("link", {})["address"] = LOOPBACK
        (folder / "federation.toml").write_text(tomli_w.dumps(federation))


def a_pacs_bundle(here: Terminal) -> None:
    """Made elsewhere."""
    shutil.copytree(here.folder / "clip-bundle", here.folder / "pacs-bundle")


def the_key_of_edge_1(here: Terminal) -> None:
    """Carried from the node to the aggregator."""
    shutil.copy(here.folder / "keys/edge-1.key", here.folder / "edge-1.key")


def the_key_of_the_aggregator(here: Terminal) -> None:
    """Carried from the aggregator to the node."""
    shutil.copy(here.folder / "keys/aggregator.key", here.folder / "aggregator.key")


def a_federation_that_runs(here: Terminal) -> None:
    """One that edge-7 has sent at least 42 updates to, and that has no end."""
    text = 'federation = "pacs"\nbundle = "clip-bundle"\nrun = "runs/pacs"\nlink.address = "' + LOOPBACK + '"\n'
    (here.folder / "granted.toml").write_text(text)
    address = here.start("fedmq serve granted.toml", LISTENS)[1]
    here.start(f"fedmq join {address} --features edge-7.npz --bundle clip-bundle --name edge-7", WORKS)

    def version() -> int:
        try:
            return int(control.ask(here.folder / "runs/pacs")["version"])
        except AddressUnusable:
            return 0

    wait(lambda: version() >= 42, "version 42")


def a_run_of_statistics(here: Terminal, run: str = "runs/pacs") -> None:
    """Of edge-1 and another."""
    shutil.rmtree(here.folder / run, ignore_errors=True)
    nodes = "".join(
        f'[[nodes]]\nname = "{n}"\nfeatures = "{n}.npz"\nbundle = "clip-bundle"\n' for n in ("edge-1", "edge-7")
    )
    text = f'[federation]\nfederation = "pacs"\nbundle = "clip-bundle"\nrun = "{run}"\nstop.versions = 1\n'
    text += 'task.method = "statistics"\ncodec.up = "stats-rank4"\n'
    (here.folder / "granted.toml").write_text(text + nodes)
    here.run("fedmq up granted.toml")


def a_demo(here: Terminal) -> None:
    """Some run, in the place of the one that `make demo` leaves."""
    a_run_of_statistics(here, "runs/demo-1")


def a_broker(here: Terminal) -> None:
    """A port for it, and the keys of either end."""
    address = f"mqtts://localhost:{free_port()}"
    here.stand_ins["mqtts://broker.example:8883"] = address
    file = here.folder / "federation.toml"
    file.write_text(file.read_text().replace(f'"{LOOPBACK}"', f'"{address}"\ncurve = "on"'))
    for name in ("aggregator", "edge-1"):
        here.run(f"fedmq keys new {name}")
    here.run("fedmq keys enrol keys/edge-1.key")


def its_certificate(here: Terminal) -> None:
    """And an authority that signed it; whoever is root in a test stays so."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(here.folder / "ca.crt")
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(here.folder / "broker/broker.crt")
    issued.private_key_pem.write_to_path(here.folder / "broker/broker.key")
    config = here.folder / "broker/mosquitto.conf"
    config.write_text(AS_ROOT + config.read_text())


def what_edge_1_was_given(here: Terminal) -> None:
    """Its password at the broker, and the aggregator's public key."""
    shutil.copy(here.folder / "broker/secrets/edge-1.password", here.folder / "edge-1.password")
    the_key_of_the_aggregator(here)


def a_file_of_a_node(here: Terminal) -> None:
    """What `fedmq provision` writes, for an aggregator of this machine."""
    text = f'address = "{here.stand_ins[AGGREGATOR]}"\nfederation = "orchards"\n[node]\nname = "edge-1"\n'
    (here.folder / "node.toml").write_text(text + 'data = "photos"\nbundle = "clip-bundle"\n')


def the_rows_that_are_kept(here: Terminal) -> None:
    """A copy of them, and a place for the picture."""
    shutil.copytree(ROOT / "benchmarks/fedmq_bench/results", here.folder / "benchmarks/fedmq_bench/results")
    (here.folder / "docs/pictures").mkdir(parents=True)
