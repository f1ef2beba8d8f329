"""The learner: which version a node holds, and what it does with it. Steps 12 and 1 of the walk of a delta.

It trains and evaluates nothing itself: it asks for either, once everything that this takes is there. It knows no link
and no verdict.
"""

from fedmq.delta import Params, Schema
from fedmq.effects import Evaluate, Train
from fedmq.errors import BadPayload
from fedmq.messages import Model, Ready
from fedmq.versions import adopt
from fedmq_nodes.voice import Voice


class Learner:
    """What one node holds and does.

    version    newest version held, -1 none; `params` are its values
    trained    newest version trained from, -1 none
    ready      what there is to train and evaluate on; None until the features are ready
    task       version to train from, at least; None is no task
    personal   what this node alone has learned, and keeps; None is nothing
    """

    def __init__(self, voice: Voice, trained: int, personal: Params | None = None) -> None:
        self.version = -1
        self.params: Params | None = None
        self.trained = trained
        self.ready: Ready | None = None
        self.task: int | None = None
        self.personal = personal
        self._voice = voice
        self._base: tuple[int, Params] | None = None  # what is being trained from
        self._evaluating: set[int | None] = set()
        self._evaluated = -1  # newest version evaluated, or about to be

    @property
    def training(self) -> bool:
        """Whether training is under way."""
        return self._base is not None

    def wants(self, model: Model) -> bool:
        """Whether this version is of use: newer, and not published only for others, who hold the one before it.

        One that is at work should hold it, and must not let it pass.
        """
        fits = model.since < 0 or model.since == self.version or (self.params is not None and self.ready is not None)
        return model.version > self.version and fits

    def adopt(self, model: Model, schema: Schema) -> bool:
        """Hold this version from now on, or return False: it is damaged, or needs one before it that is not held."""
        try:
            params = adopt(model, self.params, self.version, schema)
        except BadPayload as error:
            self._voice.log("warning", "version.refused", version=model.version, text=str(error))
            self.drop()
            return False
        if params is None:
            return False
        self.version, self.params = model.version, params
        return True

    def drop(self) -> None:
        """Hold no version."""
        self.version, self.params = -1, None

    def train(self) -> None:
        """Begin the task, if there is one, its version is here, and nothing is being trained."""
        if self.task is None or self.params is None or self.ready is None or self.training:
            return
        if self.version < self.task or self.version <= self.trained:
            return
        self.task, self.trained = None, self.version
        self._base = (self.version, self.params)
        self._voice.add(Train(self.version, self.params, self.personal))

    def finish(self, version: int) -> Params | None:
        """Take note that training from this version is done; return what it began with, None if it is not wanted."""
        if self._base is None or self._base[0] != version:
            return None
        before, self._base = self._base[1], None
        return before

    def stop(self) -> None:
        """Train no more; a result that still comes is not wanted."""
        self.task = self._base = None

    def evaluate(self, version: int | None) -> None:
        """Have the version that is held measured, or (None) the frozen model alone, if there is anything to test on."""
        if self.ready is None or not self.ready.tests:
            return
        self._evaluating.add(version)
        self._evaluated = max(self._evaluated, -1 if version is None else version)
        frozen = version is None
        self._voice.add(Evaluate(version, None if frozen else self.params, None if frozen else self.personal))

    def evaluated(self, version: int | None) -> None:
        """Take note that an evaluation is done."""
        self._evaluating.discard(version)

    def through_with(self, last: int) -> bool:
        """Whether the federation's last version is here and evaluated; if it only is here, have it evaluated."""
        if self.version < last:
            return False
        if self._evaluated < self.version:
            self.evaluate(self.version)
        return not self._evaluating
