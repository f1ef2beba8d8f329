"""Chaos: one federation under a virtual clock in which everything that can go wrong does, drawn from one number.

Frames are lost, doubled, delayed and so overtaken; links are cut, also in one direction; clocks leap; every party dies,
between any two effects of an event and between any write and the news of it, and comes back: the aggregator from what
was kept, a node from what it remembered, from an older copy of that, or from nothing. What was on its way to a party
that died is delivered to the next one, as a broker does. Then the faults stop, and all must come to one end.

The cores are the real ones. What is modelled: the link, the disks, and training. `watch` holds what must be true.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from faults import Mortal, Plan
from fedmq.aggregator import Aggregator
from fedmq.codec import Frame
from fedmq.core import Event
from fedmq.delta import Arrays, Params, Schema
from fedmq.effects import Done, Effect, Evaluate, Keep, Prepare, Remember, Train
from fedmq.journal import Entry
from fedmq.memory import Memory
from fedmq.past import Past
from fedmq.plan import Stop
from fedmq.simulate import Simulation
from fedmq.transports import AGGREGATOR
from fedmq_nodes.node import Evaluated, Node, Trained
from pair import introduction, job
from watch import Watch

SCHEMA = Schema((("w", (2, 2)), ("b", (2,))))
PATIENCE_S = 400.0  # of virtual time: the longest backoff, a lost node, a deadline, and as much again


class Chaos:
    """One seed's federation.

    keep, past     a real ledger's, where there is one beside the watch's model of it
    resent         how often a node began with an update that its predecessor had left
    """

    def __init__(self, seed: int, keep: Callable[[Iterable[Entry]], None] | None = None,
                 past: Callable[[], Past] | None = None) -> None:  # fmt: skip
        self.plan = Plan.drawn(seed)
        self.rng = np.random.default_rng([seed, 2])
        start = self.start(seed)
        self.watch = Watch(self.plan.settings, start)
        self._keep, self._past = keep, past or self.watch.past
        self._settings, self._job = self.plan.settings, job(start)
        self.simulation = Simulation(seed, self._carry)
        self.calm = False
        self.done: dict[str, Done] = {}
        self.resent = 0
        self.forgetful: set[str] = set()
        self._sessions: dict[str, int] = {}
        self._cut: dict[tuple[str, str], float] = {}  # (sender, receiver) -> until when
        self._back_at: dict[str, float] = {}
        self._memories: dict[str, list[Memory]] = {name: [] for name in self.plan.nodes}
        self._held: dict[str, tuple[Node, int]] = {}
        self._logs = 0
        self.parties = {name: Mortal() for name in (AGGREGATOR, *self.plan.nodes)}
        for name, party in self.parties.items():
            self.simulation.add(name, party, lambda effect, now, name=name: self._perform(name, effect))  # type: ignore[misc]
            self._start(name)

    @staticmethod
    def start(seed: int) -> Params:
        """Return version 0."""
        flat = np.random.default_rng([seed, 3]).standard_normal(SCHEMA.size)
        return Params(Arrays(SCHEMA, flat.astype(np.float32)))

    @property
    def aggregator(self) -> Aggregator | None:
        core = self.parties[AGGREGATOR].core
        assert core is None or isinstance(core, Aggregator)
        return core

    def node(self, name: str) -> Node | None:
        core = self.parties[name].core
        assert core is None or isinstance(core, Node)
        return core

    def run(self) -> None:
        """Run to the end; whatever is wrong on the way is an AssertionError."""
        for at, what, who in self.plan.faults:
            self._until(at)
            self._fault(what, who)
        self._until(self.simulation.now + float(self.rng.uniform(0.0, 5.0)))
        self._calm_down()
        enough = self.watch.newest.version + 2
        self._until(self.simulation.now + PATIENCE_S, lambda: self.watch.newest.version >= enough and self._together())
        assert self.watch.newest.version >= enough, f"no new version in {PATIENCE_S:.0f} s without a fault"
        assert self._together(), f"not all are there after {PATIENCE_S:.0f} s without a fault: {self._absent()}"
        self._account()
        self._until(self.simulation.now + 3.0)  # so that the ledger knows of all who are there
        last = self.watch.newest.version + 1
        self._settings = replace(self._settings, stop=Stop(last))
        self.parties[AGGREGATOR].core = None
        self._start(AGGREGATOR)
        self._until(self.simulation.now + PATIENCE_S, lambda: len(self.done) == len(self.parties))
        ends = {name: self.done[name].reason if name in self.done else "nothing" for name in self.parties}
        assert ends == dict.fromkeys(self.parties, "finished"), f"the end was {ends}"
        found = [version.version for version in self.watch.versions]
        assert found == list(range(len(found)))
        for name in self.plan.nodes:
            node = self.node(name)
            assert node is not None
            assert node.version == self.watch.newest.version
            self.watch.hold(name, node)

    # The world

    def _carry(self, sender: str, receiver: str, frame: Frame, rng: Generator) -> Iterable[float]:
        if self.calm:
            return (0.01,)
        if self._cut.get((sender, receiver), 0.0) > self.simulation.now or rng.random() < self.plan.drop:
            return ()
        copies = 2 if rng.random() < self.plan.double else 1
        return [float(rng.uniform(0.0, self.plan.longest_s)) for _ in range(copies)]

    def _perform(self, name: str, effect: Effect) -> Iterable[tuple[float, Event]]:
        party, plan = self.parties[name], self.plan
        core = party.core

        def told(event: Event) -> Event:
            return lambda now: [] if core is None else party.happens(core, event, now)

        def written(write: Callable[[], None]) -> Event:
            def happens(now: float) -> list[Effect]:
                if party.core is core:
                    write()
                return []

            return happens

        match effect, core:
            # The last thing that a dying process asked for is done, or it is not; nobody is told.
            case Keep(_, entries), None if self.rng.random() < 0.5:
                self._write(entries)
            case Remember(memory), None if self.rng.random() < 0.5:
                self._memorise(name, memory)
            case Keep(number, entries), Aggregator():
                return [
                    (plan.write_s, written(lambda: self._write(entries))),
                    (plan.write_s + plan.told_s, told(lambda at: core.kept(number, at))),
                ]
            case Remember(memory), Node():
                return [
                    (plan.write_s, written(lambda: self._memorise(name, memory))),
                    (plan.write_s + plan.told_s, told(lambda at: core.remembered(memory, at))),
                ]
            case Prepare(), Node():
                return [(float(self.rng.uniform(0, 2)), told(lambda at: core.prepared(10, 5, at)))]
            case Train(version, before), Node():
                result = Trained(version, self._trained(before), int(self.rng.integers(1, 20)), 1, 0.5)
                return [(float(self.rng.uniform(0.5, 4)), told(lambda at: core.trained(result, at)))]
            case Evaluate(version), Node():
                return [(0.1, told(lambda at: core.evaluated(Evaluated(version, 5, 1, 0.5), at)))]
            case Done(), Aggregator() | Node():
                self.done[name] = effect
                if name == AGGREGATOR:
                    party.core = None
        return []

    def _trained(self, before: Params) -> Params:
        """Move the params somewhere; once in a while to where no params can be."""
        step = self.rng.normal(0.0, 0.1, SCHEMA.size).astype(np.float32)
        if not self.calm and self.rng.random() < 0.05:
            step[0] = np.nan
        return Params(Arrays(SCHEMA, before.flat + step))

    def _write(self, entries: tuple[Entry, ...]) -> None:
        self.watch.keep(entries)
        if self._keep is not None:
            self._keep(entries)

    def _memorise(self, name: str, memory: Memory) -> None:
        self.watch.remember(name, memory, name in self.forgetful)
        self._memories[name].append(memory)

    def _start(self, name: str) -> None:
        """Start a process, with a clock that has nothing to do with that of its predecessor."""
        party = self.parties[name]
        party.dies_in, party.ahead_s = None, float(self.rng.uniform(0.0, 1e4))
        now = self.simulation.now + party.ahead_s
        seed = int(self.rng.integers(2**32))
        if name == AGGREGATOR:
            party.core = Aggregator(self._settings, self._job, self._past(), np.random.default_rng(seed), now)
        else:
            self._sessions[name] = int(self.rng.integers(1, 2**63))
            who, memory = introduction(name), self._recalled(name)
            self.resent += memory is not None and memory.update is not None
            party.core = Node(who, self._sessions[name], np.random.default_rng(seed), now, memory)
        self.simulation.tell(name, party.tick)

    def _recalled(self, name: str) -> Memory | None:
        """Return what a node finds on its disk: mostly what it wrote last, now and then an older copy, or nothing."""
        memories, chance = self._memories[name], self.rng.random()
        if memories and chance < 0.2 and not self.calm:
            self.forgetful.add(name)
            del memories[0 if chance < 0.1 else int(self.rng.integers(len(memories))) :]
        return memories[-1] if memories else None

    def _fault(self, what: str, who: str) -> None:
        party, simulation = self.parties[who], self.simulation
        match what:
            case "die":
                party.core = None
            case "die at an effect":
                party.dies_in = int(self.rng.integers(4))
            case "leap":
                party.ahead_s += float(self.rng.uniform(1.0, 100.0))
                simulation.tell(who, party.tick)
            case "lose the link":
                peer = AGGREGATOR if who != AGGREGATOR else str(self.rng.choice(self.plan.nodes))
                simulation.tell(who, lambda now: party.lost(peer, now))
            case _:
                until = simulation.now + float(self.rng.uniform(1.0, 15.0))
                names = self.plan.nodes if who == AGGREGATOR else (who,)
                ways = [(name, AGGREGATOR) for name in names] + [(AGGREGATOR, name) for name in names]
                kept = slice(None) if what == "cut" else slice(None, None, 2)
                self._cut.update(dict.fromkeys(ways[kept], until))

    def _calm_down(self) -> None:
        self.calm = True
        self._cut.clear()
        for party in self.parties.values():
            party.dies_in = None

    # Time, and what must be true meanwhile

    def _until(self, at: float, holds: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until then, or until something holds; who is dead comes back when it is time."""
        while not holds() and self.simulation.now < at:
            self._look()
            due = min([at, *self._back_at.values()])
            self.simulation.run(due, lambda: self._look() or holds())
            if not self.simulation.pending:
                self.simulation.now = due
            for name in [name for name, back_at in self._back_at.items() if back_at <= self.simulation.now]:
                del self._back_at[name]
                self._start(name)
        self._look()

    def _look(self) -> bool:
        """Check what changed with the last event; return whether somebody has died in it."""
        for name in self.plan.nodes:
            node = self.node(name)
            if node is not None and self._held.get(name) != (node, node.version):
                self.watch.hold(name, node)
                self._held[name] = node, node.version
        ended = {name: done.reason for name, done in self.done.items() if not self._settings.stop.versions}
        assert ended == {}, f"ended before the federation did: {ended}"
        logs = self.simulation.logs
        for _, name, log in logs[self._logs :]:
            if log.event == "update.judged":
                self.watch.hear(name, log.fields["seq"], log.fields["code"])
        self._logs = len(logs)
        died = [
            name for name, party in self.parties.items() if party.core is None and name not in self._back_at | self.done
        ]
        for name in died:
            self._back_at[name] = self.simulation.now + (0.0 if self.calm else float(self.rng.uniform(0.1, 8.0)))
        return bool(died)

    def _absent(self) -> list[str]:
        """Return the nodes that the aggregator does not count on, or that are no more."""
        members = {} if self.aggregator is None else self.aggregator.roster.members
        found = []
        for name, session in self._sessions.items():
            member, node = members.get(name), self.node(name)
            there = member is not None and member.connected and member.ready and member.session.number == session
            if not there or node is None or name in self.done:
                found.append(f"{name} ({self.done[name].reason})" if name in self.done else name)
        return found

    def _together(self) -> bool:
        return self.aggregator is not None and not self._absent()

    def _account(self) -> None:
        """Every update of a node that never forgot anything is kept, or still waits to be."""
        for name in set(self.plan.nodes) - self.forgetful:
            node = self.node(name)
            assert node is not None
            waiting = set() if node.outbox is None else {node.outbox.seq}
            kept = {seq for of, seq in self.watch.updates if of == name}
            made = {seq for of, seq in self.watch.remembered if of == name}
            assert kept <= made <= kept | waiting, f"{name} made {made}, kept are {kept}, {waiting} waits"
            assert kept == set(range(1, len(kept) + 1)), f"of {name} are kept {sorted(kept)}"
