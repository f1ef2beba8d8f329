"""The ladder: codecs from many bytes to few, each measured as a system and as something to learn with.

A rung is a codec, or two of them, for updates and for versions. A codec is learned with in one direction while the
other is fp32, so that what it loses is its own doing; a pair is learned with in both. Bytes are always those of a
federation that uses the rung in both directions.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmq.compress import codec
from fedmq.errors import ConfigInvalid
from fedmq.plan import Codecs
from fedmq_bench import cables, machine, relay
from fedmq_bench.comm import datasets, layers
from fedmq_bench.comm.curves import BOTH, DOWN, UP, Runs
from fedmq_bench.comm.learned import Curve, learn
from fedmq_bench.comm.squeezed import Sample, Squeezed
from fedmq_bench.harness import Say
from fedmq_bench.untrained import schema

EXACT = "fp32"
DIRECTIONS = (UP, DOWN, BOTH)
SYSTEM, LEARNING = "system", "learning"
PARTS = (SYSTEM, LEARNING)
SQUEEZES = 5
DIM = 512  # of a feature, where nothing is learned that would say so


@dataclass(frozen=True)
class Rung:
    """What one row is about: `codec` names it, up and down are what is learned with, system what bytes are of."""

    codec: str
    direction: str
    up: str
    down: str

    @property
    def system(self) -> tuple[str, str]:
        """The codecs of the federation whose bytes are counted."""
        return (self.up, self.down) if self.direction == BOTH else (self.codec, self.codec)


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    data             a file of features, or the embedded dataset
    rounds           of learning
    system_rounds    of each real federation, counted
    mbps, rtt_ms     of a slow link; None is no such measurement
    """

    rungs: Sequence[Rung]
    parts: Sequence[str] = PARTS
    data: Path | None = None
    nodes: int = 20
    rounds: int = 20
    seeds: int = 3
    system_rounds: int = 5
    mbps: float | None = None
    rtt_ms: float = 0.0


def rungs(names: str, directions: str) -> list[Rung]:
    """Return the rungs of codecs and pairs such as int8,eden1/eden2, in each of these directions; a pair is in both.

    raises     ConfigInvalid with what there is
    """
    wanted = [word.strip() for word in directions.split(",")]
    if unknown := [word for word in wanted if word not in DIRECTIONS]:
        raise ConfigInvalid(f"--direction is {unknown[0]!r}; it is some of {', '.join(DIRECTIONS)}")
    found = []
    for name in (word.strip() for word in names.split(",")):
        up, slash, down = name.partition("/")
        up, down = codec(up).name, codec(down if slash else up).name
        if slash:
            found.append(Rung(name, BOTH, up, down))
            continue
        pairs = {UP: (up, EXACT), DOWN: (EXACT, up), BOTH: (up, up)}
        found += [Rung(name, direction, *pairs[direction]) for direction in wanted]
    return found


def measure(plan: Plan, seed: int, say: Say) -> Iterator[dict[str, Any]]:
    """Yield a row per rung."""
    why_not = cables.why_not() if SYSTEM in plan.parts else "nothing is sent"
    if SYSTEM in plan.parts and why_not:
        say(f"bytes on the wire are not counted: {why_not}")
    with ExitStack() as held:
        held.enter_context(machine.one_thread())
        ladder = _Ladder(plan, seed, say, None if why_not else held.enter_context(cables.cable()))
        for rung in plan.rungs:
            yield ladder.row(rung)


class _Ladder:
    """What has been measured so far, which rungs share."""

    def __init__(self, plan: Plan, seed: int, say: Say, cable: cables.Cable | None) -> None:
        self._plan, self._seed, self._say, self._cable = plan, seed, say, cable
        self._systems: dict[tuple[str, str, bool], layers.Found] = {}
        self._runs: dict[tuple[str, str], Runs] = {}
        self._squeezed: dict[str, Squeezed] = {}
        self._dataset = datasets.load(plan.data, say) if LEARNING in plan.parts else None
        self._dim = DIM if self._dataset is None else self._dataset.bundle.dim
        self._sample = None if self._dataset is None else Sample(self._dataset, plan.nodes, seed)

    def row(self, rung: Rung) -> dict[str, Any]:
        """Return all that is known of a rung; what was not measured is None."""
        plan = self._plan
        row: dict[str, Any] = {
            "case": "comm",
            "codec": rung.codec,
            "direction": rung.direction,
            "dataset": None if self._dataset is None else self._dataset.name,
            "nodes": plan.nodes,
            "up": rung.up,
            "down": rung.down,
        }
        row |= self._bytes(rung) | self._squeeze(rung) | self._learning(rung)
        if SYSTEM not in plan.parts:
            row["payload_bytes"] = row["learned_payload_bytes"]
        exact = 4 * schema(self._dim).size * (2 if rung.direction == BOTH else 1)
        row["ratio"] = exact / row["payload_bytes"]
        _carry_down(row)
        return row

    def _bytes(self, rung: Rung) -> dict[str, Any]:
        found = self._system(rung, slow=False) if SYSTEM in self._plan.parts else None
        values = _of(found, rung.direction)
        row: dict[str, Any] = {
            f"{'payload' if name == 'goodput' else name}_bytes": value for name, value in values.items()
        }
        row["per_round"] = {name: None if value is None else value * self._plan.nodes for name, value in values.items()}
        row["efficiency"] = values["goodput"] / values["wire"] if values["wire"] and values["goodput"] else None
        row["round_s"] = None if found is None else found.round_s
        row["link_mbps"], row["rtt_ms"], row["link_round_s"], row["link_least_s"] = self._plan.mbps, None, None, None
        if self._plan.mbps is not None:
            slow = self._system(rung, slow=True)
            carried = slow.up.transport + slow.down.transport
            row["rtt_ms"], row["link_round_s"] = self._plan.rtt_ms, slow.round_s
            row["link_least_s"] = 8 * carried / (1e6 * self._plan.mbps) + self._plan.rtt_ms / 1e3
        return row

    def _system(self, rung: Rung, *, slow: bool) -> layers.Found:
        up, down = rung.system
        if (up, down, slow) not in self._systems:
            plan = self._plan
            link = relay.Shape.of(plan.mbps, plan.rtt_ms) if slow and plan.mbps is not None else None
            words = f", {plan.mbps:g} Mbit/s and {plan.rtt_ms:g} ms" if slow else ""
            self._say(f"{plan.nodes} nodes, {up} up, {down} down: {plan.system_rounds} rounds{words}")
            federation = layers.Plan(up, down, plan.nodes, plan.system_rounds, self._dim, link)
            self._systems[up, down, slow] = layers.measure(federation, self._seed, None if slow else self._cable)
        return self._systems[up, down, slow]

    def _squeeze(self, rung: Rung) -> dict[str, Any]:
        keys = ("encode_s", "decode_s", "epoch_s", "nmse", "nmse_theory")
        if self._sample is None or "/" in rung.codec:
            return dict.fromkeys(keys)
        if rung.codec not in self._squeezed:
            self._squeezed[rung.codec] = self._sample.squeeze(rung.codec, SQUEEZES)
        one = self._squeezed[rung.codec]
        return dict(zip(keys, (one.encode_s, one.decode_s, one.epoch_s, one.nmse, one.theory), strict=True))

    def _learning(self, rung: Rung) -> dict[str, Any]:
        keys = ("accuracy", "accuracy_std", "accuracy_lost", "accuracy_lost_std", "zero_shot", "learned_payload_bytes")
        if self._dataset is None:
            return dict.fromkeys((*keys, "rounds", "seeds", "targets", "curve"))
        exact, own = self._learned(EXACT, EXACT), self._learned(rung.up, rung.down)
        return {
            **own.accuracy(exact),
            "learned_payload_bytes": own.payload(rung.direction),
            "rounds": own.rounds,
            "seeds": len(own.curves),
            "targets": own.targets(exact, rung.direction),
            "curve": own.points(rung.direction),
        }

    def _learned(self, up: str, down: str) -> Runs:
        if (up, down) not in self._runs:
            seeds = range(self._seed, self._seed + self._plan.seeds)
            self._runs[up, down] = Runs([self._one(up, down, seed) for seed in seeds], self._plan.nodes)
        return self._runs[up, down]

    def _one(self, up: str, down: str, seed: int) -> Curve:
        assert self._dataset is not None
        began = time.perf_counter()
        plan = self._plan
        curve = learn(self._dataset, Codecs(up, down), plan.nodes, plan.rounds, seed)
        took = time.perf_counter() - began
        self._say(
            f"{up} up, {down} down, seed {seed}: {curve.zero_shot:.1%} to {curve.accuracy[-1]:.1%} "
            f"in {plan.rounds} rounds, {took:.0f} s"
        )
        return curve


def _carry_down(row: dict[str, Any]) -> None:
    """Say what reaching each target took at the lower layers too, at the rate at which the system added to frames."""
    for costs in (row["targets"] or {}).values():
        for name in ("transport", "wire"):
            lower, frames = row[f"{name}_bytes"], row["application_bytes"]
            known = costs["application"] is not None and lower is not None
            costs[name] = costs["application"] * lower / frames if known else None


def _of(found: layers.Found | None, direction: str) -> dict[str, Any]:
    """Return bytes per node and round, by layer."""
    if found is None:
        return dict.fromkeys(layers.LAYERS)
    if direction != BOTH:
        return (found.up if direction == UP else found.down).named()
    pairs = zip(found.up.values, found.down.values, strict=True)
    sums = [None if up is None or down is None else up + down for up, down in pairs]
    return dict(zip(layers.LAYERS, sums, strict=True))
