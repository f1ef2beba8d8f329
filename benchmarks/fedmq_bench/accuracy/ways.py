"""Ways: what is compared, by name. A way says how nodes train, what an update is packed as, and for how many rounds.

Two learn from nobody: `zero-shot` is the frozen model, and in `local` every node trains a head by itself.
`fedclip-paper` has the settings of FedCLIP's authors (arXiv:2302.13485), and `plain` is their loop in plain PyTorch.
`full` is FedAvg of all of CLIP ViT-B/32, which nobody trains here: its bytes are known without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedmq import config
from fedmq.errors import ConfigInvalid
from fedmq.plan import Codecs, Settings
from fedmq.rounds import PRESETS
from fedmq.stats.settings import Statistics
from fedmq.weight import Weighting
from fedmq_bench import reference
from fedmq_models.methods import Adapting, method
from fedmq_models.training import Training

PAPER_ROUNDS = 200
CLIP_BYTES = 4 * 151_277_313  # CLIP ViT-B/32 with both towers, in float32
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
TEXT_WEIGHTS = (1.0, 2.0, 3.0, 5.0, 8.0)
STATISTICS = Training(method="statistics")


@dataclass(frozen=True)
class Way:
    """One way to learn in a federation.

    rounds     at most; the best on validation data is taken
    every      so many rounds, versions are measured
    by         what an update weighs
    lrs        learning rates that validation data choose from; none leaves the training's own
    head       in closed form, of statistics; None trains
    searches   whether validation data choose its penalty and text weight; otherwise the aggregator chooses a penalty
    """

    training: Training
    up: str = "int8"
    rounds: int = 20
    every: int = 1
    by: str = "examples"
    lrs: tuple[float, ...] = ()
    head: Statistics | None = None
    searches: bool = True

    @property
    def adapts(self) -> bool:
        """Whether it needs features of a target domain."""
        return isinstance(method(self.training.method), Adapting)

    @property
    def needs_text(self) -> bool:
        """Whether every class must have a text feature."""
        return self.head is None

    def candidates(self) -> list[Training]:
        """Return the trainings to choose from."""
        return [replace(self.training, lr=lr) for lr in self.lrs] or [self.training]

    def settings(self, statistics: Statistics | None = None) -> Settings:
        """Return those of the federation."""
        weight = Weighting(by="updates" if self.by == "updates" else "examples")
        return Settings(
            "accuracy",
            rounds=PRESETS["sync"],
            weight=weight,
            codec=Codecs(self.up, "fp32"),
            statistics=statistics or Statistics(),
            evaluate_every=self.every,
        )


ZERO_SHOT, LOCAL, PLAIN, FULL = "zero-shot", "local", "plain", "full"
_HEAD_LRS = (1e-3, 1e-2)
_PAPER = Way(reference.TRAINING, "fp32", PAPER_ROUNDS, 10, by="updates")
_FEDCLIP = Way(Training())
WAYS: Mapping[str, Way] = {
    ZERO_SHOT: Way(Training(method="linear"), rounds=0),
    LOCAL: Way(Training(method="linear")),
    PLAIN: _PAPER,
    FULL: Way(Training(), "fp32", PAPER_ROUNDS),
    "fedclip-paper": _PAPER,
    "fedclip": _FEDCLIP,
    "fedclip-rank4": replace(_FEDCLIP, up="rank4-int8"),
    "fedprox": replace(_FEDCLIP, training=Training(prox=0.1)),
    "moon": replace(_FEDCLIP, training=Training(moon=1.0)),
    "faaclip": replace(_FEDCLIP, training=Training(method="faaclip")),
    "facmic": replace(_FEDCLIP, training=Training(method="facmic")),
    "linear": Way(Training(method="linear"), lrs=_HEAD_LRS),
    "personal": Way(Training(method="personal")),
    "fedot": Way(Training(method="fedot")),
    "means": Way(STATISTICS, "stats-fp16", 1, head=Statistics("means")),
    "discriminant": Way(STATISTICS, "stats-fp16", 1, head=Statistics("discriminant")),
    "ridge": Way(STATISTICS, "stats-fp16", 1, head=Statistics("ridge")),
    "ridge-rank4": Way(STATISTICS, "stats-rank4", 1, head=Statistics("ridge")),
    "even": Way(STATISTICS, "stats-fp16", 1, head=Statistics("even")),
    "even-rank4": Way(STATISTICS, "stats-rank4", 1, head=Statistics("even")),
    "ridge-auto": Way(STATISTICS, "stats-fp16", 1, head=Statistics("ridge"), searches=False),
    "even-rank4-auto": Way(STATISTICS, "stats-rank4", 1, head=Statistics("even"), searches=False),
}
DEFAULT = tuple(name for name in WAYS if name != PLAIN)


def ways(names: str, rounds: int | None, overrides: Sequence[str]) -> dict[str, Way]:
    """Return the ways of these names, with so many rounds and these settings of all tasks.

    raises     ConfigInvalid with what there is
    """
    table: dict[str, Any] = {}
    config.override(table, overrides)
    if unknown := set(table) - {"task"}:
        raise ConfigInvalid(f"--set {min(unknown)}: only keys of task can be set here")
    wanted = [name.strip() for name in names.split(",")] if names else list(DEFAULT)
    if missing := [name for name in wanted if name not in WAYS]:
        raise ConfigInvalid(f"--method is {missing[0]!r}; it is some of {', '.join(WAYS)}")
    return {name: _changed(WAYS[name], rounds, table.get("task", {})) for name in wanted}


def _changed(way: Way, rounds: int | None, task: Mapping[str, Any]) -> Way:
    if way.head is None and task:
        whole = {**_plain(way.training), **task}
        way = replace(way, training=config.parse(Training, whole, "--set", "task."))
        way = replace(way, lrs=() if "lr" in task else way.lrs)
    if rounds is not None and way.head is None and way.rounds:
        way = replace(way, rounds=rounds, every=min(way.every, rounds))
    return replace(way, every=way.every if not way.rounds or way.rounds % way.every == 0 else 1)


def _plain(training: Training) -> dict[str, Any]:
    """Return what differs from the defaults, as a file would say it."""
    defaults = Training()
    names = (name for name in vars(training) if getattr(training, name) != getattr(defaults, name))
    return {name: getattr(training, name) for name in names}
