"""The world in virtual time: real cores and real training, through the weather that a plan has.

Nodes come and go as processes do: one that is killed loses what it was at, and the next one is handed what the disk
has. What is trained is trained when it is done, so that nobody trains for a process that died.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from fedmq.aggregator import Aggregator
from fedmq.codec import Frame
from fedmq.config import Federation
from fedmq.core import Event
from fedmq.effects import Effect, Keep, Train
from fedmq.past import Past
from fedmq.plan import Job
from fedmq.simulate import Perform, Simulation
from fedmq.transports import AGGREGATOR
from fedmq_bench.scenario.ahead import Ahead
from fedmq_bench.scenario.attacks import turned
from fedmq_bench.scenario.data import Dealt
from fedmq_bench.scenario.draws import Draws
from fedmq_bench.scenario.fleet import Member, Phase, Plan
from fedmq_bench.scenario.host import DOWN, UP, Host
from fedmq_bench.scenario.log import RunLog
from fedmq_bench.scenario.timeline import FOREVER_S
from fedmq_bench.scenario.weather import Skewed, Weather
from fedmq_nodes import task as tasks
from fedmq_nodes.greeting import Introduction
from fedmq_nodes.node import Node
from fedmq_nodes.trainer import Trainer

WEATHER = "weather"
PATIENCE_S, PATIENCE = 600.0, 100.0  # without an accepted update, and as many times what a training usually takes


@dataclass(frozen=True)
class End:
    """When a run ended, and whether it had come to what it was to; if not, nothing happened any more."""

    ended_s: float
    finished: bool


class World:
    """One scenario under one policy.

    trains     whether nodes learn, or are only as slow as if they did
    threads    that train ahead of their time, where no state of a node would notice
    """

    def __init__(
        self,
        settings: Federation,
        job: Job,
        plan: Plan,
        dealt: Mapping[str, Dealt],
        log: RunLog,
        seed: int,
        trains: bool,
        threads: int = 1,
    ) -> None:
        self.settings = replace(settings, start_nodes=max(settings.start_nodes, _present(plan)))
        self._draws, self.log = Draws(seed), log
        self._job, self._task = job, tasks.understand(job.task, job.arrays)
        stateless = not self._task.training.moon and self._task.pool is None
        self._ahead = Ahead(threads, single) if trains and stateless and threads > 1 else None
        self._weather, self.simulation = Weather(), Simulation(seed, self._carry, remembers=False)
        self._usual_s = float(np.median([member.usual_s for member in plan.members.values()]))
        past = replace(Past.none(job.params), run="scenario")
        self.aggregator = Aggregator(self.settings, job, past, self._draws.rng("", "invitations"), 0.0)
        self.simulation.add(AGGREGATOR, self.aggregator, self._keep)
        self.simulation.add(WEATHER, self._weather, lambda _effect, _now: ())
        self.hosts: dict[str, Host] = {}
        for name, member in plan.members.items():
            self.hosts[name] = self._host(member, dealt[name], trains)
            self._await_spell(name, 0.0)

    def run(self, updates: int, time_s: float) -> End:
        """Go on until so many updates are accepted, or until then; 0 is no limit."""
        patience_s = PATIENCE_S + PATIENCE * self._usual_s

        def is_over() -> bool:
            stalled = self.simulation.now - self.log.changed_at > patience_s
            return stalled or 0 < updates <= self.log.accepted.total()

        self.simulation.run(time_s or FOREVER_S, is_over)
        has_all = 0 < updates <= self.log.accepted.total()
        return End(self.simulation.now, has_all or 0 < time_s <= self.simulation.now)

    # Machines

    def _host(self, member: Member, dealt: Dealt, trains: bool) -> Host:
        data = dealt.data
        if not trains:
            return Host(member, None, 0)
        if member.attack is not None:
            data = replace(data, train=turned(member.attack, data.train, len(self._task.labels)))
        seed = int(self._draws.rng(member.name, "training").integers(2**31))
        return Host(member, Trainer(self._task, data, seed), len(data.test), self._ahead)

    def _await_spell(self, name: str, now: float) -> None:
        """Start the process, unless it is away now, and await the next time that it is."""
        host = self.hosts[name]
        start, end = next(host.away, (FOREVER_S, FOREVER_S))
        host.dies_at = start
        if start > now:
            self._start(name)
        if start < FOREVER_S:
            self._do(start, lambda: self._end_spell(name, end))

    def _end_spell(self, name: str, end: float) -> None:
        if end == FOREVER_S:
            self._leave(name)
            return
        self._kill(name, end)
        self._do(end, lambda: self._await_spell(name, end))

    def _do(self, at: float, action: Callable[[], None]) -> None:
        self._weather.at(at, action)
        self.simulation.tell(WEATHER, lambda _now: [])  # so that it is asked for its next deadline

    def _start(self, name: str) -> None:
        host, now = self.hosts[name], self.simulation.now
        if host.node is not None or now < host.down_until:
            return
        host.sessions += 1
        job, rng = self._job, self._draws.rng(name, "process", host.sessions)
        who = Introduction(self.settings.federation, name, job.feature_space, job.dim, (job.method,))
        host.node = Node(who, int(rng.integers(1, 2**63)), rng, host.local(now), host.memory)
        skewed = Skewed(host.node, host.member.ahead_s, host.member.drift)
        self.simulation.add(name, skewed, self._perform(name, host, host.node))

    def _kill(self, name: str, until: float) -> None:
        host = self.hosts[name]
        host.down_until = max(host.down_until, until)
        if host.node is not None:
            host.node = None
            self.simulation.remove(name)

    def _drop_out(self, name: str, at: float) -> None:
        """Kill a process then, and start the next one a while later."""
        back_at = at + self.hosts[name].member.group.drop.back_s
        self._do(at, lambda: self._kill(name, back_at))
        self._do(back_at, lambda: self._start(name))

    def _leave(self, name: str) -> None:
        host = self.hosts[name]
        host.dies_at = FOREVER_S  # it stays until it has said goodbye
        if (node := host.node) is not None:
            self.simulation.tell(name, lambda now: node.leave("leaving"))
        self._kill(name, FOREVER_S)

    # Links, and what cores ask for

    def _carry(self, sender: str, receiver: str, frame: Frame, _rng: Generator) -> Iterable[float]:
        now = self.simulation.now
        if sender == AGGREGATOR:
            arrive_at = self.hosts[receiver].carry(DOWN, frame, now).arrive_at
        elif len(frame) == 1:  # an update alone has a section
            arrive_at = self.hosts[sender].carry(UP, frame, now).arrive_at
        else:
            crossing, sent, drops_out = self.hosts[sender].upload(frame, now)
            self.log.sent_bytes += sent
            arrive_at = crossing.arrive_at
            if drops_out:
                self._drop_out(sender, arrive_at[0])
        return [at - now for at in arrive_at]

    def _keep(self, effect: Effect, _now: float) -> Iterable[tuple[float, Event]]:
        if not isinstance(effect, Keep):
            return ()
        for entry in effect.entries:
            self.log.keep(entry)
        return [(0.0, lambda now: self.aggregator.kept(effect.number, now))]

    def _perform(self, name: str, host: Host, node: Node) -> Perform:
        def perform(effect: Effect, now: float) -> Iterable[tuple[float, Event]]:
            if isinstance(effect, Train) and host.member.drops(Phase.BEFORE_TRAINING, host.trainings):
                host.trainings += 1
                self._drop_out(name, now)
                return ()
            return host.perform(node, effect, now)

        return perform


def single() -> None:
    """Have PyTorch use one core in this thread; several of them share the machine."""
    import torch

    torch.set_num_threads(1)


def _present(plan: Plan) -> int:
    """Return how many are there from the beginning: the first round waits for them."""
    return sum(next(member.away(), (FOREVER_S,))[0] > 0 for member in plan.members.values())
