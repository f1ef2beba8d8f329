"""The world in virtual time: real cores and real training, through the weather that a plan has.

Nodes come and go as processes do: one that is killed loses what it was at, and the next one is handed what the disk
has. What is trained is trained when it is done, so that nobody trains for a process that died.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

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
from fedmq_bench.scenario.host import DISK_S, DOWN, UP, Host
from fedmq_bench.scenario.log import RunLog
from fedmq_bench.scenario.slots import Learner
from fedmq_bench.scenario.timeline import FOREVER_S
from fedmq_bench.scenario.weather import Skewed, Weather
from fedmq_nodes import task as tasks
from fedmq_nodes.greeting import Introduction
from fedmq_nodes.node import Node
from fedmq_nodes.trainer import Trainer

WEATHER = "weather"


@dataclass(frozen=True)
class End:
    """When a run ended, and whether it had come to what it was to; if not, nothing happened any more."""

    ended_s: float
    finished: bool


class World:
    """One scenario under one policy.

    trains     whether nodes learn, or are only as slow as if they did
    ahead      what trains ahead of time; None is that each training is done when it is due
    disk_s     until what is written is on a disk, at either end
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
        ahead: Ahead | None = None,
        disk_s: float = DISK_S,
    ) -> None:
        self.settings, self._draws, self.log = settings, Draws(seed), log
        self._disk_s, self._ahead = disk_s, ahead
        self._job, self._task = job, tasks.understand(job.task, job.arrays)
        self._weather = Weather()
        self.simulation = Simulation(seed, self._carry, self._missed, remembers=False)
        self._patience_s = plan.patience_s
        past = replace(Past.none(job.params), run="scenario")
        self.aggregator = Aggregator(self.settings, job, past, self._draws.rng("", "invitations"), 0.0)
        self.simulation.add(AGGREGATOR, self.aggregator, self._keep)
        self.simulation.add(WEATHER, self._weather, lambda _effect, _now: ())
        self.hosts: dict[str, Host] = {}
        for name, member in plan.members.items():
            self.hosts[name] = self._host(member, dealt[name], trains)
            self._await_spell(name, 0.0)

    def run(self, time_s: float) -> End:
        """Go on until the log is over, or until then; 0 is no limit."""

        def is_over() -> bool:
            return self.log.is_over or self.simulation.now - self.log.changed_at > self._patience_s

        self.simulation.run(time_s or FOREVER_S, is_over)
        return End(self.simulation.now, self.log.is_over or 0 < time_s <= self.simulation.now)

    # Machines

    def _host(self, member: Member, dealt: Dealt, trains: bool) -> Host:
        data = dealt.data
        if not trains:
            return Host(member, None, 0, disk_s=self._disk_s)
        if member.attack is not None:
            data = replace(data, train=turned(member.attack, data.train, len(self._task.labels)))
        trainer = Trainer(self._task, data, member.training_seed)
        learner = Learner(data.train, member.training_seed)
        plan = None if self._ahead is None else partial(self._ahead.plan, learner)
        return Host(member, trainer, len(data.test), plan, disk_s=self._disk_s)

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
        host.connect(now)
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
            host.closed_at = self.simulation.now + host.half_way_s(UP)
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
        if not self.hosts[receiver if sender == AGGREGATOR else sender].connected(now):
            self._missed(sender, receiver)
            return ()
        if sender == AGGREGATOR:
            arrive_at = self.hosts[receiver].carry(DOWN, frame, now).arrive_at
        elif len(frame) == 1:  # an update alone has a section
            arrive_at = self.hosts[sender].carry(UP, frame, now).arrive_at
        else:
            crossing, sent, drops_out = self.hosts[sender].upload(frame, now)
            self.log.sent_bytes += sent
            arrive_at = crossing.arrive_at
            if not arrive_at:
                self._do(crossing.left_at, lambda: self._missed(sender, AGGREGATOR))
            if drops_out:
                self._drop_out(sender, arrive_at[0])
        return [at - now for at in arrive_at]

    def _missed(self, sender: str, receiver: str) -> None:
        """Tell a sender that there is no connection, as its link does."""
        now = self.simulation.now
        if sender == AGGREGATOR:
            if now >= self.hosts[receiver].closed_at:
                self._do(now, lambda: self._tell_lost(receiver))
        elif (node := self.hosts[sender].node) is not None:
            self._do(now, lambda: self._lose(sender, node))

    def _tell_lost(self, name: str) -> None:
        self.simulation.tell(AGGREGATOR, lambda now: self.aggregator.lost(name, now))

    def _lose(self, name: str, node: Node) -> None:
        host = self.hosts[name]
        if host.node is node:
            self.simulation.tell(name, lambda now: node.lost(AGGREGATOR, host.local(now)))

    def _keep(self, effect: Effect, _now: float) -> Iterable[tuple[float, Event]]:
        if not isinstance(effect, Keep):
            return ()
        for entry in effect.entries:
            self.log.keep(entry)
        return [(self._disk_s, lambda now: self.aggregator.kept(effect.number, now))]

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
