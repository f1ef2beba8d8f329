"""Simulation: the same cores under a virtual clock, a queue of events in place of sockets and sleep.

The driver knows the contract of a core and nothing else. What a link does to a frame, and what an effect other than
Send and Publish leads to and when, are functions that it is given. The same seed gives the same run, to the bit.
"""

import heapq
from collections.abc import Callable, Iterable
from itertools import count

import numpy as np
from numpy.random import Generator

from fedmq.codec import Frame
from fedmq.core import Core, Event
from fedmq.effects import Audience, Effect, Log, Publish, Send

# (sender, receiver, frame, rng) -> the delay in seconds of each copy that arrives: none is a loss, two a duplicate.
Carry = Callable[[str, str, Frame, Generator], Iterable[float]]
# (effect, now) -> (seconds until it is done, what to tell the core then), none for an effect without an answer.
Perform = Callable[[Effect, float], Iterable[tuple[float, Event]]]


def instantly(sender: str, receiver: str, frame: Frame, rng: Generator) -> Iterable[float]:
    """Carry every frame at once."""
    return (0.0,)


class Simulation:
    """Cores by name, the events that await them, and the time.

    missed        told (sender, receiver) of a frame for a core that is not there
    remembers     whether `logs` are kept; those of ten thousand nodes take more memory than they do
    """

    def __init__(
        self,
        seed: int,
        carry: Carry = instantly,
        missed: Callable[[str, str], None] = lambda _sender, _receiver: None,
        remembers: bool = True,
    ) -> None:
        self.now = 0.0
        self.logs: list[tuple[float, str, Log]] = []
        self.happened = 0  # events, so far
        self._carry, self._missed, self._remembers = carry, missed, remembers
        self._rng = np.random.default_rng(seed)
        self._cores: dict[str, tuple[Core, Perform]] = {}
        self._events: list[tuple[float, int, str, Core, Event]] = []
        self._order = count()
        self._ticks: dict[str, float] = {}
        self._lasting: dict[str, Frame] = {}  # by sender, as a broker retains it

    def add(self, name: str, core: Core, perform: Perform) -> None:
        """Start a core; it takes the place of one with the same name, whose pending results are dropped."""
        self._cores[name] = (core, perform)
        self._ticks.pop(name, None)
        for sender, frame in self._lasting.items():
            if sender != name:
                self._deliver(sender, name, frame)
        self._apply(name, core.tick(self.now))

    def remove(self, name: str) -> None:
        """Kill a core, with everything that it was waiting for."""
        del self._cores[name]

    @property
    def pending(self) -> int:
        """How many events are still to come."""
        return len(self._events)

    def tell(self, name: str, event: Event) -> None:
        """Let this happen to a core now."""
        self._apply(name, event(self.now))

    def run(self, until_s: float = float("inf"), stop: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until there is nothing left to happen, `stop` holds, or the clock reads `until_s`."""
        while self._events and not stop():
            if self._events[0][0] > until_s:
                self.now = until_s
                return
            self.now, _, name, core, event = heapq.heappop(self._events)
            self.happened += 1
            if name in self._cores and self._cores[name][0] is core:
                self._apply(name, event(self.now))

    def _apply(self, name: str, effects: list[Effect]) -> None:
        core, perform = self._cores[name]
        for effect in effects:
            if isinstance(effect, Send):
                for peer in effect.peers:
                    self._deliver(name, peer, effect.frame)
            elif isinstance(effect, Publish):
                if effect.audience is not Audience.PRESENT:
                    self._lasting[name] = effect.frame
                if effect.audience is not Audience.LATER:
                    for peer in [peer for peer in self._cores if peer != name]:
                        self._deliver(name, peer, effect.frame)
            elif isinstance(effect, Log):
                if self._remembers:
                    self.logs.append((self.now, name, effect))
            else:
                for delay_s, event in perform(effect, self.now):
                    self._schedule(self.now + delay_s, name, core, event)
        deadline = core.next_deadline()
        if deadline is not None and deadline < self._ticks.get(name, float("inf")):
            at = self._ticks[name] = max(deadline, self.now)
            self._schedule(at, name, core, lambda now: self._tick(name, core, now))

    def _tick(self, name: str, core: Core, now: float) -> list[Effect]:
        if self._ticks.get(name) != now:
            return []  # an earlier deadline came in between, and has set another tick
        del self._ticks[name]
        return core.tick(now)

    def _deliver(self, sender: str, receiver: str, frame: Frame) -> None:
        if receiver not in self._cores:
            self._missed(sender, receiver)
            return
        core = self._cores[receiver][0]
        for delay_s in self._carry(sender, receiver, frame, self._rng):
            self._schedule(self.now + delay_s, receiver, core, lambda now: core.receive(sender, frame, now))

    def _schedule(self, at: float, name: str, core: Core, event: Event) -> None:
        heapq.heappush(self._events, (at, next(self._order), name, core, event))
