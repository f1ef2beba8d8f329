"""The forecast: what a federation will cost, before anyone starts: bytes, seconds and memory, from its settings.

Messages are made, packed and encoded as they will be, and counted; nothing is sent. What is not known is assumed: that
all nodes are there, equally fast and never late, test what they are asked to, and have a link of their own. With N
nodes, of which P are invited to a round (all, unless `rounds.invite` says otherwise), a version takes in

    updates     U = P, or `rounds.goal` where that is fixed and smaller
    versions    V = N of them go down where every version is evaluated and rounds wait for whom they invite, U otherwise
    per update  an invitation (Task) and a verdict; per version that is evaluated, a report

A node that receives V / N of the versions has missed some, and with a lossy codec downwards is sent those, or the whole
where that is smaller. Over a broker each version is published once, for all nodes. A node that has nothing else to say
pings once per heartbeat, and is answered. Then

    cycle_s     = rtt + training + (a node's bytes down + up) / bandwidth: what one node takes for one update
    round_s     = cycle_s x min(1, U / N) where the goal is fixed, cycle_s otherwise

Layers of bytes are those of `fedmq.framing`, and there is no formula for brokers yet. Memory is that of a process that
has loaded everything, of copies of the params, of one update per node on its way in, and of those that were read and
are not in the ledger yet: as far as `fedmq bench memory` has seen, within a fifth (docs/lab-notes.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fedmq import codec as frames
from fedmq import framing
from fedmq.compress import codec
from fedmq.delta import Arrays, Schema
from fedmq.messages import Code, Message, Model, Ping, Pong, Report, Task, Update, Verdict, Welcome
from fedmq.plan import Job, Settings
from fedmq.stats.forms import FORMS
from fedmq.stats.layout import Layout
from fedmq.versions import EXACT, PROOF_BYTES

DAY_S = 86_400.0
# Numbers as they are on the way: a session and a seed are 63 bits long, counters have passed 127.
SESSION, COUNT, LOSS = 2**62, 300, 0.1
DELTA_STEP = 6e-4  # standard deviation of a value of a delta, about that of FedCLIP's local epoch
NAME_BYTES = 8  # of a node's name, which goes before each of its frames where it is not a key
# What ends a conversation over a link that is too slow for its frames: the node's patience, and that of ZeroMQ.
SILENT_HEARTBEATS, ANSWER_S, BEAT_S = 4, 30.0, 60.0
PROCESS_BYTES = 80_000_000  # of an aggregator that has loaded everything
READ_BYTES = 32 * 2**20  # of updates that are read together, and wait for the ledger
PARAM_COPIES = 12  # of the params, at most at once: versions, the sum, the step, what SQLite writes


@dataclass(frozen=True)
class Link:
    """What each node's link is like, both ways."""

    mbps: float
    rtt_ms: float = 0.0

    def seconds(self, size_bytes: float) -> float:
        """Return how long so many bytes take."""
        return 8 * size_bytes / (1e6 * self.mbps)


@dataclass(frozen=True)
class Assumed:
    """What settings do not say.

    train_s       of one local training
    interval_s    from one round to the next; None is as soon as may be
    link          of each node; None is one on which bytes take no time
    curve         whether ZeroMQ encrypts
    broker        whether the link broadcasts
    """

    train_s: float = 0.0
    interval_s: float | None = None
    link: Link | None = None
    curve: bool = False
    broker: bool = False


@dataclass(frozen=True)
class Bytes:
    """Of one direction, by layer; None where there is no formula."""

    goodput: float
    application: float
    transport: float | None
    wire: float | None


@dataclass(frozen=True)
class Forecast:
    """Of so many nodes.

    updates, versions      per round: how many come up, and how many go down
    up, down               per round, as the aggregator sees it
    node_up, node_down     per round, as a node sees it on average
    join                   once per node, on its way down: the welcome and the first version
    round_s                None where it depends on nothing that is known
    once                   nodes send statistics: the round that is told is the only one
    """

    nodes: int
    updates: int
    versions: int
    up: Bytes
    down: Bytes
    node_up: Bytes
    node_down: Bytes
    join: Bytes
    round_s: float | None
    memory_bytes: int
    warnings: tuple[str, ...]
    once: bool = False

    @property
    def rounds_per_day(self) -> float | None:
        """How many versions there are in a day; None where that is not known, or there is one."""
        return DAY_S / self.round_s if self.round_s and not self.once else None


@dataclass(frozen=True)
class _Kind:
    """A message as it goes out: the payload in it, and the sizes of its parts."""

    payload: int
    parts: tuple[int, ...]

    @property
    def application(self) -> int:
        return sum(self.parts)


Flow = Sequence[tuple[_Kind, float]]  # messages, and how many of each


class Forecaster:
    """One federation's settings and job, for any number of nodes."""

    def __init__(self, settings: Settings, job: Job, assumed: Assumed) -> None:
        self._settings, self._job, self._assumed = settings, job, assumed
        self._schema = job.params.schema

    def of(self, nodes: int) -> Forecast:
        """Return what a federation of so many nodes costs."""
        settings, assumed = self._settings, self._assumed
        updates, versions, missed = self._flow(nodes)
        evaluated = 1 / settings.evaluate_every if settings.evaluate_every else 0.0
        models = self._models(missed)
        round_s = self._round_s(models, evaluated, updates / nodes)
        beats = nodes * round_s / settings.pulse.heartbeat_s if round_s else 0.0
        up = [(self._update, updates), (self._report, versions * evaluated), (self._ping, beats)]
        said = [(self._task, updates), (self._verdict, updates), (self._pong, beats)]
        sent, held = (1, nodes) if assumed.broker else (versions, versions)
        down, taken = ([*said, *((kind, count * times) for kind, count in models)] for times in (sent, held))
        return Forecast(
            nodes=nodes,
            updates=updates,
            versions=versions,
            up=self._bytes(up, said, 1, upwards=True),
            down=self._bytes(down, up, 1, upwards=False),
            node_up=self._bytes(up, taken, nodes, upwards=True),
            node_down=self._bytes(taken, up, nodes, upwards=False),
            join=self._bytes([(self._welcome, 1), (self._whole, 1)], [], 1, upwards=False),
            round_s=round_s,
            memory_bytes=self._memory(nodes),
            warnings=self._warnings(),
            once=settings.one_shot,
        )

    def _flow(self, nodes: int) -> tuple[int, int, float]:
        """Return updates and versions sent per round, and how many versions a node that is sent one is behind."""
        policy = self._settings.rounds
        places = min(nodes, policy.places or nodes)
        if policy.goal:
            updates = min(policy.goal, places)
            return updates, updates, nodes / updates
        versions = nodes if self._settings.evaluate_every == 1 else places
        return places, versions, nodes / versions

    def _models(self, missed: float) -> Flow:
        """Return what a node is sent that is so many versions behind."""
        if codec(self._settings.codec.down).lossless or missed * self._difference.payload >= self._whole.payload:
            return [(self._whole, 1.0)]
        return [(self._difference, missed)]

    def _round_s(self, models: Flow, evaluated: float, share: float) -> float | None:
        """Return how long a round takes in which a node takes part with so many updates on average."""
        assumed, link = self._assumed, self._assumed.link
        cycle_s = assumed.train_s
        if link is not None:
            up: Flow = [(self._update, 1.0), (self._report, evaluated)]
            down: Flow = [*models, (self._task, 1.0), (self._verdict, 1.0)]
            sizes = [self._carried(flow, upwards=flow is up) for flow in (up, down)]
            cycle_s += link.rtt_ms / 1e3 + link.seconds(sum(sizes))
        round_s = cycle_s * share if self._settings.rounds.goal else cycle_s
        return max(round_s, assumed.interval_s or 0.0) or None

    def _bytes(self, flow: Flow, back: Flow, nodes: int, *, upwards: bool) -> Bytes:
        """Return the bytes of messages by layer, shared out over nodes; `back` is what goes the other way."""
        goodput = sum(kind.payload * count for kind, count in flow) / nodes
        application = sum(kind.application * count for kind, count in flow) / nodes
        if self._assumed.broker:
            return Bytes(goodput, application, None, None)
        packets = sum(framing.packets(self._framed(kind, upwards)) * count for kind, count in flow)
        packets += self._carried(back, upwards=not upwards) / framing.BYTES_PER_ACKNOWLEDGEMENT
        transport = self._carried(flow, upwards=upwards)
        return Bytes(goodput, application, transport / nodes, (transport + framing.PACKET_BYTES * packets) / nodes)

    def _carried(self, flow: Flow, *, upwards: bool) -> float:
        return sum(self._framed(kind, upwards) * count for kind, count in flow)

    def _framed(self, kind: _Kind, upwards: bool) -> int:
        """Return the bytes in which the link carries a message; over a broker, no more than the message has."""
        if self._assumed.broker:
            return kind.application
        name = [0 if self._assumed.curve else NAME_BYTES] if upwards else []
        return framing.zmtp([*name, *kind.parts], self._assumed.curve)

    def _memory(self, nodes: int) -> int:
        arriving = nodes * self._update.application
        held = nodes * self._update.payload if self._settings.one_shot else 0
        return PROCESS_BYTES + PARAM_COPIES * 4 * self._schema.size + held + arriving + min(arriving, READ_BYTES)

    def _warnings(self) -> tuple[str, ...]:
        """Return what will not work on this link, with both numbers and what to do."""
        link, pulse, found = self._assumed.link, self._settings.pulse, []
        if link is None:
            return ()
        up_s, down_s = link.seconds(self._update.application), link.seconds(self._whole.application)
        if up_s >= pulse.lost_after_s:
            found.append(
                f"sending an update takes {up_s:.1f} s on this link, and a node that is not heard for "
                f"{pulse.lost_after_s:g} s counts as lost; raise pulse.lost_after_s above {up_s:.0f}, or "
                "choose another codec.up"
            )
        if down_s >= (silent_s := SILENT_HEARTBEATS * pulse.heartbeat_s):
            found.append(
                f"receiving a whole version takes {down_s:.1f} s on this link, and a node that hears nothing for "
                f"{silent_s:g} s greets again; raise pulse.heartbeat_s above {down_s / SILENT_HEARTBEATS:.1f}"
            )
        if up_s >= ANSWER_S:
            found.append(
                f"sending an update takes {up_s:.1f} s on this link, and a node sends it again after {ANSWER_S:g} s; "
                "choose another codec.up"
            )
        if not self._assumed.broker and max(up_s, down_s) >= BEAT_S:
            found.append(
                f"a frame takes {max(up_s, down_s):.1f} s on this link, and ZeroMQ gives a connection up after "
                f"{BEAT_S:g} s in which nothing arrives whole: this link is too slow for these codecs"
            )
        return tuple(found)

    # What is said

    @cached_property
    def _update(self) -> _Kind:
        up = self._settings.codec.up
        return _kind(Update(SESSION, COUNT, COUNT, up, COUNT, COUNT, LOSS, LOSS, _packed(up, self._schema)))

    @cached_property
    def _whole(self) -> _Kind:
        return _kind(Model(COUNT, -1, EXACT.name, b"", EXACT.pack(self._job.params, 0)))

    @cached_property
    def _difference(self) -> _Kind:
        down = self._settings.codec.down
        return _kind(Model(COUNT, COUNT, down, bytes(PROOF_BYTES), _packed(down, self._schema)))

    @cached_property
    def _task(self) -> _Kind:
        return _kind(Task(COUNT))

    @cached_property
    def _verdict(self) -> _Kind:
        return _kind(Verdict(SESSION, COUNT, Code.ACCEPTED, weight=float(COUNT)))

    @cached_property
    def _report(self) -> _Kind:
        return _kind(Report(SESSION, COUNT, COUNT, COUNT, LOSS))

    @cached_property
    def _ping(self) -> _Kind:
        return _kind(Ping(SESSION, COUNT, "training"))

    @cached_property
    def _pong(self) -> _Kind:
        return _kind(Pong(SESSION, COUNT))

    @cached_property
    def _welcome(self) -> _Kind:
        settings, job = self._settings, self._job
        return _kind(
            Welcome(
                session=SESSION,
                version=COUNT,
                seq=0,
                verdict=None,
                heartbeat_s=settings.pulse.heartbeat_s,
                up=settings.codec.up,
                task=job.task,
                schema=self._schema.entries,
                evaluate_every=settings.evaluate_every,
                arrays=job.arrays,
            )
        )


def _kind(message: Message) -> _Kind:
    return _Kind(len(getattr(message, "payload", b"")), tuple(len(part) for part in frames.encode(message)))


def _packed(name: str, schema: Schema) -> bytes | memoryview:
    """Return a payload of values as training gives them, for codecs whose payloads vary; of statistics, its size."""
    if name in FORMS:
        return bytes(FORMS[name].size_bytes(Layout.of(schema)))
    values = np.random.default_rng(0).normal(0.0, DELTA_STEP, schema.size).astype(np.float32)
    return codec(name).pack(Arrays(schema, values), 0)
