"""Of one fleet file, what each machine needs: it runs as it is written, and no secret is where it should not be."""

import json
import os
import ssl
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

import broker
import toy
from fedmq import keys
from fedmq.errors import ConfigInvalid
from fedmq.record import LEDGER, Record
from fedmq_nodes import nodefile
from fedmq_nodes.provision import Provisioned, provision
from running import PATIENCE_S, command, fedmq, wait

FLEET = """
[federation]
federation = "orchards"
bundle = "./toy"
start_nodes = 2
link.address = "{address}"
link.curve = "{curve}"
stop.versions = 3
task.lr = 0.05
[defaults]
bundle = "./toy"
[[nodes]]
name = "edge-1"
features = "{folder}/a.npz"
[[nodes]]
name = "edge-2"
features = "{folder}/b.npz"
test_share = 0.5
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.settle(tmp_path, monkeypatch, "ab")


def made(address: str, *, with_keys: bool = False, curve: str = "auto", more: str = "", **options: Any) -> Provisioned:
    Path("fleet.toml").write_text(FLEET.format(address=address, curve=curve, folder=Path.cwd()) + more)
    at = options.pop("broker_at", None)
    return provision(Path("fleet.toml"), (), Path("out"), with_keys, at, os.urandom)


def files(folder: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def test_by_default_a_nodes_secret_is_made_on_its_device() -> None:
    done = made("tcp://hub.example:5600")
    assert files("out/nodes/edge-1") == {"node.toml", "aggregator.key"}
    assert files("out/aggregator") == {"federation.toml", "keys/aggregator.key", "keys/aggregator.key_secret"}
    assert "secret" not in Path("out/nodes/edge-1/aggregator.key").read_text().partition("curve")[2].partition("=")[2]
    (line,) = done.lines["edge-1"]
    assert line.index("fedmq keys new edge-1") < line.index("fedmq keys enrol edge-1.key") < line.index("fedmq join")
    table = tomllib.loads(Path("out/aggregator/federation.toml").read_text())
    assert (table["link"]["address"], table["stop"]["versions"]) == ("tcp://0.0.0.0:5600", 3)


def test_asked_for_keys_are_in_each_nodes_folder_enrolled_and_kept_the_second_time() -> None:
    made("tcp://hub.example:5600", with_keys=True)
    first = {name: Path("out", name).read_bytes() for name in files("out")}
    assert {"nodes/edge-1/edge-1.key_secret", "aggregator/keys/enrolled/edge-1.key"} <= set(first)
    for name in ("nodes/edge-1/edge-1.key_secret", "aggregator/keys/aggregator.key_secret"):
        assert Path("out", name).stat().st_mode & 0o777 == 0o600
    more = f'[[nodes]]\nname = "edge-3"\nfeatures = "{Path.cwd()}/b.npz"\n'
    done = made("tcp://hub.example:5600", with_keys=True, more=more)
    assert {name: Path("out", name).read_bytes() for name in first} == first
    assert set(done.lines) == {"aggregator", "edge-1", "edge-2", "edge-3"}
    assert not [name for name in files("out/nodes/edge-2") if "edge-1" in name]


def test_a_broker_has_certificates_of_an_authority_that_nodes_are_told_of() -> None:
    made("mqtts://hub.example:8883", broker_at=Path("/mosquitto/config"))
    conf = Path("out/broker/mosquitto.conf").read_text()
    assert "certfile /mosquitto/config/broker.crt" in conf
    assert "password_file /mosquitto/config/passwords" in conf
    assert files("out/nodes/edge-1") == {"node.toml", "aggregator.key", "ca.crt", "edge-1.password"}
    assert Path("out/nodes/edge-1/edge-1.password").stat().st_mode & 0o777 == 0o600
    assert Path("out/broker/ca.key").stat().st_mode & 0o777 == 0o600
    assert not list(Path("out/nodes").rglob("ca.key"))
    context = ssl.create_default_context(cafile="out/nodes/edge-1/ca.crt")
    context.load_cert_chain("out/broker/broker.crt", "out/broker/broker.key")
    shown = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-verify_hostname", "hub.example", "-CAfile", "out/broker/ca.crt",
         "out/broker/broker.crt"], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert shown.stdout.strip() == "out/broker/broker.crt: OK", shown.stderr


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("tcp://0.0.0.0:5600", "say where nodes find the aggregator"),
        ("tcp://hub.example:*", "say where nodes find the aggregator"),
        ("mqtt://10.0.0.5:1883", "use mqtts://"),
    ],
)
def test_an_address_that_nodes_cannot_use_is_a_sentence(address: str, sentence: str) -> None:
    with pytest.raises(ConfigInvalid, match=sentence):
        made(address)


def test_a_nodes_file_is_read_with_the_options_of_the_command_line_before_it() -> None:
    made("tcp://hub.example:5600", with_keys=True)
    path = Path("out/nodes/edge-2/node.toml")
    found = nodefile.read(path, {"test_share": 0.25, "metrics": "9465"})
    assert (found.address, found.federation) == ("tcp://hub.example:5600", "orchards")
    assert (found.node.name, found.node.test_share, found.node.metrics) == ("edge-2", 0.25, "9465")
    assert nodefile.read(path, {}).node.test_share == 0.5
    assert found.node.pair() is not None
    path.write_text("address = 'tcp://x:1'")
    with pytest.raises(ConfigInvalid, match="a node's file has address, federation and"):
        nodefile.read(path, {})


def take_part(*, metrics: bool = False) -> dict[str, str]:
    """Run what was provisioned, as its lines say, each in its own folder; return the log of each."""
    Path("out/bundle").is_dir() or pytest.fail("the bundle was not copied")
    logs = {name: Path(f"{name}.log").absolute() for name in ("aggregator", "edge-1", "edge-2")}
    see = ["--metrics", "0", "--dashboard", "0"] if metrics else []
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name, log in logs.items():
            folder = Path("out") if name == "aggregator" else Path("out/nodes", name)
            if name != "aggregator" and not (folder / "bundle").exists():
                (folder / "bundle").symlink_to(Path("out/bundle").absolute())
            serve = ["serve", "aggregator/federation.toml", "--log-level", "debug", *see]
            words = serve if name == "aggregator" else ["join", "node.toml", "--log-level", "debug"]
            with log.open("wb") as file:
                processes.append(subprocess.Popen(command(*words), cwd=folder, stdout=file, stderr=file))
            if name == "aggregator":
                wait(lambda: "listens at" in logs["aggregator"].read_text(), "the aggregator")
        for process in processes[::-1]:
            assert process.wait(PATIENCE_S) == 0, {name: log.read_text()[-1500:] for name, log in logs.items()}
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return {name: log.read_text() for name, log in logs.items()}


def secrets_of(folder: Path) -> dict[str, str]:
    """Return every secret that lies below a folder: halves of keys, passwords."""
    found = {str(path): keys.load(path).secret.decode() for path in folder.rglob("*.key_secret")}
    found |= {str(path): path.read_text().strip() for path in folder.rglob("*.password")}
    for path in folder.rglob("*.key"):
        if "PRIVATE" in path.read_text():
            found[str(path)] = path.read_text().splitlines()[1]
    return found


def leaks(folder: Path, texts: dict[str, str]) -> list[tuple[str, str]]:
    secrets = secrets_of(folder)
    assert len(secrets) >= 3
    assert all(len(secret) >= 20 for secret in secrets.values())
    return [(where, path) for where, text in texts.items() for path, secret in secrets.items() if secret in text]


def told_elsewhere() -> dict[str, str]:
    """What is kept where logs are not: the ledger and the state of the nodes."""
    paths = [*Path("out/aggregator/run").rglob("*"), *Path("out/nodes").rglob("state/**/*")]
    return {str(path): path.read_bytes().decode("latin-1") for path in paths if path.is_file()}


def test_what_was_provisioned_runs_with_keys_and_no_secret_is_logged_or_kept() -> None:
    port = broker.free_port()
    made(f"tcp://127.0.0.1:{port}", with_keys=True, curve="on")
    logs = take_part(metrics=True)
    enrolled = {keys.load_public(path).decode() for path in Path("out/aggregator/keys/enrolled").iterdir()}
    with Record.open(Path("out/aggregator/run") / LEDGER) as record:
        assert {row["node"] for row in record.updates()} == enrolled
    assert leaks(Path("out"), logs | told_elsewhere()) == []


def test_what_was_provisioned_runs_over_a_broker_with_tls_and_no_secret_is_logged_or_kept(tmp_path: Path) -> None:
    port = broker.free_port()
    made(f"mqtts://127.0.0.1:{port}", with_keys=True, curve="on")
    config = Path("out/broker/mosquitto.conf").absolute()
    config.write_text(broker.AS_ROOT + config.read_text())
    with broker.running(tmp_path, config=config, port=port):
        logs = take_part()
        wrong = Path("out/nodes/edge-1/wrong.password")
        wrong.write_text("a-password-that-is-none-of-ours\n")
        refused = subprocess.run(
            command("join", "node.toml", "--password", "wrong.password", "--log-level", "debug"),
            cwd="out/nodes/edge-1", capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert refused.returncode == 5
    logs["refused"] = refused.stdout + refused.stderr
    assert "edge-1" in logs["refused"]
    assert leaks(Path("out"), logs | told_elsewhere()) == []


def test_the_command_says_what_to_type_and_not_what_is_secret() -> None:
    made("mqtts://hub.example:8883", with_keys=True)
    said = fedmq("provision", "fleet.toml", "--out", "out", "--with-keys")
    assert "fedmq serve aggregator/federation.toml" in said
    lines = json.loads(fedmq("provision", "fleet.toml", "--out", "out", "--with-keys", "--json"))["lines"]
    assert set(lines) == {"broker", "aggregator", "edge-1", "edge-2"}
    assert leaks(Path("out"), {"said": said}) == []
