"""The greeting: what a node says of itself, and whether it can do what it is then asked to."""

from dataclasses import dataclass

from fedmq import codec
from fedmq.compress import CODECS
from fedmq.delta import Params
from fedmq.messages import Hello, Welcome
from fedmq.stats.forms import FORMS
from fedmq.versions import proof


@dataclass(frozen=True)
class Introduction:
    """What a node says of itself before it knows the task."""

    federation: str
    name: str
    feature_space: str
    dim: int
    methods: tuple[str, ...]
    software: str = ""

    def hello(self, session: int, version: int, params: Params | None) -> Hello:
        """Return the message that says it, and which version is held."""
        return Hello(
            session=session,
            federation=self.federation,
            name=self.name,
            feature_space=self.feature_space,
            dim=self.dim,
            methods=self.methods,
            codecs=(*CODECS, *FORMS),
            version=version,
            proof=b"" if params is None else proof(params),
            software=self.software,
            protocols=(codec.OLDEST, codec.PROTOCOL),
        )


def problem(welcome: Welcome, before: Welcome | None) -> tuple[str, str] | None:
    """Return why a node cannot do what the welcome asks for, as (reason, sentence), or None: it can.

    before     the last one that this process had; another task, or another run, is another federation to it
    """
    if welcome.up not in CODECS and welcome.up not in FORMS:
        known = ", ".join((*CODECS, *FORMS))
        return "unknown_codec", f"the federation wants updates as {welcome.up!r}, this node knows {known}"
    if before is not None and (welcome.task, welcome.schema) != (before.task, before.schema):
        return "another_task", "the federation at this address now learns something else; join it again"
    if before is not None and before.run not in ("", welcome.run):
        return "another_run", f"the federation has begun anew: run {welcome.run}, was {before.run}; join it again"
    return None
