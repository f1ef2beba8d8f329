"""A fault plan: what goes wrong in one seed's federation, when, and with what settings; and a core that can die."""

from dataclasses import dataclass, replace

import numpy as np

from fedmq.codec import Frame
from fedmq.core import Core, Event
from fedmq.effects import Effect
from fedmq.outer import Outer
from fedmq.plan import Codecs, Pulse, Settings
from fedmq.rounds import PRESETS, Policy
from fedmq.rules import RULES
from fedmq.transports import AGGREGATOR

POLICIES: dict[str, Policy] = {
    "sync": PRESETS["sync"],
    "deadline": replace(PRESETS["deadline"], deadline_s=5.0),
    "quorum": PRESETS["quorum"],
    "fedbuff": replace(PRESETS["fedbuff"], goal=2),
    "fedasync": PRESETS["fedasync"],
    "invited": Policy(invite=2, deadline_s=6.0, max_staleness=2),
}
CODECS = ("fp32", "fp16", "int8", "int4", "eden1", "rank2-int8", "top1-2bit")
RULE_DRAWN = ("mean", "mean", "mean", *RULES)
FAULTS = ("die", "die", "die at an effect", "die at an effect", "cut", "cut one way", "lose the link", "leap")


@dataclass(frozen=True)
class Plan:
    """What a seed stands for.

    faults                    (at, what, to whom)
    drop, double, longest_s   of frames while there are faults: shares, and the longest delay
    write_s, told_s           how long a write takes, and the news of it
    """

    settings: Settings
    nodes: tuple[str, ...]
    faults: tuple[tuple[float, str, str], ...]
    drop: float
    double: float
    longest_s: float
    write_s: float
    told_s: float

    @classmethod
    def drawn(cls, seed: int) -> "Plan":
        """Draw a plan; the policies come in turn, so that every few seeds have all of them."""
        rng = np.random.default_rng([seed, 1])
        nodes = tuple("abc"[: rng.integers(1, 4)])
        settings = Settings(
            "test",
            rule=str(np.random.default_rng([seed, 4]).choice(RULE_DRAWN)),
            rounds=list(POLICIES.values())[seed % len(POLICIES)],
            codec=Codecs(str(rng.choice(CODECS)), str(rng.choice(CODECS))),
            outer=Outer("momentum", 1.0, 0.5) if rng.random() < 0.5 else Outer(),
            start_nodes=int(rng.integers(1, len(nodes) + 1)),
            evaluate_every=int(rng.integers(0, 3)),
            pulse=Pulse(2.0, 6.0),
            strikes=1000,
        )
        moments = np.sort(rng.uniform(0.2, 40.0, rng.integers(3, 20)))
        faults = tuple((float(at), str(rng.choice(FAULTS)), str(rng.choice([AGGREGATOR, *nodes]))) for at in moments)
        drop, double = (float(share) for share in rng.choice([0.0, 0.1, 0.3], 2))
        write_s, told_s = (float(seconds) for seconds in rng.choice([0.0, 0.2, 1.0], 2))
        return cls(settings, nodes, faults, drop, double, float(rng.choice([0.0, 0.3, 3.0])), write_s, told_s)


class Mortal:
    """A core that can die between two effects, and whose clock is its own.

    core     None while it is dead
    dies_in  how many effects of the next event that has any are still carried out; None is all
    """

    def __init__(self) -> None:
        self.core: Core | None = None
        self.ahead_s = 0.0
        self.dies_in: int | None = None

    def receive(self, peer: str, frame: Frame, now: float) -> list[Effect]:
        core = self.core
        return [] if core is None else self.happens(core, lambda at: core.receive(peer, frame, at), now)

    def lost(self, peer: str, now: float) -> list[Effect]:
        core = self.core
        return [] if core is None else self.happens(core, lambda at: core.lost(peer, at), now)

    def tick(self, now: float) -> list[Effect]:
        core = self.core
        return [] if core is None else self.happens(core, core.tick, now)

    def next_deadline(self) -> float | None:
        at = None if self.core is None else self.core.next_deadline()
        # A little late, or rounding would have it ticked just before its time for ever.
        return None if at is None else at - self.ahead_s + 1e-6

    def happens(self, to: Core, event: Event, now: float) -> list[Effect]:
        """Let an event happen to this core, unless that is no more."""
        if to is not self.core:
            return []
        effects = event(now + self.ahead_s)
        if self.dies_in is None or not effects:
            return effects
        carried_out, self.dies_in, self.core = effects[: self.dies_in], None, None
        return carried_out
