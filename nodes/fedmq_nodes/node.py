"""A node: frames, results and time in, effects out. It awaits nothing, reads no clock and trains nothing itself.

It greets until it is welcomed, gets its features ready, trains when it is asked to, and keeps an update until that has
its verdict, beyond the end of its process if need be. It goes on training while the link is down. Whatever gets lost,
saying hello again repairs it.
"""

from dataclasses import dataclass

from numpy.random import Generator

from fedmq import codec
from fedmq.delta import Params, Schema, subtract
from fedmq.effects import Cancel, Done, Effect, Evaluate, Level, Log, Prepare, Remember, Send, Train
from fedmq.errors import BadFrame, BadPayload, RemoteError
from fedmq.memory import Memory
from fedmq.messages import (
    Bye,
    Code,
    Message,
    Model,
    Ping,
    Ready,
    Refuse,
    Report,
    Task,
    Update,
    Verdict,
    Welcome,
)
from fedmq.seeds import seed
from fedmq.session import Receipt, Session, Side, State
from fedmq.transports import AGGREGATOR
from fedmq.versions import adopt
from fedmq_nodes.contact import Contact
from fedmq_nodes.greeting import Introduction, problem
from fedmq_nodes.outbox import Outbox


@dataclass(frozen=True)
class Trained:
    """What training from version `version` gave."""

    version: int
    params: Params
    examples: int
    steps: int
    loss: float
    train_s: float = 0.0


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation gave; version None is the frozen model alone."""

    version: int | None
    examples: int
    correct: int
    loss: float


class Node:
    """One edge node's side of a federation.

    version    newest version held, -1 none; `params` are its values
    progress   (done, total) of what the node is at, for the status table
    """

    def __init__(
        self, who: Introduction, session: int, rng: Generator, now: float, memory: Memory | None = None
    ) -> None:
        self.who = who
        self.version = -1
        self.params: Params | None = None
        self.progress = (0, 0)
        self._session = Session(Side.NODE, session, now)
        self._contact = Contact(self._session, rng, now)
        self._outbox = Outbox(memory or Memory(), self._session)
        self._memory = self._outbox.memory  # as the shell was last asked to keep it
        self._welcome: Welcome | None = None
        self._ready: Ready | None = None
        self._early: Model | None = None  # a whole version that came before the welcome that it belongs to
        self._origin = 0  # of the last version that came without its welcome
        self._task: int | None = None  # version to train from, at least
        self._base: tuple[int, Params] | None = None  # what is being trained from
        # Newest version trained from.
        self._trained = -1 if self.outbox is None else self.outbox.base_version
        self._evaluating: set[int | None] = set()
        self._evaluated = -1  # newest version evaluated, or about to be
        self._last: int | None = None  # the federation's last version, once it has finished
        self._done = False
        self._effects: list[Effect] = []

    # Events

    def receive(self, peer: str, frame: codec.Frame, now: float) -> list[Effect]:
        """Take one frame from the aggregator."""
        if self._done:
            return []
        try:
            message = codec.decode(frame)
            published = isinstance(message, Model) and message.origin
            if self._welcome is None and not (published or isinstance(message, Welcome | Refuse)):
                return []  # it has overtaken the welcome, which says it too, or brings it again
            if self._session.receive(message, now) is Receipt.FRESH:
                self._take(message, now)
        except RemoteError as error:
            if isinstance(error, BadFrame) and error.reason == "protocol_mismatch":
                self._finish(error.reason, str(error), refused=True)
            else:
                self._log("warning", "frame.refused", peer=peer, reason=error.reason, text=str(error))
        return self._collect()

    def lost(self, peer: str, now: float) -> list[Effect]:
        """The link cannot take a frame now. A greeting is repeated anyway; anything else makes one necessary."""
        if self._session.state is State.OPEN:
            self._regreet(f"no link to {peer}", now)
        elif not self._done:
            self._contact.unsent(now)
        return self._collect()

    def tick(self, now: float) -> list[Effect]:
        """Look at the clock; call it once at the start, and whenever `next_deadline` has passed."""
        if self._done:
            return []
        if (why := self._contact.dead(now)) is not None:
            self._regreet(why, now)
        if self._contact.delivery_due(now):
            self._deliver(now)
        if self._contact.hello_due(now):
            self._say_hello()
        if self._contact.ping_due(now):
            self._send(Ping(self._session.number, self.version, self.activity, *self.progress))
        return self._collect()

    def prepared(self, examples: int, tests: int, now: float) -> list[Effect]:
        """The features are ready: `examples` to train on, `tests` to evaluate on."""
        if self._done:
            return []
        self._ready = Ready(self._session.number, examples, tests)
        self.progress = (0, 0)
        if tests:
            self._evaluate(None)
        if self._session.state is State.OPEN:
            self._send(self._ready)
            self._contact.spoke(now)
        return self._collect()

    def trained(self, result: Trained, now: float) -> list[Effect]:
        """Training is done: squeeze the difference, have it remembered, and keep it until it has a verdict."""
        if self._done or self._base is None or self._base[0] != result.version or self._welcome is None:
            return []
        before, self._base = self._base[1], None
        number = self._session.seq + 1
        update = Update(
            session=self._session.number,
            seq=number,
            base_version=result.version,
            codec=self._welcome.up,
            examples=result.examples,
            steps=result.steps,
            loss=result.loss,
            train_s=result.train_s,
        )
        self._outbox.fill(update, subtract(result.params, before), seed(self.who.federation, self.who.name, number))
        self._log("info", "update.trained", seq=number, base_version=result.version, loss=round(result.loss, 4))
        return self._collect()

    def remembered(self, memory: Memory, now: float) -> list[Effect]:
        """This memory would survive the process: the update in it may be sent."""
        if not self._done and self._outbox.keep(memory):
            self._deliver(now)
        return self._collect()

    def evaluated(self, result: Evaluated, now: float) -> list[Effect]:
        """An evaluation is done: report it. A report is lost if the link is down; the next version brings another."""
        if self._done:
            return []
        self._evaluating.discard(result.version)
        if self._session.state is State.OPEN:
            report = Report(self._session.number, result.version, result.examples, result.correct, result.loss)
            self._send(report)
            self._contact.spoke(now)
        self._leave_after_last()
        return self._collect()

    def leave(self, reason: str, text: str = "", *, refused: bool = False) -> list[Effect]:
        """Say goodbye: the person at this end wants it, or the work cannot be done here."""
        if self._session.state is State.OPEN:
            self._send(Bye(self._session.number, reason))
        self._finish(reason, text, refused=refused)
        return self._collect()

    def next_deadline(self) -> float | None:
        """When to call tick next; None when there is nothing left to wait for."""
        return None if self._done else self._contact.next_deadline()

    @property
    def outbox(self) -> Update | None:
        """The update that waits for its verdict; there is at most one."""
        return self._outbox.update

    @property
    def activity(self) -> str:
        """One word for the status table."""
        if self._ready is None:
            return "encoding"
        if self._base is not None:
            return "training"
        return "sending" if self.outbox is not None else "idle"

    # Messages

    def _take(self, message: Message, now: float) -> None:
        match message:
            case Welcome():
                self._settle_in(message, now)
            case Model():
                self._adopt(message, now)
            case Task():
                self._task = message.version
                self._train()
            case Verdict(code=Code.BUSY):
                self._put_off(message, now)
            case Verdict():
                self._learn(message)
            case Refuse(reason="no_session"):
                self._contact.greet_anew(now)
            case Refuse():
                self._finish(message.reason, message.text, refused=message.reason != "finished")
            case Bye():
                self._last = message.version
                self._base = self._task = None
                self._outbox.clear()
                self._effects.append(Cancel())
                self._leave_after_last()

    def _settle_in(self, welcome: Welcome, now: float) -> None:
        """Take up the conversation where the aggregator knows it to be."""
        before, self._welcome = self._welcome, welcome
        if (why := problem(welcome, before)) is not None:
            self._finish(*why, refused=True)
            return
        self._contact.welcomed(welcome.heartbeat_s, now)
        if 0 <= welcome.disowned == self.version:
            self._log("warning", "version.dropped", held=self.version, newest=welcome.version)
            self.version, self.params = -1, None
        for event, fields in self._outbox.meet(welcome):
            self._log("warning", event, **fields)
        if self.outbox is None and self._base is None:
            # What the ledger has lost is trained again.
            self._trained = welcome.trained
        self._resume_outbox(welcome, now)
        if before is None:
            self._log("info", "node.welcomed", version=welcome.version, seq=welcome.seq)
            self._effects.append(Prepare(welcome.task, bytes(welcome.arrays), Schema(welcome.schema)))
        elif self._ready is not None:
            self._send(self._ready)
        if self._early is not None and self._early.origin == welcome.origin:
            early, self._early = self._early, None
            self._adopt(early, now)

    def _resume_outbox(self, welcome: Welcome, now: float) -> None:
        """Send the update that the ledger does not have, take the verdict on one that it has, or wait for it."""
        if self.outbox is None:
            return
        if self.outbox.seq > welcome.seq:
            self._deliver(now)
        elif welcome.verdict is None:
            self._contact.awaits_answer(now)
        elif self._session.receive(welcome.verdict, now) is Receipt.FRESH:
            self._learn(welcome.verdict)

    def _adopt(self, model: Model, now: float) -> None:
        if self._welcome is None or model.origin != self._welcome.origin:
            # What a broker kept of a process that is no more, or the first word of the next one: the welcome will tell.
            if model.since < 0:
                self._early = model
            if self._session.state is State.OPEN or model.origin != self._origin:
                self._contact.greet_anew(now)
            self._origin = model.origin
            return
        if model.version <= self.version:
            return
        if self.params is None and model.since >= 0:
            return  # published for those who hold the version before; what this node needs is sent to it
        try:
            params = adopt(model, self.params, self.version, Schema(self._welcome.schema))
        except BadPayload as error:
            self._log("warning", "version.refused", version=model.version, text=str(error))
            self.version, self.params, params = -1, None, None
        if params is None:
            self._contact.greet_anew(now)
            return
        self.version, self.params = model.version, params
        every = self._welcome.evaluate_every
        if every and self.version % every == 0:
            self._evaluate(self.version)
        self._train()
        self._leave_after_last()

    def _learn(self, verdict: Verdict) -> None:
        if self.outbox is None or verdict.seq != self.outbox.seq:
            return
        level: Level = "info" if verdict.code is Code.ACCEPTED else "warning"
        self._log(level, "update.judged", seq=verdict.seq, code=verdict.code.value, text=verdict.text)
        if verdict.code is not Code.ACCEPTED:
            # It may be asked to train from the same version again.
            self._trained = -1
        assert self._welcome is not None
        self._outbox.judge(verdict, Schema(self._welcome.schema))
        self._contact.awaits_answer(None)
        self._train()

    def _put_off(self, verdict: Verdict, now: float) -> None:
        """The aggregator has no room for the update now: it stays here until it may be sent again."""
        if self.outbox is not None and verdict.seq == self.outbox.seq:
            self._log("info", "update.put_off", seq=verdict.seq, text=verdict.text, retry_after_s=verdict.retry_after_s)
            self._contact.deliver_later(verdict.retry_after_s, now)

    # What follows from several of them

    def _train(self) -> None:
        """Begin the task if there is one, its version is here, and the last update has its verdict."""
        if self._task is None or self.params is None or self._ready is None or self._base or self.outbox:
            return
        if self.version < self._task or self.version <= self._trained:
            return
        self._task, self._trained = None, self.version
        self._base = (self.version, self.params)
        self._effects.append(Train(self.version, self.params))

    def _evaluate(self, version: int | None) -> None:
        if self._ready is None or not self._ready.tests:
            return
        self._evaluating.add(version)
        self._evaluated = max(self._evaluated, -1 if version is None else version)
        self._effects.append(Evaluate(version, None if version is None else self.params))

    def _deliver(self, now: float) -> None:
        """Send the update if it is remembered and the link is up; if not, who sees to either does."""
        if self.outbox is not None and self._outbox.remembered and self._session.state is State.OPEN:
            self._send(self.outbox)
            self._contact.spoke(now)
            self._contact.awaits_answer(now)

    def _leave_after_last(self) -> None:
        """Once the federation has finished: evaluate its last version, report, and go."""
        if self._last is None or self.version < self._last or self._done:
            return
        if self._evaluated < self.version:
            self._evaluate(self.version)
        if not self._evaluating:
            self._send(Bye(self._session.number, "finished"))
            self._finish("finished", f"the federation has finished with version {self._last}", refused=False)

    def _regreet(self, why: str, now: float) -> None:
        self._log("warning", "link.lost", reason=why)
        self._contact.greet_anew(now)

    def _say_hello(self) -> None:
        if self._contact.greetings > 1:
            self._log("info", "aggregator.awaited", greetings=self._contact.greetings)
        self._send(self.who.hello(self._session.number, self.version, self.params))

    def _finish(self, reason: str, text: str, *, refused: bool) -> None:
        self._done = True
        self._session.state = State.CLOSED
        self._effects.append(Done(reason, text, refused))

    def _send(self, message: Message) -> None:
        self._effects.append(Send((AGGREGATOR,), codec.encode(message)))

    def _log(self, level: Level, event: str, **fields: object) -> None:
        self._effects.append(Log(level, event, fields))

    def _collect(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        if (memory := self._outbox.memory) != self._memory:
            self._memory = memory
            effects.insert(0, Remember(memory))
        return effects
