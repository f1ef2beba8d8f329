"""The floor over MQTT: bare aiomqtt and the same broker, QoS 1. Bytes go out once, the broker fans them out, and each
process sends as many back.

As over ZeroMQ (`floor`): nothing is read, nothing is added, nobody is asked who they are, nothing is retained.
"""

import asyncio
import os
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import urlsplit

import aiomqtt

from fedmq_bench.wires import Wire

DOWN, UP = "floor/down", "floor/up"


def hub(pipe: Connection, _number: int, wire: Wire, nodes: int, down_bytes: int, rounds: int, blocks: int) -> None:
    """Say an address; then, each time that all nodes are there, time so many echoes; in the end tell all their seconds.

    tells      the address; then per block (seconds of each echo, CPU seconds of this process in them)
    """

    async def main() -> None:
        payload, blocks_told = os.urandom(down_bytes), []
        async with _client(wire.address) as client:
            await client.subscribe(UP, qos=1)
            pipe.send(wire.address)
            coming = aiter(client.messages)
            for _ in range(blocks):
                for _ in range(nodes):
                    await anext(coming)
                seconds, cpu_s = [], time.process_time()
                for _ in range(rounds):
                    began = time.perf_counter()
                    await client.publish(DOWN, payload, qos=1)
                    for _ in range(nodes):
                        await anext(coming)
                    seconds.append(time.perf_counter() - began)
                blocks_told.append((seconds, time.process_time() - cpu_s))
                await client.publish(DOWN, b"", qos=1)
        pipe.send(blocks_told)

    asyncio.run(main())


class Echo:
    """A node's end: it answers until it is told to stop. In a thread, because its caller's loop stands still for it."""

    def __init__(self, wire: Wire, address: str, up_bytes: int) -> None:
        self._thread, self._runner = ThreadPoolExecutor(1, "echo"), asyncio.Runner()
        self._payload = os.urandom(up_bytes)
        self._client = self._run(self._connect(address))

    def block(self) -> None:
        """Say that we are here, and answer what comes until something empty comes."""
        self._run(self._answer())

    def close(self) -> None:
        """Let go."""
        self._run(self._client.__aexit__(None, None, None))
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._thread.submit(self._runner.run, work).result()

    async def _connect(self, address: str) -> aiomqtt.Client:
        client = _client(address)
        await client.__aenter__()
        await client.subscribe(DOWN, qos=1)
        return client

    async def _answer(self) -> None:
        await self._client.publish(UP, b"here", qos=1)
        async for message in self._client.messages:
            if not message.payload:
                return
            await self._client.publish(UP, self._payload, qos=1)


def _client(address: str) -> aiomqtt.Client:
    place = urlsplit(address)
    # Between blocks nobody reads, and nobody may be taken for dead.
    return aiomqtt.Client(
        str(place.hostname), place.port or 1883, protocol=aiomqtt.ProtocolVersion.V5, keepalive=3600, timeout=600
    )
