"""Sealed links: a whole federation over a carrier that is not trusted, in one process."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zmq
from nacl.utils import random

from fedmq.codec import Frame, Limits
from fedmq.effects import Log
from fedmq.keys import KeyPair, NodeKeys
from fedmq.ledger import Keeping
from fedmq.record import LEDGER, Record
from fedmq.seal.aggregator import AggregatorSeal
from fedmq.seal.node import NodeSeal
from fedmq.serve import serve
from fedmq.summary import summarise
from fedmq.transports import Link
from fedmq.transports.memory import MemoryHub, MemoryLink
from fedmq.transports.sealed import SealedHub, SealedLink
from test_shells import SETTINGS, run, shell, until
from toy import Toy, bundle, job

OWN = KeyPair(*zmq.curve_keypair())
PAIRS = {name: KeyPair(*zmq.curve_keypair()) for name in "ab"}
KEYS = {name: pair.public.decode() for name, pair in PAIRS.items()}


class Broker(MemoryHub):
    """A carrier that looks at everything, repeats everything, and alters some of it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bytes] = []
        self.rng = np.random.default_rng(7)

    def take(self, link: MemoryLink, frame: Frame) -> bool:
        return all(super(Broker, self).take(link, copy) for copy in self.copies(frame))

    async def send(self, peers: Sequence[str], frame: Frame) -> list[str]:
        failed: set[str] = set()
        for copy in self.copies(frame):
            failed.update(await super().send(peers, copy))
        return list(failed)

    def copies(self, frame: Frame) -> list[Frame]:
        (data,) = frame
        self.seen.append(bytes(data))
        altered = bytearray(data)
        altered[int(self.rng.integers(len(altered)))] ^= 1 << int(self.rng.integers(8))
        old = self.seen[int(self.rng.integers(len(self.seen)))]
        return [(bytes(altered),), frame, frame, (old,)]


def hub(link: Link, admitted: frozenset[str], logs: list[Log]) -> SealedHub:
    return SealedHub(link, AggregatorSeal(OWN, lambda: admitted, Limits(), random), logs.append)


def node(link: Link, name: str, logs: list[Log]) -> SealedLink:
    return SealedLink(link, NodeSeal(NodeKeys(PAIRS[name], OWN.public), Limits(), random), logs.append)


def test_a_federation_runs_over_a_carrier_that_repeats_and_alters_and_learns_nothing(tmp_path: Path) -> None:
    found, broker, logs = bundle(tmp_path / "bundle"), Broker(), list[Log]()

    async def scenario() -> None:
        never = asyncio.Event()
        sealed = hub(broker, frozenset(KEYS.values()), logs)
        shells = {name: shell(found, name, Toy(80, seed)) for seed, name in enumerate("ab")}
        done = await asyncio.gather(
            serve(SETTINGS, job(found), Keeping(), tmp_path / "run", sealed, never),
            *(one.run(node(broker.connect(f"topic-{name}"), name, logs), never) for name, one in shells.items()),
        )
        assert [one.reason for one in done] == ["finished"] * 3

    run(scenario)
    summary = summarise(Record.open(tmp_path / "run" / LEDGER))
    assert summary["versions"] == 4
    assert {row["node"] for row in Record.open(tmp_path / "run" / LEDGER).nodes()} == set(KEYS.values())
    assert Record.open(tmp_path / "run" / LEDGER).versions()[-1]["folded"] == summary["updates"]["accepted"] >= 4
    assert {log.event for log in logs} == {"frame.refused"}
    assert {"replayed", "forged"} <= {log.fields["reason"] for log in logs}
    assert not any(b"fedclip" in data or b"fmq" in data[4:] for data in broker.seen)


def test_frames_for_several_peers_are_sealed_once_and_who_is_not_there_is_named() -> None:
    async def scenario() -> None:
        inner, logs = MemoryHub(), list[Log]()
        sealed = hub(inner, frozenset(KEYS.values()), logs)
        links = {name: node(inner.connect(name), name, logs) for name in "ab"}
        heard: list[tuple[str, bytes]] = []
        hearing = asyncio.ensure_future(listen(sealed, heard))
        told: dict[str, list[tuple[str, bytes]]] = {name: [] for name in "ab"}
        listening = [asyncio.ensure_future(listen(link, told[name])) for name, link in links.items()]
        for link in links.values():
            assert await link.send(["aggregator"], (b"hello",)) == []
        await until(lambda: len(heard) == 2)
        assert {peer for peer, _ in heard} == set(KEYS.values())
        assert await sealed.send([*KEYS.values(), "nobody"], (b"news",)) == ["nobody"]
        await until(lambda: all(told.values()))
        assert told == {name: [("aggregator", b"news")] for name in "ab"}
        await links["a"].close()
        assert await sealed.send(list(KEYS.values()), (b"more",)) == [KEYS["a"]]
        for task in (hearing, *listening):
            task.cancel()
        await asyncio.gather(hearing, *listening, return_exceptions=True)
        await sealed.close()

    run(scenario)


async def listen(link: Link, into: list[tuple[str, bytes]]) -> None:
    while True:
        into += [(peer, b"".join(frame)) for peer, frame in await link.recv()]
