"""Killable: a fleet of real processes, and the broker that it may need, each of which can be killed and started again.

The broker is set up as `fedmq broker-config` has it, with passwords and an access list, but that it saves every second
what it knows: when it is killed, it comes back with what it knew a moment ago, which is harder to bear than nothing.
"""

import asyncio
from pathlib import Path
from typing import Self

import numpy as np
from numpy.random import Generator

from fedmq import mosquitto
from fedmq.transports import AGGREGATOR
from fedmq_bench.broker import AS_ROOT, Mosquitto, free_port
from fedmq_bench.served import LABELS, write_bundle
from fedmq_nodes import fleetfile
from fedmq_nodes.fleet import RunningFleet

NODE, BROKER = "node", "broker"
LINKS = {"zmq": "tcp", "mqtt": "mqtt"}
EXAMPLES = 200
FLEET = """
[federation]
federation = "kills"
bundle = "./bundle"
run = "run"
rounds.preset = "quorum"
rounds.deadline_s = 5.0
pulse.heartbeat_s = 0.5
pulse.lost_after_s = 2.0
evaluate_every = 0
link.address = "{scheme}://127.0.0.1:{port}"
link.broker.user = "aggregator"
link.broker.password = "broker/secrets/aggregator.password"
[defaults]
bundle = "./bundle"
state = "state"
examples_per_s = 1000.0
"""
ENTRY = """
[[nodes]]
name = "{name}"
features = "{name}.npz"
password = "broker/secrets/{name}.password"
"""


class Killable:
    """A fleet in a folder of its own, from `async with` to its end.

    kinds     of what can be killed
    """

    def __init__(self, folder: Path, link: str, nodes: int, dim: int, seed: int, rng: Generator) -> None:
        """Write everything that it needs; `dim` is that of the features."""
        self.nodes = [f"node-{number}" for number in range(nodes)]
        self._port, file = free_port(), folder / "fleet.toml"
        write_bundle(folder / "bundle", dim, seed)
        for name in self.nodes:
            _features(folder / f"{name}.npz", rng, dim)
        entries = "".join(ENTRY.format(name=name) for name in self.nodes)
        file.write_text(FLEET.format(scheme=LINKS[link], port=self._port) + entries)
        fleet = fleetfile.read(file, [])
        self.run = fleet.federation.run
        self._fleet = RunningFleet(fleet, file, [])
        self._broker: Mosquitto | None = None
        if link == "mqtt":
            config = mosquitto.write(folder / "broker", fleet.federation, self.nodes, rng.bytes)
            config.write_text(f"{AS_ROOT}{config.read_text()}autosave_interval 1\n")
            self._broker = Mosquitto(folder, config=config, port=self._port)

    @property
    def kinds(self) -> list[str]:
        """What can be killed."""
        return [AGGREGATOR, NODE, *([BROKER] if self._broker else [])]

    async def __aenter__(self) -> Self:
        if self._broker is not None:
            await asyncio.to_thread(self._broker.start)
        try:
            await self._fleet.start_aggregator()
            for node in self._fleet.fleet.nodes:
                await self._fleet.start_node(node.name)
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def kill(self, name: str) -> None:
        """Kill the aggregator, the broker or a node with SIGKILL, and wait until it is gone."""
        if name == AGGREGATOR:
            await self._fleet.kill_aggregator()
        elif name == BROKER:
            assert self._broker is not None
            await asyncio.to_thread(self._broker.stop)
        else:
            self._fleet.kill_node(name)
            await self._fleet.nodes[name].wait()

    async def restart(self, name: str) -> None:
        """Start again who was killed; return when the aggregator or the broker listens, at once for a node."""
        if name == AGGREGATOR:
            await self._fleet.start_aggregator()
        elif name == BROKER:
            assert self._broker is not None
            await asyncio.to_thread(self._broker.start)
        else:
            await self._fleet.start_node(name)

    async def finish(self, last: int) -> None:
        """Have the federation end with this version, by another SIGKILL of the aggregator; wait for everyone's end.

        raises     RuntimeError if somebody fails
        """
        await self._fleet.kill_aggregator()
        await self._fleet.start_aggregator([f"stop.versions={last}"])
        code = await self._fleet.wait()
        failed = [f"{one.name} with code {one.code}" for one in self._fleet.ended() if one.code]
        failed += [f"the aggregator with code {code}"] if code else []
        if failed:
            raise RuntimeError(f"ended: {', '.join(failed)}; {self.last_words()}")

    def last_words(self) -> str:
        """Return the last line that each process wrote."""
        names = [AGGREGATOR, *self.nodes]
        return "; ".join(f"{name}: {self._fleet.last_words(name)}" for name in names)

    async def _stop(self) -> None:
        await self._fleet.stop()
        if self._broker is not None:
            await asyncio.to_thread(self._broker.stop)


def _features(path: Path, rng: Generator, dim: int) -> None:
    labels = rng.integers(0, len(LABELS), EXAMPLES)
    np.savez(path, features=rng.standard_normal((EXAMPLES, dim), dtype=np.float32), labels=labels, classes=LABELS)
