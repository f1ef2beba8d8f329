"""Whole fleets as processes of their own, over MQTT, through the same files and commands as over ZeroMQ."""

import asyncio
from pathlib import Path

import aiomqtt
import pytest

import broker
from fedmq import keys
from fedmq.record import LEDGER, Record
from fedmq_nodes import fleetfile, up
from fedmq_nodes.fleet import RunningFleet
from fedmq_nodes.live import View
from toy import settle

FLEET = """
[federation]
federation = "toy"
bundle = "./toy"
run = "run"
rounds.preset = "quorum"
task.lr = 0.05
pulse.heartbeat_s = 0.2
pulse.lost_after_s = 3.0
[defaults]
bundle = "./toy"
examples_per_s = 200.0
[[nodes]]
name = "a"
features = "a.npz"
[[nodes]]
name = "b"
features = "b.npz"
[[nodes]]
name = "c"
features = "c.npz"
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(tmp_path, monkeypatch, "abc")
    Path("fleet.toml").write_text(FLEET)


@pytest.mark.parametrize("down", ["fp32", "int8"])
def test_a_fleet_goes_on_when_its_broker_is_killed_and_has_forgotten_everything(down: str, tmp_path: Path) -> None:
    with broker.running(tmp_path) as there:
        overrides = [f"link.address={there.address}", "stop.versions=6", f"codec.down={down}"]
        path = Path("fleet.toml")
        fleet = fleetfile.read(path, overrides)

        async def story(running: RunningFleet, watch: up.Watch, _view: View) -> None:
            await watch.until(lambda status: status["version"] >= 2)
            there.stop()
            there.start()

        summary = asyncio.run(up.run(fleet, path, overrides, View(quiet=True), story))
    assert (summary["versions"], summary["failed"]) == (6, {})
    assert (summary["updates"]["lost"], summary["updates"]["duplicated"]) == (0, 0)
    record = Record.open(Path("run") / LEDGER)
    assert {row["node"] for row in record.updates()} == {"a", "b", "c"}


def test_a_sealed_fleet_learns_over_a_broker_that_learns_nothing(tmp_path: Path) -> None:
    for name in ("aggregator", "a", "b", "c"):
        public = keys.new(Path("keys"), name)
        if name != "aggregator":
            keys.enrol(public, Path("keys/enrolled"))
    sealed = FLEET.replace("[defaults]", '[defaults]\naggregator_key = "keys/aggregator.key"')
    for name in "abc":
        sealed = sealed.replace(f'name = "{name}"', f'name = "{name}"\nkey = "keys/{name}.key_secret"')
    Path("fleet.toml").write_text(sealed)
    with broker.running(tmp_path) as there:
        overrides = [f"link.address={there.address}", "link.curve=on", "stop.versions=4"]
        path, heard = Path("fleet.toml"), list[bytes]()
        fleet = fleetfile.read(path, overrides)

        async def listen() -> None:
            async with aiomqtt.Client("127.0.0.1", there.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
                await client.subscribe("fedmq/#", qos=1)
                async for message in client.messages:
                    heard.append(bytes(message.payload))

        async def story(_running: RunningFleet, _watch: up.Watch, _view: View) -> None:
            await listen()

        summary = asyncio.run(up.run(fleet, path, overrides, View(quiet=True), story))
    assert (summary["versions"], summary["updates"]["lost"], summary["updates"]["duplicated"]) == (4, 0, 0)
    enrolled = {keys.load(Path(f"keys/{name}.key_secret")).public.decode() for name in "abc"}
    assert {row["node"] for row in Record.open(Path("run") / LEDGER).updates()} == enrolled
    words = (b"fedclip", b"update", b"welcome", b"feature_space")
    assert heard
    assert not any(word in payload for payload in heard for word in words)
