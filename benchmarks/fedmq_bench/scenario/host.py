"""The machine of one node in virtual time: its disk, its link, and what the process on it has to do."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from fedmq import codec
from fedmq.codec import Frame
from fedmq.core import Event
from fedmq.delta import Arrays, Params
from fedmq.effects import Effect, Evaluate, Prepare, Remember, Train
from fedmq.memory import Memory
from fedmq_bench.scenario.attacks import forged
from fedmq_bench.scenario.fleet import Member, Phase
from fedmq_bench.scenario.link import Crossing, Lane
from fedmq_bench.scenario.timeline import FOREVER_S
from fedmq_nodes.node import Node
from fedmq_nodes.results import Evaluated, Trained
from fedmq_nodes.trainer import Trainer

PULL = np.float32(0.05)  # where nothing is trained: how far a delta goes back towards zero
CALM = np.random.default_rng(0)  # handed to lanes on which nothing is drawn
DISK_S = 0.02  # until what is written is on the disk, at either end, where others write as well
UP, DOWN = "up", "down"
Work = Callable[[], Trained]
HANDSHAKES = 2.5  # one of TCP, one and a half of ZMTP: greetings in two pieces, then what each end is


class Host:
    """One node's machine, whatever process runs on it.

    handshakes              round trips until a new connection carries frames; 0 where real ones do that by themselves
    disk_s                  until what is written is on its disk
    memory                  what its disk has
    trainings, uploads      how many there were, whatever process did them
    dies_at                 when the plan ends the process
    down_until              no process is started before
    closed_at               when the other end hears that the last process has gone
    plan                    told of a training when it begins, and when it will be done; returns what asks for it then
    """

    def __init__(
        self,
        member: Member,
        trainer: Trainer | None,
        tests: int,
        plan: Callable[[Train, float], Work] | None = None,
        handshakes: float = HANDSHAKES,
        disk_s: float = DISK_S,
    ) -> None:
        self.member, self.memory = member, Memory()
        self.node: Node | None = None
        self.away = member.away()
        self.sessions = self.trainings = self.uploads = 0
        self.dies_at, self.down_until, self.closed_at = FOREVER_S, 0.0, 0.0
        self._trainer, self._tests, self._plan, self._disk_s = trainer, tests, plan, disk_s
        self._ways = {UP: member.group.up, DOWN: member.group.down}
        self._lanes = {name: Lane(way, member.cut_off()) for name, way in self._ways.items()}
        self._frames = dict.fromkeys(self._ways, 0)
        self._outages = member.cut_off()
        self._connects_s = handshakes * (self.half_way_s(UP) + self.half_way_s(DOWN))
        self._cut_until = 0.0  # there is no connection before

    def local(self, now: float) -> float:
        """Return what its clock reads."""
        return self.member.ahead_s + now * (1.0 + self.member.drift)

    def connect(self, now: float) -> None:
        """Begin to connect: a new process does."""
        self._cut_until = max(self._cut_until, self.passable(now) + self._connects_s)

    def connected(self, now: float) -> bool:
        """Whether it has a connection that carries frames, as far as either end knows."""
        return now >= self._cut_until

    def passable(self, now: float) -> float:
        """Return from when on something can pass over its link, now or later."""
        now = max(now, self._cut_until)
        start, end = self._outages.next(now)
        return end if start <= now else now

    def half_way_s(self, direction: str) -> float:
        """Return how long what weighs nothing takes."""
        return self._ways[direction].rtt_ms / 2e3

    def carry(self, direction: str, frame: Frame, now: float) -> Crossing:
        """Send a frame over its link, in which the connection stays whole."""
        return self._carry(direction, codec.size_bytes(frame), now, None)

    def upload(self, frame: Frame, now: float) -> tuple[Crossing, int, bool]:
        """Send an update, and return what becomes of it, how many bytes left, and whether the node drops out then."""
        number, size, member = self.uploads, codec.size_bytes(frame), self.member
        self.uploads += 1
        if member.drops(Phase.MID_UPLOAD, number):
            share = member.lost_after(number)
            crossing = self._carry(UP, size, now, share)
            self._cut_until = crossing.left_at + member.group.drop.back_s + self._connects_s
            return crossing, int(share * size), False
        crossing = self._carry(UP, size, now, None)
        return crossing, size, bool(crossing.arrive_at) and member.drops(Phase.AFTER_UPLOAD, number)

    def _carry(self, direction: str, size: int, now: float, broken_after: float | None) -> Crossing:
        way, number = self._ways[direction], self._frames[direction]
        self._frames[direction] += 1
        draws_any = way.loss or way.jitter_ms or way.duplicate or way.reorder
        rng = self.member.draws.rng(self.member.name, direction, number) if draws_any else CALM
        crossing = self._lanes[direction].carry(size, now, rng, broken_after)
        return crossing if crossing.left_at <= self.dies_at else replace(crossing, arrive_at=())

    def perform(self, node: Node, effect: Effect, now: float) -> Iterable[tuple[float, Event]]:
        """Do what a node asks for: seconds until it is done, and what to tell it then."""
        match effect:
            case Prepare():
                return [(0.0, lambda at: node.prepared(self.member.examples, self._tests, self.local(at)))]
            case Train():
                return [self._train(node, effect, now)]
            case Evaluate(version, params, personal):
                found = Evaluated(version, 0, 0, 0.0)
                if self._trainer is not None:
                    found = self._trainer.evaluate(version, params, personal)
                return [(0.0, lambda at: node.evaluated(found, self.local(at)))]
            case Remember(memory):
                self.memory = memory  # what dies meanwhile is told apart by nobody
                return [(self._disk_s, lambda at: node.remembered(memory, self.local(at)))]
        return ()

    def _train(self, node: Node, task: Train, now: float) -> tuple[float, Event]:
        """Train when it is due to be done: a process that dies before has not troubled anyone."""
        index, member = self.trainings, self.member
        self.trainings += 1
        took_s = member.train_s(index)
        learn = partial(self._learn, task) if self._plan is None else self._plan(task, now + took_s)

        def trained(at: float) -> list[Effect]:
            found = learn()
            if member.attack is not None:
                found = forged(member.attack, task.params, found, member.draws.rng(member.name, "attack", index))
            return node.trained(replace(found, train_s=took_s), self.local(at))

        return took_s, trained

    def _learn(self, task: Train) -> Trained:
        if self._trainer is None:
            return unlearned(task.version, task.params, self.member.examples)
        return self._trainer.train(task.version, task.params, task.personal)


def unlearned(version: int, params: Params, examples: int) -> Trained:
    """Return what comes of a training where nothing is trained: a step that is never a vector of zeros."""
    return Trained(version, Params(Arrays(params.schema, params.flat - PULL * params.flat)), examples, 1, 0.0)
