"""The broker that fedmq configures lets each node say and hear what is its own, and nothing else."""

import asyncio
import subprocess
import sys
from pathlib import Path

import aiomqtt
import numpy as np
import pytest

import broker
from fedmq import mosquitto
from fedmq.codec import Limits
from fedmq.config import Endpoint, Federation
from fedmq.effects import Audience
from fedmq.errors import AddressUnusable, ConfigInvalid
from fedmq.login import Login
from fedmq.transports.mqtt import MqttHub, MqttLink, Topics

PATIENCE_S = 60.0
RNG = np.random.default_rng(0)


def draw(count: int) -> bytes:
    return RNG.bytes(count)


def federation(port: int) -> Federation:
    return Federation("toy", link=Endpoint(f"mqtt://127.0.0.1:{port}"))


def login(folder: Path, user: str) -> Login:
    return Login(user, folder / "broker" / "secrets" / f"{user}.password")


def test_a_node_speaks_and_hears_as_itself_and_is_denied_anothers_topics(tmp_path: Path) -> None:
    port, topics = broker.free_port(), Topics("toy")
    path = mosquitto.write(tmp_path / "broker", federation(port), ["a", "b"], draw)
    path.write_text(broker.AS_ROOT + path.read_text())

    async def scenario(address: str) -> None:
        def node(name: str, user: str) -> MqttLink:
            return MqttLink.connect(address, "toy", name, Limits(), RNG, login(tmp_path, user))

        hub = await MqttHub.open(address, "toy", Limits(), RNG, login(tmp_path, "aggregator"))
        a = node("a", "a")
        while await a.send(["aggregator"], (b"from a",)):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert await hub.recv() == [("a", (b"from a",))]

        thief = node("b", "a")
        with pytest.raises(AddressUnusable, match="does not let us write to fedmq/toy/.*/b"):
            await thief.recv()
        await thief.close()

        password = login(tmp_path, "a").password
        assert password is not None
        heard: list[str] = []
        async with aiomqtt.Client(
            "127.0.0.1", port, username="a", password=password.read_text().strip(), identifier="ear"
        ) as ear:
            await ear.subscribe([("fedmq/#", 1), (topics.up("b"), 1), (topics.down("a"), 1)])
            b = node("b", "b")
            while await b.send(["aggregator"], (b"from b",)):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            assert await hub.recv() == [("b", (b"from b",))]
            assert await hub.send(["b"], (b"secret",)) == []
            assert await b.recv() == [("aggregator", (b"secret",))]
            await hub.publish((b"version",), Audience.ALL)
            assert await a.recv() == await b.recv() == [("aggregator", (b"version",))]
            assert await hub.send(["a"], (b"last",)) == []
            async for message in ear.messages:
                heard.append(message.topic.value)
                if message.topic.value == topics.down("a"):
                    break
        assert set(heard) == {topics.model, topics.down("a")}
        for link in (a, b):
            await link.close()
        await hub.close()

    async def main(address: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await scenario(address)

    with broker.running(tmp_path, config=path, port=port) as there:
        asyncio.run(main(there.address))


def test_a_wrong_password_is_refused_and_the_doctor_says_so(tmp_path: Path) -> None:
    port = broker.free_port()
    path = mosquitto.write(tmp_path / "broker", federation(port), ["a"], draw)
    path.write_text(broker.AS_ROOT + path.read_text())
    (tmp_path / "wrong").write_text("guess\n")
    (tmp_path / "federation.toml").write_text(
        f'federation = "toy"\n[link]\naddress = "mqtt://127.0.0.1:{port}"\n'
        '[link.broker]\nuser = "aggregator"\npassword = "wrong"\n'
    )
    with broker.running(tmp_path, config=path, port=port):
        for command in ("doctor", "serve"):
            words = [sys.executable, "-m", "fedmq", command, str(tmp_path / "federation.toml")]
            done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
            assert done.returncode == {"doctor": 1, "serve": 5}[command]
            assert "does not let user 'aggregator' in" in " ".join((done.stdout + done.stderr).split())


def test_a_node_more_leaves_the_passwords_of_the_others_as_they_were(tmp_path: Path) -> None:
    def secrets() -> dict[str, str]:
        return {path.stem: path.read_text() for path in (tmp_path / "broker" / "secrets").iterdir()}

    mosquitto.write(tmp_path / "broker", federation(1883), ["a"], draw)
    before = secrets()
    mosquitto.write(tmp_path / "broker", federation(1883), ["a", "b"], draw)
    assert {name: secrets()[name] for name in before} == before
    assert set(secrets()) == {"aggregator", "a", "b"}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "broker" / "secrets").iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["a b", "a/b", "+", "aggregator", "", "a\nuser root"])
def test_a_name_that_could_be_more_than_a_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be a node's name"):
        mosquitto.write(tmp_path / "broker", federation(1883), ["a", name], draw)
    assert not (tmp_path / "broker").exists()


def test_a_broker_off_this_machine_needs_tls(tmp_path: Path) -> None:
    plain = Federation("toy", link=Endpoint("mqtt://10.0.0.5:1883"))
    with pytest.raises(ConfigInvalid, match="is not on this machine: use mqtts://"):
        mosquitto.configuration(tmp_path, plain)
    private = mosquitto.configuration(tmp_path, Federation("toy", link=Endpoint("mqtts://10.0.0.5")))
    assert f"listener 8883\ncertfile {tmp_path}/broker.crt\nkeyfile {tmp_path}/broker.key\n" in private
    with pytest.raises(ConfigInvalid, match="no broker's"):
        mosquitto.configuration(tmp_path, Federation("toy"))
