"""Simulation: virtual time passes in order, links do what they are told, and the same seed gives the same run."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.random import Generator

from fedmq.codec import Frame
from fedmq.core import Event
from fedmq.delta import Vector
from fedmq.effects import Cancel, Effect, Log, Send
from fedmq.journal import UpdateEntry, VersionEntry
from fedmq.messages import Code
from fedmq.plan import Codecs, Pulse, Settings
from fedmq.rounds import PRESETS, Policy
from fedmq.simulate import Carry, Simulation
from pair import Fleet, Worker


@dataclass
class Probe:
    """A core that writes down what it is told, and does what it was given to do at its deadlines."""

    deadlines: list[float] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    told: list[tuple[str, object, float]] = field(default_factory=list)

    def receive(self, peer: str, frame: Frame, now: float) -> list[Effect]:
        self.told.append(("frame", b"".join(frame), now))
        return []

    def lost(self, peer: str, now: float) -> list[Effect]:
        self.told.append(("lost", peer, now))
        return []

    def tick(self, now: float) -> list[Effect]:
        self.told.append(("tick", None, now))
        self.deadlines = [at for at in self.deadlines if at > now]
        effects, self.effects = self.effects, []
        return effects

    def next_deadline(self) -> float | None:
        return min(self.deadlines, default=None)

    def say(self, to: str, *frames: bytes) -> "Probe":
        self.effects += [Send((to,), (frame,)) for frame in frames]
        return self


def nothing(effect: Effect, now: float) -> Iterable[tuple[float, Event]]:
    return []


def arrived(probe: Probe) -> list[tuple[object, float]]:
    return [(frame, at) for what, frame, at in probe.told if what == "frame"]


def ticks(probe: Probe) -> list[float]:
    return [at for what, _, at in probe.told if what == "tick"]


# Time


def test_a_core_is_ticked_at_the_start_and_once_at_each_deadline() -> None:
    simulation, probe = Simulation(0), Probe([5.0, 2.0, 9.0])
    simulation.add("a", probe, nothing)
    simulation.run()
    assert (ticks(probe), simulation.now) == ([0.0, 2.0, 5.0, 9.0], 9.0)


def test_a_deadline_that_comes_forward_leaves_no_tick_behind() -> None:
    """Or each of them would begin a chain of ticks of its own that never ends."""

    class Hasty(Probe):
        def tick(self, now: float) -> list[Effect]:
            super().tick(now)
            self.at = now + 10.0
            return [Cancel()] if now < 100.0 else []

        def next_deadline(self) -> float | None:
            return self.at if self.at < 200.0 else None

    def hurry(effect: Effect, now: float) -> Iterable[tuple[float, Event]]:
        def sooner(later: float) -> list[Effect]:
            probe.at = later + 1.0
            return []

        return [(3.0, sooner)]

    simulation, probe = Simulation(0), Hasty()
    simulation.add("a", probe, hurry)
    simulation.run()
    assert ticks(probe) == [4.0 * i for i in range(26)] + [110.0 + 10.0 * i for i in range(9)]


def test_time_never_runs_backwards_even_for_a_core_whose_deadline_has_passed() -> None:
    simulation, late, other = Simulation(0), Probe([1.0]), Probe([4.0])

    def work(effect: Effect, now: float) -> Iterable[tuple[float, Event]]:
        def overdue(later: float) -> list[Effect]:
            late.deadlines = [2.0]
            return []

        return [(7.0, overdue)]

    late.effects = [Cancel()]
    simulation.add("late", late, work)
    simulation.add("other", other, nothing)
    simulation.run()
    assert (ticks(late), ticks(other), simulation.now) == ([0.0, 1.0, 7.0], [0.0, 4.0], 7.0)


def test_a_run_stops_at_the_time_that_it_is_given_and_goes_on_from_there() -> None:
    simulation, probe = Simulation(0), Probe([1.0, 2.0, 3.0])
    simulation.add("a", probe, nothing)
    simulation.run(until_s=2.5)
    assert (simulation.now, ticks(probe)) == (2.5, [0.0, 1.0, 2.0])
    simulation.run()
    assert (simulation.now, ticks(probe)) == (3.0, [0.0, 1.0, 2.0, 3.0])


def test_a_run_stops_when_it_is_told_to() -> None:
    simulation, probe = Simulation(0), Probe([1.0, 2.0, 3.0])
    simulation.add("a", probe, nothing)
    simulation.run(stop=lambda: simulation.now >= 2.0)
    assert ticks(probe) == [0.0, 1.0, 2.0]


def test_logs_are_kept_with_their_time_and_core() -> None:
    simulation, log = Simulation(0), Log("info", "x.happened", {"key": 1})
    simulation.add("a", Probe([], [log]), nothing)
    assert simulation.logs == [(0.0, "a", log)]


# Who is there


def test_what_a_killed_core_was_waiting_for_never_comes() -> None:
    simulation, first, second = Simulation(0), Probe([5.0], [Cancel()]), Probe([6.0])
    came: list[float] = []

    def result(later: float) -> list[Effect]:
        came.append(later)
        return []

    def work(effect: Effect, now: float) -> Iterable[tuple[float, Event]]:
        return [(3.0, result)]

    simulation.add("a", first, work)
    simulation.add("b", Probe().say("a", b"for the first"), nothing)
    simulation.remove("a")
    simulation.add("a", second, nothing)
    simulation.run()
    assert (came, first.told, second.told) == (
        [],
        [("tick", None, 0.0)],
        [("tick", None, 0.0), ("tick", None, 6.0)],
    )


def test_a_frame_for_nobody_is_lost() -> None:
    simulation = Simulation(0)
    simulation.add("a", Probe().say("nobody", b"hello?"), nothing)
    simulation.run()
    assert simulation.now == 0.0


# Links


def test_a_link_may_lose_repeat_delay_and_reorder() -> None:
    delays: dict[bytes, list[float]] = {b"lost": [], b"twice": [1.0, 1.0], b"late": [9.0], b"soon": [0.5]}

    def carry(sender: str, receiver: str, frame: Frame, rng: Generator) -> Iterable[float]:
        assert (sender, receiver) == ("a", "b")
        return delays[bytes(frame[0])]

    simulation, receiver = Simulation(0, carry), Probe()
    simulation.add("b", receiver, nothing)
    simulation.add("a", Probe().say("b", b"lost", b"twice", b"late", b"soon"), nothing)
    simulation.run()
    assert arrived(receiver) == [(b"soon", 0.5), (b"twice", 1.0), (b"twice", 1.0), (b"late", 9.0)]


def test_without_a_carry_frames_arrive_at_once_and_in_order() -> None:
    simulation, receiver = Simulation(0), Probe()
    simulation.add("b", receiver, nothing)
    simulation.add("a", Probe().say("b", b"1", b"2", b"3"), nothing)
    simulation.run()
    assert arrived(receiver) == [(b"1", 0.0), (b"2", 0.0), (b"3", 0.0)]


def test_one_send_is_carried_to_each_peer_for_itself() -> None:
    def carry(sender: str, receiver: str, frame: Frame, rng: Generator) -> Iterable[float]:
        return [] if receiver == "b" else [1.0]

    simulation, probes = Simulation(0, carry), {name: Probe() for name in "bcd"}
    for name, probe in probes.items():
        simulation.add(name, probe, nothing)
    simulation.add("a", Probe([], [Send(("b", "c", "d"), (b"news",))]), nothing)
    simulation.run()
    assert {name: arrived(probe) for name, probe in probes.items()} == {
        "b": [],
        "c": [(b"news", 1.0)],
        "d": [(b"news", 1.0)],
    }


# Federations


def faulty(loss: float, twice: float, slowest_s: float) -> Carry:
    """Lose and repeat frames with these probabilities; delay each, so that they overtake one another."""

    def carry(sender: str, receiver: str, frame: Frame, rng: Generator) -> Iterable[float]:
        if rng.random() < loss:
            return []
        copies = 2 if rng.random() < twice else 1
        return [float(delay) for delay in rng.uniform(0.0, slowest_s, copies)]

    return carry


def fleet(seed: int, carry: Carry, rounds: Policy = PRESETS["sync"], codecs: Codecs | None = None) -> Fleet:
    return Fleet(
        Settings("test", codec=codecs or Codecs("int8", "int8"), rounds=rounds, start_nodes=3, pulse=Pulse(1.0, 5.0)),
        {name: Worker(step=0.5 + i, train_s=1.0 + i, examples=10 * (i + 1), tests=4) for i, name in enumerate("abc")},
        carry,
        seed,
        keep_s=0.01,
    )


def story(found: Fleet) -> list[object]:
    facts: list[object] = []
    for entry in found.kept:
        if isinstance(entry, UpdateEntry):
            facts.append(
                (entry.at, entry.node, entry.update.seq, entry.code, entry.staleness, bytes(entry.update.payload))
            )
        elif isinstance(entry, VersionEntry):
            facts.append((entry.closed_at, entry.version, entry.cause, entry.params.flat.tobytes()))
    return facts


LOSSY = faulty(loss=0.15, twice=0.15, slowest_s=0.4)


def test_the_same_seed_gives_the_same_run_to_the_bit_and_another_seed_another() -> None:
    stories = []
    for seed in (2, 2, 3):
        found = fleet(seed, LOSSY)
        found.run(until_s=200.0)
        stories.append((story(found), [(at, name, log.event) for at, name, log in found.simulation.logs]))
    assert stories[0] == stories[1] != stories[2]
    assert len(stories[0][0]) > 10


@pytest.mark.parametrize("preset", ["sync", "quorum", "fedbuff", "fedasync"])
@pytest.mark.parametrize("seed", range(6))
def test_loss_repetition_and_reordering_neither_stop_a_federation_nor_count_an_update_twice(
    preset: str, seed: int
) -> None:
    found = fleet(seed, LOSSY, PRESETS[preset])
    found.run(until_s=5000.0, stop=lambda: len(found.versions()) >= 8)
    accepted = [entry for entry in found.updates() if entry.code is Code.ACCEPTED]
    assert len(found.versions()) == 8
    assert len({(entry.node, entry.update.seq) for entry in found.updates()}) == len(found.updates())
    assert [entry.number for entry in accepted] == list(range(len(accepted)))
    assert sum(entry.updates for entry in found.versions()) == found.versions()[-1].folded <= len(accepted)


def test_delays_and_repetitions_change_when_things_happen_and_not_what() -> None:
    """Sync rounds over any link that loses nothing give the same params, up to the order of summing."""

    def path(carry: Carry) -> list[Vector]:
        found = fleet(5, carry, codecs=Codecs("fp32", "fp32"))
        found.run(until_s=5000.0, stop=lambda: len(found.versions()) >= 3)
        return [entry.params.flat for entry in found.versions()]

    straight, delayed, repeated = map(path, (faulty(0, 0, 0), faulty(0, 0, 0.4), faulty(0, 0.5, 0.2)))
    np.testing.assert_allclose(delayed, straight, rtol=1e-6)
    np.testing.assert_allclose(repeated, straight, rtol=1e-6)


def test_every_frame_lost_is_no_federation_and_no_busy_loop() -> None:
    found = fleet(0, faulty(1.0, 0.0, 0.0))
    found.run(until_s=600.0)
    assert (found.kept, found.simulation.now) == ([], 600.0)
    assert 0 < len(found.simulation.logs) < 3 * 600 / 10
