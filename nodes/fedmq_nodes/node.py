"""A node: frames, results and time in, effects out. It awaits nothing, reads no clock and trains nothing itself.

It greets until it is welcomed, gets its features ready, trains when it is asked to, and keeps an update until that has
its verdict, beyond the end of its process if need be. It goes on training while the link is down. Whatever gets lost,
saying hello again repairs it.

It composes: `contact` knows when to speak, `learner` what is held and worked at, `delivery` sees an update to its
verdict, and `voice` says it. What is left for this file is the conversation: what each message and each result leads
to.
"""

from numpy.random import Generator

from fedmq import codec
from fedmq.delta import Params, Schema
from fedmq.effects import Cancel, Done, Effect, Prepare
from fedmq.errors import BadFrame, RemoteError
from fedmq.memory import Memory
from fedmq.messages import Bye, Code, Message, Model, Ping, Pong, Ready, Refuse, Report, Task, Update, Verdict, Welcome
from fedmq.session import Receipt, Session, Side, State
from fedmq.stats.forms import FORMS
from fedmq_nodes.contact import Contact
from fedmq_nodes.delivery import Delivery
from fedmq_nodes.greeting import Introduction, problem
from fedmq_nodes.learner import Learner
from fedmq_nodes.outbox import Outbox
from fedmq_nodes.results import Counted, Evaluated, Trained
from fedmq_nodes.voice import Voice

__all__ = ["Evaluated", "Node", "Trained"]


class Node:
    """One edge node's side of a federation.

    progress   (done, total) of what the node is at, for the status table
    """

    def __init__(
        self, who: Introduction, session: int, rng: Generator, now: float, memory: Memory | None = None
    ) -> None:
        self.who = who
        self.progress = (0, 0)
        self._session = Session(Side.NODE, session, now)
        self._voice = Voice()
        self._contact = Contact(self._session, rng, now)
        self._outbox = Outbox(memory or Memory(), self._session)
        self._delivery = Delivery(self._session, self._contact, self._outbox, self._voice, who.name)
        trained = -1 if self.outbox is None else self.outbox.base_version
        self._learner = Learner(self._voice, trained, self._outbox.personal)
        self._welcome: Welcome | None = None
        self._early: Model | None = None  # a whole version that came before the welcome that it belongs to
        self._origin = 0  # of the last version that came without its welcome
        self._last: int | None = None  # the federation's last version, once it has finished
        self._done = False

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
                self._voice.log("warning", "frame.refused", peer=peer, reason=error.reason, text=str(error))
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
            self._delivery.send(now)
        if self._contact.hello_due(now):
            self._say_hello()
        if self._contact.ping_due(now):
            self._voice.send(Ping(self._session.number, self.version, self.activity, *self.progress))
        return self._collect()

    def prepared(self, examples: int, tests: int, now: float) -> list[Effect]:
        """The features are ready: `examples` to train on, `tests` to evaluate on."""
        if self._done:
            return []
        self._learner.ready = Ready(self._session.number, examples, tests)
        self.progress = (0, 0)
        self._learner.evaluate(None)
        if self._session.state is State.OPEN:
            self._voice.send(self._learner.ready)
            self._contact.spoke(now)
        return self._collect()

    def trained(self, result: Trained | Counted, now: float) -> list[Effect]:
        """Training is done: squeeze the difference, have it remembered, and keep it until it has a verdict."""
        if not self._done and self._welcome is not None:
            before = self._learner.finish(result.version)
            if before is not None:
                self._delivery.pack(result, before, self._welcome.up, self.who)
                self._learner.personal = self._outbox.personal
        return self._collect()

    def remembered(self, memory: Memory, now: float) -> list[Effect]:
        """This memory would survive the process: the update in it may be sent."""
        if not self._done:
            self._delivery.remembered(memory, now)
        return self._collect()

    def evaluated(self, result: Evaluated, now: float) -> list[Effect]:
        """An evaluation is done: report it. A report is lost if the link is down; the next version brings another."""
        if self._done:
            return []
        self._learner.evaluated(result.version)
        if self._session.state is State.OPEN:
            measured = (result.version, result.examples, result.correct, result.loss, result.personal)
            self._voice.send(Report(self._session.number, *measured))
            self._contact.spoke(now)
        self._leave_after_last()
        return self._collect()

    def leave(self, reason: str, text: str = "", *, refused: bool = False) -> list[Effect]:
        """Say goodbye: the person at this end wants it, or the work cannot be done here."""
        if self._session.state is State.OPEN:
            self._voice.send(Bye(self._session.number, reason))
        self._finish(reason, text, refused=refused)
        return self._collect()

    def next_deadline(self) -> float | None:
        """When to call tick next; None when there is nothing left to wait for."""
        return None if self._done else self._contact.next_deadline()

    @property
    def version(self) -> int:
        """The newest version held, -1 none."""
        return self._learner.version

    @property
    def params(self) -> Params | None:
        """The values of that version."""
        return self._learner.params

    @property
    def personal(self) -> Params | None:
        """What this node has learned and keeps to itself."""
        return self._outbox.personal

    @property
    def outbox(self) -> Update | None:
        """The update that waits for its verdict; there is at most one."""
        return self._outbox.update

    @property
    def connected(self) -> bool:
        """Whether the conversation is open."""
        return self._session.state is State.OPEN

    @property
    def activity(self) -> str:
        """One word for the status table."""
        if self._learner.ready is None:
            return "encoding"
        if self._learner.training:
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
                self._learner.task = message.version
                self._train()
            case Verdict(code=Code.BUSY):
                self._delivery.put_off(message, now)
            case Verdict():
                self._learn(message)
            case Pong():
                self._contact.ponged(now)
            case Refuse(reason="no_session"):
                self._contact.greet_anew(now)
            case Refuse():
                self._finish(message.reason, message.text, refused=message.reason != "finished")
            case Bye():
                self._last = message.version
                self._learner.stop()
                self._outbox.clear()
                self._voice.add(Cancel())
                self._leave_after_last()

    def _settle_in(self, welcome: Welcome, now: float) -> None:
        """Take up the conversation where the aggregator knows it to be."""
        before, self._welcome = self._welcome, welcome
        if (why := problem(welcome, before)) is not None:
            self._finish(*why, refused=True)
            return
        self._contact.welcomed(welcome.heartbeat_s, now)
        if 0 <= welcome.disowned == self.version:
            self._voice.log("warning", "version.dropped", held=self.version, newest=welcome.version)
            self._learner.drop()
        for event, fields in self._outbox.meet(welcome):
            self._voice.log("warning", event, **fields)
        self._learner.personal = self._outbox.personal
        if self.outbox is None and not self._learner.training:
            # What the ledger has lost is trained again; statistics are sent whenever they are asked for.
            self._learner.trained = -1 if welcome.up in FORMS else welcome.trained
        if (verdict := self._delivery.resume(welcome, now)) is not None:
            self._learn(verdict)
        if before is None:
            self._voice.log("info", "node.welcomed", version=welcome.version, seq=welcome.seq)
            self._voice.add(Prepare(welcome.task, bytes(welcome.arrays), Schema(welcome.schema), welcome.up))
        elif self._learner.ready is not None:
            self._voice.send(self._learner.ready)
        if self._early is not None and self._early.origin == welcome.origin:
            early, self._early = self._early, None
            self._adopt(early, now)

    def _adopt(self, model: Model, now: float) -> None:
        if self._welcome is None or model.origin != self._welcome.origin:
            # What a broker kept of a process that is no more, or the first word of the next one: the welcome will tell.
            if model.since < 0:
                self._early = model
            in_vain = self._contact.greetings > 1 and model.origin != self._origin
            if self._session.state is State.OPEN or in_vain:
                self._contact.greet_anew(now)
            self._origin = model.origin
            return
        if not self._learner.wants(model):
            return
        if not self._learner.adopt(model, Schema(self._welcome.schema)):
            self._contact.greet_anew(now)
            return
        every = self._welcome.evaluate_every
        if every and model.version % every == 0:
            self._learner.evaluate(model.version)
        self._train()
        self._leave_after_last()

    def _learn(self, verdict: Verdict) -> None:
        assert self._welcome is not None
        if not self._delivery.judge(verdict, Schema(self._welcome.schema)):
            return
        if verdict.code is not Code.ACCEPTED:
            # It may be asked to train from the same version again.
            self._learner.trained = -1
        self._train()

    # What follows from several of them

    def _train(self) -> None:
        """Begin the task, unless the last update still waits for its verdict."""
        if self.outbox is None:
            self._learner.train()

    def _leave_after_last(self) -> None:
        """Once the federation has finished: evaluate its last version, report, and go."""
        if self._last is None or self._done or not self._learner.through_with(self._last):
            return
        self._voice.send(Bye(self._session.number, "finished"))
        self._finish("finished", f"the federation has finished with version {self._last}", refused=False)

    def _regreet(self, why: str, now: float) -> None:
        self._voice.log("warning", "link.lost", reason=why)
        self._contact.greet_anew(now)

    def _say_hello(self) -> None:
        if self._contact.greetings > 1:
            self._voice.log("info", "aggregator.awaited", greetings=self._contact.greetings)
        self._voice.send(self.who.hello(self._session.number, self.version, self.params))

    def _finish(self, reason: str, text: str, *, refused: bool) -> None:
        self._done = True
        self._session.state = State.CLOSED
        self._voice.add(Done(reason, text, refused))

    def _collect(self) -> list[Effect]:
        return self._delivery.unremembered() + self._voice.collect()
