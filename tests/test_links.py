"""Which link an address means, and what may not go over it in the clear."""

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from fedmq import keys
from fedmq.codec import Frame
from fedmq.config import Endpoint, Federation, is_loopback
from fedmq.effects import Audience
from fedmq.enrolment import revoke
from fedmq.errors import ConfigInvalid
from fedmq.login import Login
from fedmq.transports.memory import MemoryHub
from fedmq.transports.mqtt import MqttHub, MqttLink
from fedmq.transports.sealed import SealedPublisher
from fedmq_nodes import links
from fedmq_nodes.options import NodeOptions

RNG = np.random.default_rng(0)
FAR = "mqtt://192.0.2.1:1883"


def options(**more: object) -> NodeOptions:
    return NodeOptions("edge", features=Path("edge.npz"), **more)  # type: ignore[arg-type]


def test_a_plain_broker_off_this_machine_is_refused_at_both_ends() -> None:
    with pytest.raises(ConfigInvalid, match=f"{FAR} is not on this machine: use mqtts://"):
        links.link(FAR, "toy", options(), insecure=False, rng=RNG)
    with pytest.raises(ConfigInvalid, match=f"{FAR} is not on this machine: use mqtts://"):
        asyncio.run(links.hub(Federation("toy", link=Endpoint(FAR)), RNG))


def test_insecure_lets_it_through_and_says_so_loudly() -> None:
    async def main() -> None:
        link = links.link(FAR, "toy", options(), insecure=True, rng=RNG)
        assert isinstance(link, MqttLink)
        await link.close()

    with capture_logs() as logs:
        asyncio.run(main())
    (said,) = logs
    assert (said["log_level"], said["event"], said["address"]) == ("warning", "link.unprotected", FAR)
    assert "INSECURE" in said["text"]


def test_a_broker_may_serve_many_so_the_federation_must_be_named() -> None:
    with pytest.raises(ConfigInvalid, match="--federation"):
        links.link("mqtt://127.0.0.1:1883", "", options(), insecure=False, rng=RNG)


def test_a_nodes_user_is_its_name_where_it_has_a_password() -> None:
    near = "mqtt://127.0.0.1:1883"
    assert options().login(near) == Login()
    assert options(password=Path("p")).login(near) == Login("edge", Path("p"))
    assert options(password=Path("p"), user="other").login(near) == Login("other", Path("p"))


@pytest.mark.parametrize(
    ("address", "near"),
    [("mqtt://localhost", True), ("mqtt://127.0.0.1:1883", True), ("mqtts://[::1]:8883", True), ("mqtt://host", False)],
)
def test_loopback_is_known_with_and_without_a_port(address: str, near: bool) -> None:
    assert is_loopback(address) is near


class Carrier(MemoryHub):
    """A broker without nodes."""

    address = "mqtt://127.0.0.1:1883"

    @classmethod
    async def open(cls, *_: object) -> "Carrier":
        return cls()

    async def publish(self, frame: Frame, audience: Audience) -> None:
        """Hand the frame to nobody."""


def test_who_may_read_a_version_is_looked_up_again_only_when_somebody_was_enrolled_or_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("aggregator", "a", "b"):
        keys.new(tmp_path, name)
    folder = tmp_path / "enrolled"
    for name in "ab":
        keys.enrol(tmp_path / f"{name}.key", folder)
    os.utime(folder, (1_000.0, 1_000.0))
    found: list[int] = []
    look = keys.Enrolled.look

    def looked(enrolled: keys.Enrolled) -> frozenset[str]:
        admitted = look(enrolled)
        found.append(len(admitted))
        return admitted

    monkeypatch.setattr(keys.Enrolled, "look", looked)
    monkeypatch.setattr(keys, "LOOK_S", float("inf"))
    monkeypatch.setattr(MqttHub, "open", Carrier.open)
    endpoint = Endpoint(Carrier.address, "on", tmp_path / "aggregator.key_secret", folder)

    async def main() -> None:
        made = await links.hub(Federation("toy", link=endpoint), RNG)
        assert isinstance(made.link, SealedPublisher)
        for _ in range(5):
            await made.link.publish((b"version",), Audience.ALL)
        revoke("a", folder)
        for _ in range(5):
            await made.link.publish((b"version",), Audience.ALL)
        await made.link.close()

    asyncio.run(main())
    assert found == [2, 1]
