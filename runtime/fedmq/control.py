"""Control: how `fedmq status` and a live view ask a running aggregator.

A REP socket on loopback, at a port that the system chose. The address stands in the run's folder, in a file that its
owner alone can read, together with a token; a question is the token, the answer the status as JSON. It can ask, never
change.
"""

import asyncio
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio

from fedmq.errors import AddressUnusable

FILE = "control.json"
PATIENCE_S = 5.0


class Control:
    """The aggregator's side."""

    def __init__(self, folder: Path, answer: Callable[[], dict[str, Any]]) -> None:
        self._path, self._answer = folder / FILE, answer
        self._token = secrets.token_hex(16)
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.REP)
        self._socket.bind("tcp://127.0.0.1:*")
        self._task = asyncio.ensure_future(self._serve())
        told = json.dumps({"address": self._socket.get_string(zmq.LAST_ENDPOINT), "token": self._token})
        self._path.unlink(missing_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(told)

    async def close(self) -> None:
        """Stop answering."""
        self._path.unlink(missing_ok=True)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._socket.close(0)
        self._context.term()

    async def _serve(self) -> None:
        while True:
            question = await self._socket.recv()
            known = secrets.compare_digest(question, self._token.encode())
            await self._socket.send(json.dumps(self._answer() if known else {}).encode())


def ask(folder: Path) -> dict[str, Any]:
    """Return the status of the aggregator that runs in this folder.

    raises     AddressUnusable if none does, or it does not answer
    """
    try:
        told = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        raise AddressUnusable(f"no aggregator is running in {folder}; fedmq serve starts one") from None
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
        socket.connect(told["address"])
        socket.send(told["token"].encode())
        try:
            answer: dict[str, Any] = json.loads(socket.recv())
        except zmq.Again:
            raise AddressUnusable(
                f"the aggregator in {folder} has not answered for {PATIENCE_S:.0f} s; it may have been killed"
            ) from None
    return answer
