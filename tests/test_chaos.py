"""Nothing is lost and nothing counts twice, whatever goes wrong: thousands of seeds, each a federation of its own.

`make chaos SEEDS=100000 FROM=2000` tries others. A seed that fails says how to repeat it.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from chaos import Chaos
from faults import CODECS, FAULTS, POLICIES, Plan
from fedmq.journal import Entry
from fedmq.ledger import Keeping, Ledger
from fedmq.past import Past
from fedmq.rules import RULES

FROM = int(os.environ.get("CHAOS_FROM", "0"))
SEEDS = int(os.environ.get("CHAOS_SEEDS", "2000"))
AT_ONCE = 100
ON_DISK = 60

BLOCKS = range(FROM, FROM + SEEDS, AT_ONCE)


def survives(seed: int, chaos: Chaos | None = None) -> Chaos:
    """Run a seed; where that fails, say how to repeat it."""
    try:
        chaos = chaos or Chaos(seed)
        chaos.run()
    except Exception as error:
        error.add_note(f"seed {seed} fails; repeat it: make chaos SEEDS=1 FROM={seed}")
        raise
    return chaos


@pytest.mark.parametrize("first", BLOCKS)
def test_a_federation_survives_every_fault_and_comes_to_one_end(first: int) -> None:
    for seed in range(first, min(first + AT_ONCE, FROM + SEEDS)):
        survives(seed)


@pytest.mark.parametrize("seed", range(FROM, FROM + min(SEEDS, ON_DISK)))
def test_it_does_so_on_a_real_ledger_too(seed: int, tmp_path: Path) -> None:
    held: list[Ledger] = []

    def keep(entries: Iterable[Entry]) -> None:
        held[-1].keep(entries, 0.0)

    def past() -> Past:
        """Leave the file as a kill leaves it, and open it as the next process does."""
        meta = {"federation": "test", "feature_space": "x", "method": "fedclip"}
        if held:
            held.pop().close()
        held.append(Ledger.open(tmp_path / "ledger.sqlite", meta, {}, Chaos.start(seed), Keeping(), 0.0, 0.0))
        return held[-1].past()

    try:
        survives(seed, Chaos(seed, keep, past))
    finally:
        held[-1].close()


def test_the_same_seed_is_the_same_run() -> None:
    def told(seed: int) -> list[tuple[float, str, str]]:
        return [(at, name, str(log)) for at, name, log in survives(seed).simulation.logs]

    assert told(7) == told(7)
    assert told(7) != told(13)


def test_every_policy_codec_and_fault_comes_up() -> None:
    plans = [Plan.drawn(seed) for seed in range(400)]
    assert {plan.settings.rounds for plan in plans} == set(POLICIES.values())
    assert {plan.settings.rule for plan in plans} == set(RULES)
    assert {(plan.settings.codec.up, plan.settings.codec.down) for plan in plans} == {
        (up, down) for up in CODECS for down in CODECS
    }
    assert {what for plan in plans for _, what, _ in plan.faults} == set(FAULTS)


def test_chaos_is_no_walk_in_the_park() -> None:
    """What the invariants are about does happen: restarts, refusals, residuals, and what was dropped aloud."""
    seen: dict[str, int] = {}
    for seed in range(200):
        chaos = survives(seed)
        for _, _, log in chaos.simulation.logs:
            seen[log.event] = seen.get(log.event, 0) + 1
        for entry in chaos.watch.updates.values():
            seen[entry.code] = seen.get(entry.code, 0) + 1
        seen["resent"] = seen.get("resent", 0) + chaos.resent
    rare = ("update.dropped", "node.replaced", "link.lost", "too_stale", "not_finite", "resent")
    assert {name for name in rare if not seen.get(name)} == set()
