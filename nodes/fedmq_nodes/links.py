"""Links: either end of whichever kind an address asks for."""

from numpy.random import Generator

from fedmq import observe
from fedmq.codec import Limits
from fedmq.config import Federation, is_broker, is_loopback, require_private
from fedmq.door import Admitted
from fedmq.effects import Log
from fedmq.errors import ConfigInvalid
from fedmq.keys import AggregatorKeys, load
from fedmq.transports.mqtt import MqttHub, MqttLink
from fedmq.transports.zmq import ZmqHub, ZmqLink
from fedmq_nodes.options import NodeOptions


async def hub(federation: Federation, rng: Generator) -> tuple[ZmqHub | MqttHub, Admitted | None]:
    """Return the aggregator's end, ready for nodes, and who may be there; None is whoever the link lets in.

    raises     AddressUnusable, with the reason; ConfigInvalid for a link that others could read
    """
    endpoint = federation.link
    if is_broker(endpoint.address):
        require_private(endpoint.address, endpoint.broker)
        _warn(endpoint.address, endpoint.broker.insecure)
        opened = MqttHub.open(endpoint.address, federation.federation, federation.limits, rng, endpoint.broker)
        return await opened, None
    keys = AggregatorKeys(load(endpoint.key), endpoint.enrolled) if endpoint.secure else None
    return ZmqHub.bind(endpoint.address, federation.limits, keys), keys.enrolled.now if keys else None


def link(address: str, federation: str, options: NodeOptions, insecure: bool, rng: Generator) -> ZmqLink | MqttLink:
    """Return a node's end, which connects as soon as there is something to connect to.

    raises     AddressUnusable if the address makes no sense; ConfigInvalid for a link that others could read
    """
    if is_broker(address):
        if not federation:
            raise ConfigInvalid(f"{address} is a broker, which may serve many: name the one to join with --federation")
        login = options.login(address, insecure)
        _warn(address, insecure)
        return MqttLink.connect(address, federation, options.name, Limits(), rng, login)
    keys = options.keys(address, insecure)
    if keys is None:
        _warn(address, insecure)
    return ZmqLink.connect(address, options.name, Limits(), keys)


def _warn(address: str, insecure: bool) -> None:
    if insecure and not is_loopback(address) and not address.startswith("mqtts://"):
        text = "INSECURE: everything on this link, passwords too, can be read and altered by anyone on the way"
        observe.logger()(Log("warning", "link.unprotected", {"address": address, "text": text}))
