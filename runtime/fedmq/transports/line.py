"""A line to a broker that is there again after every interruption.

What is handed over is kept until the broker has acknowledged it, and handed over anew on the next connection; what
comes waits until it is taken, and so does its acknowledgement. Both are bounded: messages on their way to us by the
receive maximum, those on their way out per topic, as a queue of ZeroMQ is per peer.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import aiomqtt
from numpy.random import Generator
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from fedmq import framing
from fedmq.codec import Frame, size_bytes
from fedmq.errors import AddressUnusable
from fedmq.transports.broker import NOT_AUTHORISED, Broker, Client, Terms, is_lasting
from fedmq.transports.pieces import HEAD, Assembly, split
from fedmq.transports.tally import Counting, Tally

FORGOTTEN = ""
PIECE_BYTES = 4 * 2**20  # each costs time, and what comes in one is never put together
PIECE_LEAST_BYTES = 1024
HEAD_BYTES = 512  # more than everything in a packet that is neither topic nor payload
IN_FLIGHT = 16
BATCH = 64
FIRST_RETRY_S, LAST_RETRY_S = 0.1, 5.0
LINGER_S = 2.0


@dataclass(frozen=True)
class Letter:
    """A frame for a topic; one with `lasting_s` is retained for so long, and therefore goes in one piece if it can."""

    topic: str
    frame: Frame
    lasting_s: int | None = None


@dataclass(frozen=True)
class _Arrived:
    """A frame that has come, and the message to acknowledge for it."""

    topic: str
    frame: Frame
    client: Client | None = None
    number: int = 0


class Line:
    """A connection, and another one after it.

    connected    whether there is one now, with all subscriptions
    renew        what is handed over again to a broker that has forgotten us
    counting     packets that carry frames, also those that are repeated on the next connection
    """

    def __init__(
        self, broker: Broker, terms: Terms, topics: Sequence[str], queued: int, assembly: Assembly, rng: Generator
    ) -> None:
        self.connected = False
        self.renew: list[Letter] = []
        self.counting = Counting()
        self._broker, self._terms, self._topics, self._queued = broker, terms, list(topics), queued
        self._assembly, self._rng = assembly, rng
        self._number = int(rng.integers(2**63))
        self._letters: dict[int, Letter] = {}
        self._waiting: dict[str, int] = Counter()
        self._unsent: deque[int] = deque()
        self._more, self._empty, self._tried = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._empty.set()
        self._arrived: deque[_Arrived] = deque()
        self._news = asyncio.Event()
        self._client: Client | None = None
        self._problem: aiomqtt.MqttError | None = None
        self._denied: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._stay_connected())
        self._task.add_done_callback(lambda _task: self._news.set())

    async def opened(self) -> None:
        """Wait for the first connection.

        raises     AddressUnusable if it does not come about
        """
        await self._tried.wait()
        if self._problem is not None:
            raise self._broker.sorry(self._problem)
        if not self.connected:
            await self._task

    def offer(self, letter: Letter) -> bool:
        """Take a letter to hand over, now or on the next connection, unless too many wait for its topic."""
        if self._waiting[letter.topic] >= self._queued:
            self.counting.full += 1
            return False
        self._number = (self._number + 1) % 2**64
        self._letters[self._number] = letter
        self._waiting[letter.topic] += 1
        self._unsent.append(self._number)
        self._more.set()
        self._empty.clear()
        return True

    async def recv(self) -> list[tuple[str, Frame]]:
        """Wait for frames, each with its topic; in place of a topic, FORGOTTEN: the broker has lost what we had there.

        raises     AddressUnusable if there will be no connection any more
        """
        while not self._arrived:
            if self._task.done():
                self._task.result()
            self._news.clear()
            await self._news.wait()
        taken = [self._arrived.popleft() for _ in range(min(BATCH, len(self._arrived)))]
        for one in taken:
            if one.client is not None and one.client is self._client:
                one.client.take(one.number)
        return [(one.topic, one.frame) for one in taken]

    def tally(self) -> Tally:
        """Say what it has carried, and how many letters the broker has not acknowledged."""
        return self.counting.tally(len(self._letters), max(self._waiting.values(), default=0))

    async def leave(self, topic: str) -> None:
        """Listen to a topic no longer."""
        self._topics = [other for other in self._topics if other != topic]
        if self._client is not None:
            # If it breaks now, the broker may go on for as long as it keeps our session, which costs bytes alone.
            with suppress(aiomqtt.MqttError):
                await self._client.unsubscribe(topic)

    async def close(self) -> None:
        """Give what waits two seconds to leave."""
        if self.connected:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), LINGER_S)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _stay_connected(self) -> None:
        wait_s, fresh = FIRST_RETRY_S, True
        while True:
            client = self._broker.client(self._terms, fresh, self._hear)
            try:
                async with client:
                    await self._subscribe(client)
                    wait_s, fresh = FIRST_RETRY_S, False
                    self._problem, self._client, self.connected = None, client, True
                    await self._work(client)
            except aiomqtt.MqttError as error:
                self._problem = error
                if is_lasting(error):
                    raise self._broker.sorry(error) from error
            finally:
                self._client, self.connected = None, False
                self._tried.set()
                client.drop()
            await asyncio.sleep(wait_s * float(self._rng.uniform(0.5, 1.5)))
            wait_s = min(2 * wait_s, LAST_RETRY_S)

    async def _subscribe(self, client: Client) -> None:
        # What is retained is wanted once per session: a connection that was interrupted need not bring it again.
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        least = PIECE_LEAST_BYTES + HEAD_BYTES
        if client.packet_bytes < least:
            raise AddressUnusable(
                f"the broker at {self._broker.address} takes packets of {client.packet_bytes} bytes, fedmq needs "
                f"{least}; raise its maximum packet size"
            )
        answers = await client.subscribe([(topic, options) for topic in self._topics])
        for topic, answer in zip(self._topics, answers, strict=True):
            if isinstance(answer, ReasonCode) and answer.is_failure:
                raise AddressUnusable(f"the broker at {self._broker.address} does not let us read {topic}: {answer}")
        if not client.resumed:
            if self._tried.is_set():
                self._put(_Arrived(FORGOTTEN, ()))
            for letter in self.renew:
                self.offer(letter)

    async def _work(self, client: Client) -> None:
        """Read and write until the connection breaks, which raises."""
        self._unsent, self._denied = deque(self._letters), asyncio.get_running_loop().create_future()
        self._tried.set()
        work = [asyncio.ensure_future(client.broken()), asyncio.ensure_future(self._write(client)), self._denied]
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in work:
                one.cancel()
            ended = await asyncio.gather(*work, return_exceptions=True)
        for problem in ended:
            if isinstance(problem, Exception):
                raise problem

    def _hear(self, client: Client, topic: str, payload: bytes, number: int) -> None:
        """Take a message. That which completes a frame is acknowledged when the frame is taken, the others at once."""
        self.counting.received_bytes += framing.publish(len(topic.encode()), len(payload))
        frame = self._assembly.add(topic, payload)
        if frame is None:
            client.take(number)
        else:
            self._put(_Arrived(topic, frame, client, number))

    def _put(self, arrived: "_Arrived") -> None:
        self._arrived.append(arrived)
        self._news.set()

    async def _write(self, client: Client) -> None:
        window = asyncio.Semaphore(min(client.receive_most, IN_FLIGHT))
        while True:
            while not self._unsent:
                self._more.clear()
                await self._more.wait()
            number = self._unsent.popleft()
            letter, answers = self._letters[number], []
            topic = len(letter.topic.encode())
            most = client.packet_bytes - topic - HEAD_BYTES
            whole = size_bytes(letter.frame) + HEAD.size <= most
            lasting_s = letter.lasting_s if whole else None  # only one message per topic is retained
            for piece in split(letter.frame, number, most if lasting_s else min(most, PIECE_BYTES)):
                await window.acquire()
                answers.append(client.post(letter.topic, piece, lasting_s))
                self.counting.sent_bytes += framing.publish(topic, len(piece), lasting_s is not None)
                answers[-1].add_done_callback(lambda _answer: window.release())
            asyncio.gather(*answers).add_done_callback(partial(self._delivered, number))

    def _delivered(self, number: int, answers: asyncio.Future[list[ReasonCode]]) -> None:
        """Forget a letter that the broker has. One that it does not let us send shows that we are not who we claim."""
        if answers.cancelled() or (letter := self._letters.pop(number, None)) is None:
            return
        self._waiting[letter.topic] -= 1
        if not self._waiting[letter.topic]:
            del self._waiting[letter.topic]
        if not self._letters:
            self._empty.set()
        if any(answer.value == NOT_AUTHORISED for answer in answers.result()) and not self._denied.done():
            where = self._broker.address
            self._denied.set_exception(
                AddressUnusable(f"the broker at {where} does not let us write to {letter.topic}; is the name right?")
            )
