"""The statistics job: the pool by itself, and whole federations of real cores under a virtual clock."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.random import Generator

from fedmq import terms
from fedmq.codec import Frame
from fedmq.collecting import collector
from fedmq.core import Event
from fedmq.delta import digest_of
from fedmq.effects import Effect, Train
from fedmq.journal import Traffic, UpdateEntry
from fedmq.messages import Code, Update
from fedmq.past import Past, Point
from fedmq.plan import Codecs, Settings, Stop
from fedmq.rounds import PRESETS, Cause, Policy
from fedmq.stats.forms import FORMS
from fedmq.stats.layout import HEAD, count
from fedmq.stats.pool import Pool
from fedmq.stats.settings import Statistics
from fedmq_nodes.results import Counted
from pair import Fleet, Worker
from test_stats import LAYOUT, beginning, examples

FORM = "stats-fp32"
SETTINGS = Settings("test", codec=Codecs(FORM, "fp32"))


def packed(seed: int, form: str = FORM) -> bytes:
    return bytes(FORMS[form].pack(count([examples(40 + seed, seed)], LAYOUT)))


def update(seed: int, seq: int = 1, base: int = 0, form: str = FORM) -> Update:
    return Update(9, seq, base, form, 40 + seed, payload=packed(seed, form))


def pool(settings: Settings = SETTINGS, start: Point | None = None) -> Pool:
    return Pool(settings, start or Point(0, beginning(), beginning()))


def taken(arrived: Iterable[tuple[str, Update]], found: Pool) -> list[UpdateEntry]:
    return [found.judge(node, one, len(one.payload), 1.0) for node, one in arrived]


def digest(found: Pool) -> str:
    return digest_of(found.commit(Cause.GOAL, Traffic(), 2.0).params)


def head_of(arrived: Iterable[tuple[str, Update]], settings: Settings = SETTINGS) -> str:
    found = pool(settings)
    assert {entry.code for entry in taken(arrived, found)} == {Code.ACCEPTED}
    return digest(found)


NODES = [(name, update(seed)) for seed, name in enumerate("abcd")]


@pytest.mark.parametrize("which", ["ridge", "even", "means", "discriminant"])
@pytest.mark.parametrize("form", ["stats-fp32", "stats-fp16", "stats-rank4"])
def test_a_head_has_the_same_bits_whoever_came_first(which: str, form: str) -> None:
    settings = replace(SETTINGS, codec=Codecs(form, "fp32"), statistics=Statistics(which))  # type: ignore[arg-type]
    nodes = [(name, update(seed, form=form)) for seed, name in enumerate("abc")]
    assert len({head_of(order, settings) for order in itertools.permutations(nodes)}) == 1


def test_what_a_node_sends_again_replaces_what_it_sent_before_to_the_bit() -> None:
    again = [*NODES, ("b", update(7, seq=2))]
    assert head_of(again) == head_of([("b", update(7)), *(node for node in NODES if node[0] != "b")])
    assert head_of(again) != head_of(NODES)


def test_versions_in_between_leave_no_trace_in_a_head() -> None:
    found = pool()
    for node, one in NODES:
        taken([(node, one)], found)
        last = digest(found)
    assert (found.versions.number, last) == (4, head_of(NODES))


def test_statistics_are_never_too_late_but_cannot_be_of_a_version_to_come() -> None:
    found = pool()
    taken(NODES[:1], found)
    digest(found)
    late, early = taken([NODES[1], ("c", update(2, base=5))], found)
    assert (late.code, late.staleness, late.weight, late.damping) == (Code.ACCEPTED, 1, 41.0, 1.0)
    assert (early.code, early.text) == (Code.UNKNOWN_VERSION, "sent at version 5, the newest is 1")


def refused_as(one: Update, start: Point | None = None) -> tuple[Code, str]:
    """Return the verdict on this update of node c, which must leave no trace."""
    found = pool(start=start)
    _, entry = taken([NODES[0], ("c", one)], found)
    assert digest(found) == head_of(NODES[:1])
    return entry.code, entry.text


def test_what_is_refused_is_refused_by_name_and_leaves_no_trace() -> None:
    good = update(2)
    louder = count([examples(42, 2)], LAYOUT)
    louder = replace(louder, gram=louder.gram * 2)
    assert refused_as(replace(good, codec="int8"))[0] is Code.WRONG_CODEC
    assert refused_as(replace(good, examples=0))[0] is Code.NO_EXAMPLES
    assert refused_as(replace(good, payload=good.payload[:-1]))[0] is Code.BAD_PAYLOAD
    assert refused_as(replace(good, payload=FORMS[FORM].pack(louder)))[0] is Code.WRONG_TRACE
    code, text = refused_as(replace(good, examples=43))
    assert (code, "add up to 42 examples, said were 43" in text) == (Code.WRONG_COUNTS, True)
    forgotten = Point(0, beginning(), beginning(), forgotten=frozenset("c"))
    assert refused_as(good, forgotten)[0] is Code.FORGOTTEN


def test_a_pool_goes_on_from_a_point_and_from_what_was_pending_with_the_same_bits() -> None:
    through = pool()
    taken(NODES[:2], through)
    digest(through)
    resumed = pool(start=through.point)
    pending = taken([("a", update(9, seq=2)), NODES[2]], through)
    for entry in pending:
        resumed.refold(entry, 1.0)
    assert digest(resumed) == digest(through)
    assert resumed.point.folded == through.point.folded == 4
    assert list(resumed.nodes) == list(through.nodes) == ["b", "a", "c"]


def test_the_form_upwards_says_which_collector_there_is_and_is_among_the_terms() -> None:
    settings = replace(SETTINGS, statistics=Statistics("means", 0.5, 2.0))
    assert isinstance(collector(settings, Point(0, beginning(), beginning())), Pool)
    read = terms.read(terms.written(settings))
    assert (read.statistics, read.codec) == (settings.statistics, settings.codec)


@dataclass
class Counting(Fleet):
    """A fleet in which a node called by a letter has the statistics of that letter, or of `replaced`."""

    replaced: str = ""

    def _work(self, name: str, node: object, effect: Effect) -> Iterable[tuple[float, Event]]:
        if not isinstance(effect, Train):
            return super()._work(name, node, effect)  # type: ignore[arg-type]
        seed = 20 if name in self.replaced else ord(name) - ord("a")
        result = Counted(effect.version, packed(seed), 40 + seed)
        living = self.nodes[name]
        return [(self.workers[name].train_s, lambda now: living.trained(result, now))]

    def sent(self) -> list[tuple[str, int]]:
        return [(entry.node, entry.update.seq) for entry in self.updates()]


def fleet(names: Sequence[str], settings: Settings = SETTINGS, **more: object) -> Counting:
    return Counting(settings, {name: Worker(examples=40) for name in names}, start=beginning(), **more)  # type: ignore[arg-type]


def test_each_node_sends_once_and_the_version_is_the_head_of_all() -> None:
    found = fleet("abc", replace(SETTINGS, start_nodes=3))
    found.run(until_s=60.0)
    assert found.sent() == [("a", 1), ("b", 1), ("c", 1)]
    assert [digest_of(entry.params) for entry in found.versions()] == [head_of(NODES[:3])]
    assert all(node.version == 1 and node.params is not None for node in found.nodes.values())


def test_a_late_node_simply_adds_and_nobody_is_asked_again() -> None:
    found = fleet("abc", replace(SETTINGS, start_nodes=3))
    found.run(until_s=10.0)
    found.workers["d"] = Worker(examples=40)
    found.start_node("d")
    found.run(until_s=60.0)
    assert found.sent() == [("a", 1), ("b", 1), ("c", 1), ("d", 1)]
    assert digest_of(found.versions()[-1].params) == head_of(NODES)


def test_a_new_process_of_a_node_counts_anew_and_replaces() -> None:
    found = fleet("abc", replace(SETTINGS, start_nodes=3))
    found.run(until_s=10.0)
    found.replaced = "b"
    found.start_node("b")
    found.run(until_s=60.0)
    assert found.sent()[3:] == [("b", 2)]
    assert digest_of(found.versions()[-1].params) == head_of([NODES[0], ("b", update(20)), NODES[2]])


def test_a_node_that_starts_again_before_the_round_closes_is_not_waited_for_in_vain() -> None:
    """The version that it would send at is the one that it has sent at before."""
    found = fleet("ab", replace(SETTINGS, start_nodes=2, rounds=Policy(goal=3)))
    found.workers["b"].train_s = 20.0
    found.run(stop=lambda: len(found.updates()) == 1)
    found.start_node("a")
    found.run(until_s=60.0)
    assert found.sent() == [("a", 1), ("a", 2), ("b", 1)]
    assert [digest_of(entry.params) for entry in found.versions()] == [head_of(NODES[:2])]


@pytest.mark.parametrize("seed", range(20))
def test_a_link_that_loses_doubles_and_reorders_changes_no_bit_of_the_head(seed: int) -> None:
    def bad(sender: str, receiver: str, frame: Frame, rng: Generator) -> Iterable[float]:
        return [float(rng.uniform(0, 3)) for _ in range(int(rng.choice([0, 1, 1, 1, 2])))]

    settings = replace(SETTINGS, start_nodes=2, rounds=PRESETS["quorum"])
    found = fleet("abcd", settings, carry=bad, seed=seed)
    wanted = head_of(NODES)
    found.run(until_s=3000.0, stop=lambda: any(digest_of(entry.params) == wanted for entry in found.versions()))
    assert digest_of(found.versions()[-1].params) == wanted


def test_a_restarted_aggregator_goes_on_and_ends_at_the_same_head() -> None:
    found = fleet("abc", replace(SETTINGS, start_nodes=3))
    found.run(until_s=10.0)
    (version,) = found.versions()
    live = tuple(found.updates())
    point = Point(1, version.params, version.params, folded=3, beginning=beginning(), live=live)
    found.workers["d"] = Worker(examples=40)
    found.start_aggregator(Past(point))
    found.start_node("d")
    found.run(until_s=120.0)
    assert digest_of(found.versions()[-1].params) == head_of(NODES)


def test_a_federation_of_statistics_finishes_with_its_last_version() -> None:
    found = fleet("abc", replace(SETTINGS, start_nodes=3, stop=Stop(versions=1)))
    found.run(until_s=60.0)
    assert {name: done.reason for name, done in found.done.items()} == dict.fromkeys(
        ["a", "b", "c", "aggregator"], "finished"
    )
    node = found.nodes["a"]
    assert node.params is not None
    np.testing.assert_array_equal(node.params.named()[HEAD], found.versions()[0].params.named()[HEAD])
