"""What is particular to MQTT: a broker that restarts, refuses, or is small, and nodes that vanish."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiomqtt
import numpy as np
import pytest
import trustme

import broker
from broker import Mosquitto
from fedmq.codec import Limits
from fedmq.effects import Audience
from fedmq.errors import AddressUnusable, ConfigInvalid
from fedmq.login import Login
from fedmq.transports import GONE
from fedmq.transports.mqtt import MqttHub, MqttLink, Topics

PATIENCE_S = 60.0
RNG = np.random.default_rng(0)


def node(there: Mosquitto, name: str = "edge", login: Login | None = None) -> MqttLink:
    return MqttLink.connect(there.address, "toy", name, Limits(), RNG, login or Login())


@asynccontextmanager
async def ends(there: Mosquitto, *names: str) -> AsyncIterator[tuple[MqttHub, list[MqttLink]]]:
    """A hub, and nodes that it has heard."""
    hub = await MqttHub.open(there.address, "toy", Limits(), RNG, Login())
    nodes = [node(there, name) for name in names]
    try:
        for name, link in zip(names, nodes, strict=True):
            await push(link, b"hello")
            assert await hub.recv() == [(name, (b"hello",))]
        yield hub, nodes
    finally:
        for link in nodes:
            await link.close()
        await hub.close()


async def push(link: MqttLink, frame: bytes) -> None:
    while await link.send(["aggregator"], (frame,)):  # noqa: ASYNC110
        await asyncio.sleep(0.001)


GHOST = """
import asyncio, sys
import numpy as np
from fedmq.codec import Limits
from fedmq.login import Login
from fedmq.transports.mqtt import MqttLink
async def main():
    link = MqttLink.connect(sys.argv[1], "toy", sys.argv[2], Limits(), np.random.default_rng(0), Login())
    while await link.send(["aggregator"], (b"boo",)):
        await asyncio.sleep(0.01)
    await link.recv()
asyncio.run(main())
"""


@asynccontextmanager
async def ghost(there: Mosquitto, name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A node that says one thing, as a process of its own, to be killed."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", GHOST, there.address, name)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await scenario()

    asyncio.run(main())


def test_one_publication_reaches_every_node_and_a_lasting_one_those_that_come_later(tmp_path: Path) -> None:
    payload = os.urandom(2_000_000)

    async def scenario() -> None:
        with broker.running(tmp_path) as there:
            async with ends(there, "a", "b") as (hub, nodes):
                await hub.publish((b"passing",), Audience.PRESENT)
                await hub.publish((b"lasting", payload), Audience.ALL)
                for link in nodes:
                    frames = [frame for _, frame in await link.recv()]
                    while len(frames) < 2:
                        frames += [frame for _, frame in await link.recv()]
                    assert [b"".join(frame) for frame in frames] == [b"passing", b"lasting" + payload]
                late = node(there, "late")
                ((_, frame),) = await late.recv()
                assert b"".join(frame) == b"lasting" + payload
                await late.close()

    run(scenario)


def test_a_node_that_vanishes_is_reported_by_its_last_will_and_is_then_unreachable(tmp_path: Path) -> None:
    async def scenario() -> None:
        with broker.running(tmp_path) as there:
            async with ends(there, "edge") as (hub, _), ghost(there, "ghost") as process:
                assert await hub.recv() == [("ghost", (b"boo",))]
                process.kill()
                assert await hub.recv() == [("ghost", GONE)]
                assert await hub.send(["edge", "ghost"], (b"news",)) == ["ghost"]

    run(scenario)


def test_a_keyframe_reaches_those_who_come_later_once_and_nobody_who_was_there_before(tmp_path: Path) -> None:
    async def scenario() -> None:
        with broker.running(tmp_path) as there:
            async with ends(there, "early") as (hub, (early,)):
                await hub.publish((b"first keyframe",), Audience.LATER)
                assert await early.recv() == [("aggregator", (b"first keyframe",))]
                for payload in (b"second keyframe", b"third keyframe"):
                    await hub.publish((payload,), Audience.LATER)
                await hub.publish((b"difference",), Audience.PRESENT)
                assert await early.recv() == [("aggregator", (b"difference",))]
                async with ends(there, "late") as (_, (late,)):
                    assert await late.recv() == [("aggregator", (b"third keyframe",))]

    run(scenario)


def test_a_broker_that_restarts_and_has_forgotten_everything_is_told_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        with broker.running(tmp_path) as there:
            async with ends(there, "edge") as (hub, (link,)):
                await hub.publish((b"version",), Audience.ALL)
                assert await link.recv() == [("aggregator", (b"version",))]
                there.stop()
                assert await hub.send(["edge"], (b"kept meanwhile",)) == []
                there.start()
                frames: set[bytes] = set()
                while frames != {b"", b"version", b"kept meanwhile"}:  # nothing is GONE: the node is to greet again
                    # What was published before the node was there again is lost: sessions see to that.
                    await hub.send(["edge"], (b"kept meanwhile",))
                    frames |= {b"".join(frame) for _, frame in await link.recv()}
                await push(link, b"here again")
                assert (await hub.recv())[-1] == ("edge", (b"here again",))

    run(scenario)


def test_frames_above_the_brokers_maximum_packet_size_are_split_also_those_for_everyone(tmp_path: Path) -> None:
    payload = os.urandom(100_000)

    async def scenario() -> None:
        with broker.running(tmp_path, "max_packet_size 4000") as there:
            async with ends(there, "edge") as (hub, (link,)):
                await push(link, payload)
                assert await hub.recv() == [("edge", (payload,))]
                assert await hub.send(["edge"], (payload,)) == []
                assert [b"".join(frame) for _, frame in await link.recv()] == [payload]
                await hub.publish((payload,), Audience.ALL)
                assert [b"".join(frame) for _, frame in await link.recv()] == [payload]

    run(scenario)


def test_a_broker_whose_packets_are_too_small_is_refused_with_both_numbers(tmp_path: Path) -> None:
    async def scenario() -> None:
        with (
            broker.running(tmp_path, "max_packet_size 1000") as there,
            pytest.raises(AddressUnusable, match="takes packets of 1000 bytes, fedmq needs 1536"),
        ):
            await MqttHub.open(there.address, "toy", Limits(), RNG, Login())

    run(scenario)


def test_a_broker_that_is_not_there_or_lets_nobody_in_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "none").write_text("")

    async def scenario() -> None:
        port = broker.free_port()
        with pytest.raises(AddressUnusable, match=rf"mqtt://127.0.0.1:{port} cannot be reached .*Connection refused"):
            await MqttHub.open(f"mqtt://127.0.0.1:{port}", "toy", Limits(), RNG, Login())
        with broker.running(tmp_path, f"allow_anonymous false\npassword_file {tmp_path / 'none'}") as there:
            with pytest.raises(AddressUnusable, match="does not let nobody in particular in .*Not authorized"):
                await MqttHub.open(there.address, "toy", Limits(), RNG, Login())
            link = node(there, login=Login("edge", None))
            with pytest.raises(AddressUnusable, match="does not let user 'edge' in"):
                await link.recv()
            await link.close()

    run(scenario)


def test_an_address_a_name_or_a_file_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        for address in ("mqtt:/nowhere", "mqtt://host:port", "mqtt://user@host", "mqtt://host/path"):
            with pytest.raises(AddressUnusable, match="looks like mqtt://127.0.0.1:1883"):
                MqttLink.connect(address, "toy", "edge", Limits(), RNG, Login())
        with pytest.raises(ConfigInvalid, match="the password file .* cannot be read"):
            MqttLink.connect("mqtt://localhost", "toy", "e", Limits(), RNG, Login("e", tmp_path / "missing"))
        with pytest.raises(ConfigInvalid, match="certificates or keys cannot be read"):
            MqttLink.connect("mqtts://localhost", "toy", "e", Limits(), RNG, Login(ca=tmp_path / "missing"))

    run(scenario)
    for name in ("", "a/b", "a+", "#"):
        with pytest.raises(ConfigInvalid, match="is a level of its topics"):
            Topics(name)


def test_what_is_no_piece_of_a_frame_comes_up_under_its_senders_name_and_the_link_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        with broker.running(tmp_path) as there:
            async with ends(there, "edge") as (hub, (link,)), aiomqtt.Client("127.0.0.1", there.port) as bad:
                await bad.publish(Topics("toy").up("bad"), b"rubbish", qos=1)
                assert await hub.recv() == [("bad", (b"rubbish",))]
                await push(link, b"fine")
                assert await hub.recv() == [("edge", (b"fine",))]

    run(scenario)


def test_the_will_of_a_process_does_not_cut_off_the_one_that_took_its_place(tmp_path: Path) -> None:
    async def scenario() -> None:
        with broker.running(tmp_path) as there:
            async with ends(there, "edge") as (hub, _), ghost(there, "edge") as process:
                assert await hub.recv() == [("edge", (b"boo",))]
                second = node(there, "edge")
                await push(second, b"me now")
                assert await hub.recv() == [("edge", (b"me now",))]
                process.kill()
                async with ghost(there, "other") as other:
                    assert await hub.recv() == [("other", (b"boo",))]
                    other.kill()
                    # Wills are published in the order of the deaths, and the first was not worth a word.
                    assert await hub.recv() == [("other", GONE)]
                assert await hub.send(["edge"], (b"welcome",)) == []
                assert await second.recv() == [("aggregator", (b"welcome",))]
                await second.close()

    run(scenario)


def test_over_tls_the_brokers_certificate_must_descend_from_the_authority_that_was_named(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "broker.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    files = f"certfile {tmp_path}/broker.pem\nkeyfile {tmp_path}/broker.pem"

    async def scenario() -> None:
        with broker.running(tmp_path, files) as there:
            address = there.address.replace("mqtt://", "mqtts://")
            hub = await MqttHub.open(address, "toy", Limits(), RNG, Login(ca=tmp_path / "ca.pem"))
            link = MqttLink.connect(address, "toy", "edge", Limits(), RNG, Login(ca=tmp_path / "ca.pem"))
            payload = os.urandom(1_000_000)
            await push(link, payload)
            assert await hub.recv() == [("edge", (payload,))]
            assert await hub.send(["edge"], (payload,)) == []
            assert [b"".join(frame) for _, frame in await link.recv()] == [payload]
            await link.close()
            await hub.close()
            with pytest.raises(AddressUnusable, match="shows a certificate that is not trusted"):
                await MqttHub.open(address, "toy", Limits(), RNG, Login(ca=tmp_path / "other.pem"))
            stranger = MqttLink.connect(address, "toy", "edge", Limits(), RNG, Login(ca=tmp_path / "other.pem"))
            with pytest.raises(AddressUnusable, match="shows a certificate that is not trusted"):
                await stranger.recv()
            await stranger.close()

    run(scenario)


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """An authority, and the broker's certificate of it."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    made.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "broker.pem")
    return made


def certified(folder: Path, authority: trustme.CA, name: str) -> Login:
    """One who has a certificate of this authority, and trusts brokers that descend from the one in the folder."""
    issued = authority.issue_cert(name)
    issued.cert_chain_pems[0].write_to_path(folder / f"{name}.crt")
    issued.private_key_pem.write_to_path(folder / f"{name}.key")
    return Login(ca=folder / "ca.pem", cert=folder / f"{name}.crt", cert_key=folder / f"{name}.key")


def private(folder: Path, *more: str) -> str:
    return "\n".join((f"certfile {folder}/broker.pem", f"keyfile {folder}/broker.pem", *more))


def test_a_broker_that_wants_certificates_lets_in_who_has_one_of_its_authority(
    tmp_path: Path, authority: trustme.CA
) -> None:
    strange = certified(tmp_path, trustme.CA(), "strange")
    wanted = private(tmp_path, f"cafile {tmp_path}/ca.pem", "require_certificate true")

    async def scenario() -> None:
        with broker.running(tmp_path, wanted) as there:
            address = there.address.replace("mqtt://", "mqtts://")
            hub = await MqttHub.open(address, "toy", Limits(), RNG, certified(tmp_path, authority, "aggregator"))
            link = MqttLink.connect(address, "toy", "edge", Limits(), RNG, certified(tmp_path, authority, "edge"))
            await push(link, b"hello")
            assert await hub.recv() == [("edge", (b"hello",))]
            assert await hub.send(["edge"], (b"welcome",)) == []
            assert await link.recv() == [("aggregator", (b"welcome",))]
            await link.close()
            await hub.close()
            for login in (strange, Login(ca=tmp_path / "ca.pem")):
                with pytest.raises(AddressUnusable, match="wants a certificate of us that it trusts .*ALERT"):
                    await MqttHub.open(address, "toy", Limits(), RNG, login)
                stranger = MqttLink.connect(address, "toy", "edge", Limits(), RNG, login)
                with pytest.raises(AddressUnusable, match="wants a certificate of us that it trusts .*ALERT"):
                    await stranger.recv()
                await stranger.close()

    run(scenario)


def test_a_broker_that_dies_while_hands_are_shaken_is_found_again(tmp_path: Path, authority: trustme.CA) -> None:
    async def scenario() -> None:
        port, greeted = broker.free_port(), asyncio.Event()

        async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)
            writer.close()
            greeted.set()

        dying = await asyncio.start_server(die, "127.0.0.1", port)
        login = Login(ca=tmp_path / "ca.pem")
        link = MqttLink.connect(f"mqtts://127.0.0.1:{port}", "toy", "edge", Limits(), RNG, login)
        await greeted.wait()
        dying.close()
        await dying.wait_closed()
        with broker.running(tmp_path, private(tmp_path), port=port) as there:
            hub = await MqttHub.open(there.address.replace("mqtt://", "mqtts://"), "toy", Limits(), RNG, login)
            await push(link, b"hello")
            assert await hub.recv() == [("edge", (b"hello",))]
            await link.close()
            await hub.close()

    run(scenario)
