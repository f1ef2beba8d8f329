"""A node written from docs/wire-format.md alone, with a socket, msgpack and struct: what the page says is enough.

`Foreign` knows nothing of fedmq. It adds 1 to every value that it is sent, which is all the training it knows.
"""

import asyncio
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq
import zmq.asyncio

from fedmq.codec import Limits
from fedmq.ledger import Keeping
from fedmq.plan import Codecs, Pulse, Settings, Stop
from fedmq.record import LEDGER, Record
from fedmq.serve import serve
from fedmq.transports.zmq import ZmqHub
from pair import SPACE, job, params
from test_shells import run

SESSION = 7


class Foreign:
    """A node that joins, trains by adding 1, reports, and leaves when it is told that all is over."""

    def __init__(self, address: str) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(address)
        self._held, self._params, self._seq = -1, b"", 0
        self.verdicts: list[str] = []
        self.left = ""

    async def live(self) -> None:
        """Take part until the end."""
        await self._say(
            "hello", federation="test", name="foreign", feature_space=SPACE, dim=4, methods=["fedclip"], codecs=["fp32"]
        )
        while not self.left:
            await self._take(*self._read(b"".join(await self._socket.recv_multipart())))
        self._socket.close(linger=10_000)
        self._context.term()

    async def _take(self, kind: str, values: dict[str, Any], sections: list[bytes]) -> None:
        if kind == "welcome":
            self._seq = values["seq"]
            assert values["up"] == "fp32"
            assert sum(np.prod(shape, dtype=int) for _, shape in values["schema"]) == 15
            await self._say("ready", examples=10, tests=4)
        elif kind == "model":
            assert values["codec"] == "fp32"
            assert values["since"] == -1
            if values["version"] > self._held:
                self._held, self._params = values["version"], sections[0]
                await self._say("report", version=self._held, examples=4, correct=3)
        elif kind == "task":
            assert self._held >= values["version"]
            self._seq += 1
            await self._say(
                "update",
                seq=self._seq,
                base_version=self._held,
                codec="fp32",
                examples=10,
                payload=np.ones(len(self._params) // 4, "<f4").tobytes(),
            )
        elif kind == "verdict":
            assert values["seq"] == self._seq
            self.verdicts.append(values["code"])
        elif kind == "bye":
            await self._say("bye", reason=values["reason"])
            self.left = values["reason"]
        elif kind != "pong":
            raise AssertionError(f"{kind}: {values}")

    async def _say(self, kind: str, payload: bytes | None = None, **values: Any) -> None:
        sections = [] if payload is None else [payload]
        envelope = msgpack.packb([kind, {"session": SESSION, **values}, [len(section) for section in sections]])
        head = struct.pack("<3sBI", b"fmq", 1, len(envelope)) + envelope
        await self._socket.send_multipart([b"foreign", head, *sections])

    @staticmethod
    def _read(frame: bytes) -> tuple[str, dict[str, Any], list[bytes]]:
        magic, protocol, size = struct.unpack_from("<3sBI", frame)
        assert (magic, protocol) == (b"fmq", 1)
        kind, values, lengths = msgpack.unpackb(frame[8 : 8 + size])
        ends = np.cumsum([8 + size, *lengths])
        assert ends[-1] == len(frame)
        return kind, values, [frame[a:b] for a, b in pairwise(ends)]


def test_a_node_in_another_language_joins_trains_reports_and_leaves(tmp_path: Path) -> None:
    settings = Settings("test", codec=Codecs("fp32", "fp32"), pulse=Pulse(0.5, 60.0), stop=Stop(versions=3))

    async def scenario() -> None:
        hub = ZmqHub.bind("tcp://127.0.0.1:*", Limits())
        foreign = Foreign(hub.address)
        try:
            await asyncio.gather(
                serve(settings, job(params(2.0)), Keeping(), tmp_path / "run", hub, asyncio.Event()), foreign.live()
            )
        finally:
            await hub.close()
        assert foreign.left == "finished"
        assert foreign.verdicts == ["accepted"] * 3

    run(scenario)
    with Record.open(tmp_path / "run" / LEDGER) as record:
        version, learned = record.params()
        assert version == 3
        assert learned.flat.tolist() == [5.0] * 15
        assert [row["correct"] for row in record.reports()] == [3, 3, 3, 3]
