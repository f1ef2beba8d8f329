"""Which link an address means, and what may not go over it in the clear."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from fedmq.config import Endpoint, Federation, is_loopback
from fedmq.errors import ConfigInvalid
from fedmq.login import Login
from fedmq.transports.mqtt import MqttLink
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
