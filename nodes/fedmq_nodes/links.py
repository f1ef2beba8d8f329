"""Links: either end of whichever kind an address asks for. What only a broker takes is loaded where there is one."""

import asyncio
from dataclasses import dataclass

from numpy.random import Generator

from fedmq import observe
from fedmq.codec import Limits
from fedmq.config import Endpoint, Federation, is_broker, is_loopback, require_private
from fedmq.door import Admitted
from fedmq.effects import Log
from fedmq.errors import ConfigInvalid
from fedmq.keys import AggregatorKeys, load
from fedmq.transports import Link
from fedmq.transports.zmq import ZmqHub, ZmqLink
from fedmq_nodes.options import NodeOptions


@dataclass(frozen=True)
class Hub:
    """An aggregator's end that is ready for nodes.

    admitted     who may be there; None is whoever the link lets in
    """

    link: Link
    address: str
    admitted: Admitted | None


async def hub(federation: Federation, rng: Generator) -> Hub:
    """Return the aggregator's end. With keys, ZeroMQ is encrypted by CURVE, and what goes through a broker is sealed.

    raises     AddressUnusable, with the reason; ConfigInvalid for a link that others could read
    """
    endpoint = federation.link
    if not is_broker(endpoint.address):
        keys = _keys(endpoint)
        bound = ZmqHub.bind(endpoint.address, federation.limits, keys)
        return Hub(bound, bound.address, keys.enrolled.now if keys else None)
    from nacl.utils import random

    from fedmq.seal.aggregator import AggregatorSeal
    from fedmq.transports.mqtt import MqttHub
    from fedmq.transports.sealed import SealedPublisher

    require_private(endpoint.address, endpoint.broker)
    keys = _keys(endpoint)
    _warn(endpoint.address, endpoint.broker.insecure)
    carrier = await MqttHub.open(endpoint.address, federation.federation, federation.limits, rng, endpoint.broker)
    if keys is None:
        return Hub(carrier, carrier.address, None)
    clock, enrolled = asyncio.get_running_loop().time, keys.enrolled
    seal = AggregatorSeal(keys.own, lambda: enrolled.now(clock()), federation.limits, random)
    return Hub(SealedPublisher(carrier, seal, observe.logger()), carrier.address, enrolled.now)


def link(address: str, federation: str, options: NodeOptions, insecure: bool, rng: Generator) -> Link:
    """Return a node's end, which connects as soon as there is something to connect to.

    raises     AddressUnusable if the address makes no sense; ConfigInvalid for a link that others could read
    """
    if is_broker(address):
        if not federation:
            raise ConfigInvalid(f"{address} is a broker, which may serve many: name the one to join with --federation")
        from nacl.utils import random

        from fedmq.seal.node import NodeSeal
        from fedmq.transports.mqtt import MqttLink
        from fedmq.transports.sealed import SealedLink

        login = options.login(address, insecure)
        _warn(address, insecure)
        carrier = MqttLink.connect(address, federation, options.name, Limits(), rng, login)
        sealing = options.pair()
        return SealedLink(carrier, NodeSeal(sealing, Limits(), random), observe.logger()) if sealing else carrier
    keys = options.keys(address, insecure)
    if keys is None:
        _warn(address, insecure)
    return ZmqLink.connect(address, options.name, Limits(), keys)


def _keys(endpoint: Endpoint) -> AggregatorKeys | None:
    return AggregatorKeys(load(endpoint.key), endpoint.enrolled) if endpoint.secure else None


def _warn(address: str, insecure: bool) -> None:
    if insecure and not is_loopback(address) and not address.startswith("mqtts://"):
        text = "INSECURE: everything on this link, passwords too, can be read and altered by anyone on the way"
        observe.logger()(Log("warning", "link.unprotected", {"address": address, "text": text}))
