"""MQTT 5: both ends are clients of a broker, which keeps what is under way and fans versions out.

    fedmq/<federation>/up/<node>       node -> aggregator
    fedmq/<federation>/down/<node>     aggregator -> one node
    fedmq/<federation>/model           aggregator -> all nodes; retained if it is for those who come later, too
    fedmq/<federation>/keyframe        aggregator -> nodes that come later, and leave when they have it; retained
    fedmq/<federation>/status/<node>   "here" or "gone", and 8 bytes that a process draws; gone is its last will

Every message is a piece of a frame (`pieces`), at QoS 1. A node's name is the last level of its topics, which the
broker's access list guards, never something that a frame says. No feature of one vendor is used.

The broker is trusted with nothing but time: what it loses, repeats or keeps for too long, sessions and the ledger make
good. Every process begins a session of its own with the broker, under an identifier that nobody can guess: under one
that is known, a second process would throw the first out, and be thrown out by it, without either knowing why.
"""

from collections import OrderedDict
from collections.abc import Sequence

from numpy.random import Generator

from fedmq.codec import Frame, Limits
from fedmq.effects import Audience
from fedmq.errors import AddressUnusable, ConfigInvalid
from fedmq.login import Login
from fedmq.transports import AGGREGATOR, GONE
from fedmq.transports.broker import Broker, Terms
from fedmq.transports.line import FORGOTTEN, PIECE_BYTES, Letter, Line
from fedmq.transports.pieces import Assembly
from fedmq.transports.tally import Tally

QUEUED_UP, QUEUED_DOWN, QUEUED_MODEL = 4, 16, 4
RECEIVE_UP, RECEIVE_DOWN = 16, 16
OPEN_BYTES = 256 * 2**20
PEERS = 65_536
HERE, GONE_WORD = b"here", b"gone"
LASTING_S = 86_400  # for a day nodes find a version without asking; later they ask


class Topics:
    """The topics of one federation."""

    def __init__(self, federation: str) -> None:
        if not federation or set(federation) & set("+#/\0"):
            raise ConfigInvalid(
                f"over MQTT the federation's name is a level of its topics, and {federation!r} cannot be one: "
                "it must not be empty, nor contain any of + # /"
            )
        self.root = f"fedmq/{federation}"
        self.model = f"{self.root}/model"
        self.keyframe = f"{self.root}/keyframe"

    def up(self, node: str) -> str:
        """Return where a node speaks."""
        return f"{self.root}/up/{node}"

    def down(self, node: str) -> str:
        """Return where it is spoken to."""
        return f"{self.root}/down/{node}"

    def status(self, node: str) -> str:
        """Return where the broker says that it is gone."""
        return f"{self.root}/status/{node}"


class MqttHub:
    """The aggregator's end."""

    def __init__(self, broker: Broker, federation: str, limits: Limits, rng: Generator) -> None:
        self.address = broker.address
        self._topics = Topics(federation)
        # As over ZeroMQ, a frame that is only just too large still reaches us, and is refused with its reason.
        assembly = Assembly(2 * limits.frame_bytes, max(OPEN_BYTES, 2 * limits.frame_bytes))
        terms = Terms(f"fedmq-{rng.bytes(8).hex()}", receive=RECEIVE_UP, packet_bytes=2 * PIECE_BYTES)
        listens = (self._topics.up("+"), self._topics.status("+"))
        self._line = Line(broker, terms, listens, QUEUED_DOWN, assembly, rng)
        self._peers: OrderedDict[str, bytes] = OrderedDict()  # by name, what their process drew, if that is known

    @classmethod
    async def open(cls, address: str, federation: str, limits: Limits, rng: Generator, login: Login) -> "MqttHub":
        """Connect to the broker at an address such as mqtt://127.0.0.1:1883.

        raises     AddressUnusable if that does not succeed
        """
        hub = cls(Broker(address, login), federation, limits, rng)
        try:
            await hub._line.opened()
        except AddressUnusable:
            await hub.close()
            raise
        return hub

    async def recv(self) -> list[tuple[str, Frame]]:
        """Wait for frames from any node; that one is gone comes as GONE."""
        frames: list[tuple[str, Frame]] = []
        while not frames:
            for topic, frame in await self._line.recv():
                if topic == FORGOTTEN:
                    continue  # the nodes learn of it as well, and greet
                *_, kind, peer = topic.split("/")
                if kind == "up":
                    self._note(peer, self._peers.get(peer, b""))
                    frames.append((peer, frame))
                elif self._is_gone(peer, b"".join(frame)):
                    del self._peers[peer]
                    frames.append((peer, GONE))
        return frames

    def _is_gone(self, peer: str, status: bytes) -> bool:
        """Take note of a status. The will of a process is void where its successor is here already."""
        word, process = status[:4], status[4:]
        if word == HERE:
            self._note(peer, process)
        return word == GONE_WORD and self._peers.get(peer) in (process, b"")

    def _note(self, peer: str, process: bytes) -> None:
        self._peers[peer] = process
        self._peers.move_to_end(peer)
        if len(self._peers) > PEERS:
            self._peers.popitem(last=False)

    async def send(self, peers: Sequence[str], frame: Frame) -> list[str]:
        """Hand the frame over for each peer; one that is gone, or that too much waits for, is returned."""
        here = [peer for peer in peers if peer in self._peers]
        self._line.counting.gone += len(peers) - len(here)
        taken = {peer for peer in here if self._line.offer(Letter(self._topics.down(peer), frame))}
        return [peer for peer in peers if peer not in taken]

    async def publish(self, frame: Frame, audience: Audience) -> None:
        """Hand it over once, and what lasts again to a broker that has lost it; the broker fans it out."""
        topic = self._topics.keyframe if audience is Audience.LATER else self._topics.model
        letter = Letter(topic, frame, None if audience is Audience.PRESENT else LASTING_S)
        if letter.lasting_s is not None:
            self._line.renew = [letter]
        self._line.offer(letter)

    async def close(self) -> None:
        """Give what is queued two seconds to leave."""
        await self._line.close()

    def tally(self) -> Tally:
        """Say what it has carried; a version that the broker fans out was sent once."""
        return self._line.tally()


class MqttLink:
    """A node's end."""

    def __init__(self, broker: Broker, federation: str, name: str, limits: Limits, rng: Generator) -> None:
        topics = Topics(federation)
        self._up, self._keyframe = topics.up(name), topics.keyframe
        size, process = 2 * limits.frame_bytes, rng.bytes(8)
        will = (topics.status(name), GONE_WORD + process)
        terms = Terms(f"fedmq-{rng.bytes(8).hex()}", receive=RECEIVE_DOWN, packet_bytes=size, will=will)
        listens = (topics.down(name), topics.model, topics.keyframe)
        self._line = Line(broker, terms, listens, QUEUED_UP, Assembly(size, 2 * size), rng)
        self._line.renew = [Letter(topics.status(name), (HERE + process,))]

    @classmethod
    def connect(
        cls, address: str, federation: str, name: str, limits: Limits, rng: Generator, login: Login
    ) -> "MqttLink":
        """Connect, now or as soon as there is a broker, and again whenever the connection breaks.

        raises     AddressUnusable if the address makes no sense, ConfigInvalid if what the login names does not
        """
        return cls(Broker(address, login), federation, name, limits, rng)

    async def recv(self) -> list[tuple[str, Frame]]:
        """Wait for frames from the aggregator; GONE where the broker has lost what was under way.

        raises     AddressUnusable if the broker refuses us, or is not to be trusted
        """
        heard = await self._line.recv()
        if any(topic == self._keyframe for topic, _ in heard):
            await self._line.leave(self._keyframe)
        return [(AGGREGATOR, GONE if topic == FORGOTTEN else frame) for topic, frame in heard]

    async def send(self, peers: Sequence[str], frame: Frame) -> list[str]:
        """Hand the frame over, if there is a connection with room."""
        if not self._line.connected:
            self._line.counting.gone += 1
            return list(peers)
        return [] if self._line.offer(Letter(self._up, frame)) else list(peers)

    async def close(self) -> None:
        """Give what is queued two seconds to leave."""
        await self._line.close()

    def tally(self) -> Tally:
        """Say what it has carried, and what the broker has not acknowledged."""
        return self._line.tally()
