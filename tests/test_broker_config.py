"""`fedmq broker-config`: the files that it writes, what a real Mosquitto makes of them, and what it refuses."""

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner

import broker
from fedmq.errors import ConfigInvalid
from fedmq.record import LEDGER, Record
from fedmq_nodes.commands import app
from toy import settle

PATIENCE_S = 240.0
FEDERATION = """
federation = "toy"
bundle = "./toy"
run = "run"
stop.versions = 1
[link]
address = "{address}"
curve = "off"
[link.broker]
user = "aggregator"
password = "broker/secrets/aggregator.password"
"""
FLEET = """
[federation]
federation = "toy"
link.address = "mqtt://127.0.0.1:1883"
[[nodes]]
name = "a"
features = "a.npz"
[[nodes]]
name = "b"
features = "b.npz"
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(tmp_path, monkeypatch, "a", count=40)


def configure(*words: str) -> str:
    """Run the command in this process and return what it printed."""
    done = CliRunner().invoke(app, ["broker-config", *words])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}


def test_it_writes_a_configuration_and_keeps_passwords_from_all_but_their_owner() -> None:
    Path("federation.toml").write_text(FEDERATION.format(address="mqtt://127.0.0.1:1883"))
    said = configure("federation.toml", "--nodes", "a, b")
    found = modes(Path("broker"))
    secrets = {f"secrets/{name}.password": 0o600 for name in ("aggregator", "a", "b")}
    assert found == {"mosquitto.conf": found["mosquitto.conf"], "passwords": 0o600, "access": 0o600, **secrets}
    assert Path("broker/secrets").stat().st_mode & 0o777 == 0o700
    config = Path("broker/mosquitto.conf").absolute()
    assert f"start it with: mosquitto -c {config}" in said
    assert config.read_text() in said
    assert not any(path.read_text().strip() in said for path in Path("broker/secrets").iterdir())


def test_what_the_broker_reads_and_writes_belongs_to_the_user_as_which_it_will_run() -> None:
    Path("federation.toml").write_text(FEDERATION.format(address="mqtt://127.0.0.1:1883"))
    configure("federation.toml", "--nodes", "a")
    services = {user.pw_name for user in pwd.getpwall()} & {"mosquitto"} if os.geteuid() == 0 else set()
    owner = next(iter(services), pwd.getpwuid(os.geteuid()).pw_name)
    assert {Path("broker", name).owner() for name in ("passwords", "access", "state")} == {owner}
    assert Path("broker/secrets/aggregator.password").owner() == pwd.getpwuid(os.geteuid()).pw_name


def test_the_nodes_of_a_fleet_file_are_let_in_and_others_beside_them() -> None:
    Path("fleet.toml").write_text(FLEET)
    configure("fleet.toml", "--nodes", "c,a", "--out", "elsewhere", "--set", "federation=other")
    assert {path.stem for path in Path("elsewhere/secrets").iterdir()} == {"aggregator", "a", "b", "c"}
    assert "topic read fedmq/other/down/b" in Path("elsewhere/access").read_text()


def test_whoever_could_read_the_hashes_before_cannot_any_more() -> None:
    Path("federation.toml").write_text(FEDERATION.format(address="mqtt://127.0.0.1:1883"))
    configure("federation.toml", "--nodes", "a")
    Path("broker/passwords").chmod(0o644)
    configure("federation.toml", "--nodes", "a,b")
    assert Path("broker/passwords").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("address", "words", "sentence"),
    [
        ("tcp://127.0.0.1:5600", ("--nodes", "a"), "is no broker's"),
        ("mqtt://10.0.0.5:1883", ("--nodes", "a"), "is not on this machine: use mqtts://"),
        ("mqtt://127.0.0.1:1883", ("--nodes", "a/b"), "'a/b' cannot be a node's name here"),
        ("mqtt://127.0.0.1:1883", ("--nodes", "a,a"), "'a' cannot be a node's name here, or is one twice"),
        ("mqtt://127.0.0.1:1883", ("--nodes", "a", "--out", "a.npz"), "cannot write to .*a.npz"),
        ("mqtt://127.0.0.1:1883", ("--set", "link.adress=x"), "unknown key link.adress"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_nothing_is_written(
    address: str, words: tuple[str, ...], sentence: str
) -> None:
    Path("federation.toml").write_text(FEDERATION.format(address=address))
    with pytest.raises(ConfigInvalid, match=sentence):
        configure("federation.toml", *words)
    assert not Path("broker").exists()


@contextmanager
def fedmq(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command meanwhile."""
    command = [sys.executable, "-m", "fedmq", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def take_part(address: str, *login: str) -> dict[str, int]:
    """Run a federation of one node to its end, and return how each ended; whoever fails, the other is killed."""
    join = ("join", address, "--federation", "toy", "--name", "a", "--features", "a.npz", "--bundle", "./toy")
    with fedmq("serve", "federation.toml", "--json") as aggregator, fedmq(*join, *login, "--state", "state") as node:
        assert node.stderr is not None
        codes = {"node": node.wait(PATIENCE_S)}
        assert codes["node"] == 0, node.stderr.read()
        return codes | {"aggregator": aggregator.wait(PATIENCE_S)}


def test_a_real_mosquitto_takes_what_it_writes_and_a_node_connects_with_its_password(tmp_path: Path) -> None:
    port = broker.free_port()
    Path("federation.toml").write_text(FEDERATION.format(address=f"mqtt://127.0.0.1:{port}"))
    configure("federation.toml", "--nodes", "a")
    config = tmp_path / "broker" / "mosquitto.conf"
    config.write_text(broker.AS_ROOT + config.read_text())
    with broker.running(tmp_path, config=config, port=port) as there:
        found = take_part(there.address, "--password", "broker/secrets/a.password")
    assert found == {"node": 0, "aggregator": 0}
    assert [row["node"] for row in Record.open(Path("run") / LEDGER).updates()] == ["a"]


def test_both_ends_may_show_certificates_in_place_of_passwords(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("127.0.0.1", "aggregator", "a"):
        issued = authority.issue_cert(name)
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.crt")
        issued.private_key_pem.write_to_path(tmp_path / f"{name}.key")
    table, _, _ = FEDERATION.partition("user =")
    files = f"cafile {tmp_path}/ca.pem\ncertfile {tmp_path}/127.0.0.1.crt\nkeyfile {tmp_path}/127.0.0.1.key\n"
    with broker.running(tmp_path, f"{files}require_certificate true") as there:
        address = there.address.replace("mqtt://", "mqtts://")
        mine = 'ca = "ca.pem"\ncert = "aggregator.crt"\ncert_key = "aggregator.key"\n'
        Path("federation.toml").write_text(table.format(address=address) + mine)
        found = take_part(address, "--ca", "ca.pem", "--cert", "a.crt", "--cert-key", "a.key")
    assert found == {"node": 0, "aggregator": 0}
