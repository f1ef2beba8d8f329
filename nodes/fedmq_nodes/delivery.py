"""Delivery: the way of an update from training to its verdict. Steps 2 to 4 of the walk of a delta.

It is sent once it is remembered and there is a link, and sent again where the aggregator does not have it, or had no
room for it. What it is and what becomes of it if it is refused, the `outbox` knows; when to ask for it, `contact`.
"""

from dataclasses import replace
from typing import Any

from fedmq.delta import Params, Schema, subtract
from fedmq.effects import Effect, Level, Remember
from fedmq.memory import Memory
from fedmq.messages import Code, Update, Verdict, Welcome
from fedmq.seeds import seed
from fedmq.session import Receipt, Session, State
from fedmq_nodes.contact import Contact
from fedmq_nodes.greeting import Introduction
from fedmq_nodes.outbox import Outbox
from fedmq_nodes.results import Counted, Trained
from fedmq_nodes.voice import Voice


class Delivery:
    """Takes one update after the other to the aggregator."""

    def __init__(self, session: Session, contact: Contact, outbox: Outbox, voice: Voice, name: str) -> None:
        self._name = name
        self._session, self._contact, self._outbox, self._voice = session, contact, outbox, voice
        self._memory = outbox.memory  # as the shell was last asked to keep it

    def pack(self, result: Trained | Counted, before: Params, codec: str, who: Introduction) -> None:
        """Make what was learned the update that waits: to be remembered, to be sent, for its verdict.

        A delta is squeezed; what was counted is packed already.
        """
        number = self._session.seq + 1
        update = Update(
            session=self._session.number,
            seq=number,
            base_version=result.version,
            codec=codec,
            examples=result.examples,
            steps=result.steps,
            loss=result.loss,
            train_s=result.train_s,
        )
        if isinstance(result, Counted):
            self._outbox.put(replace(update, payload=result.payload))
        else:
            delta, drawn = subtract(result.params, before), seed(who.federation, who.name, number)
            self._outbox.fill(update, delta, drawn, result.personal)
        facts = {"base_version": result.version, "loss": round(result.loss, 4)}
        self._voice.log("info", "update.trained", **self._called(number), **facts)

    def unremembered(self) -> list[Effect]:
        """Ask that what the next process must know be remembered, if that has changed since it was last asked for."""
        if (memory := self._outbox.memory) == self._memory:
            return []
        self._memory = memory
        return [Remember(memory)]

    def remembered(self, memory: Memory, now: float) -> None:
        """Take note of what is remembered: an update in it may be sent."""
        if self._outbox.keep(memory):
            self.send(now)

    def send(self, now: float) -> None:
        """Send the update if it is remembered and the link is up; if not, who sees to either does."""
        update = self._outbox.update
        if update is not None and self._outbox.remembered and self._session.state is State.OPEN:
            self._voice.send(update)
            self._contact.spoke(now)
            self._contact.sent_update(now)

    def resume(self, welcome: Welcome, now: float) -> Verdict | None:
        """Send the update if the ledger does not have it, wait for its verdict, or return that if the ledger has it."""
        update = self._outbox.update
        if update is None:
            return None
        if update.seq > welcome.seq:
            self.send(now)
        elif welcome.verdict is None:
            self._contact.awaits_answer(now)
        elif self._session.receive(welcome.verdict, now) is Receipt.FRESH:
            return welcome.verdict
        return None

    def put_off(self, verdict: Verdict, now: float) -> None:
        """The aggregator has no room for the update now: it stays here until it may be sent again."""
        if self._awaits(verdict):
            fields = {"text": verdict.text, "retry_after_s": verdict.retry_after_s}
            self._voice.log("info", "update.put_off", **self._called(verdict.seq), **fields)
            self._contact.deliver_later(verdict.retry_after_s, now)

    def judge(self, verdict: Verdict, schema: Schema) -> bool:
        """Let go of the update if this is the verdict on it; return whether it is."""
        if not self._awaits(verdict):
            return False
        level: Level = "info" if verdict.code is Code.ACCEPTED else "warning"
        facts = {"code": verdict.code.value, "text": verdict.text}
        self._voice.log(level, "update.judged", **self._called(verdict.seq), **facts)
        self._outbox.judge(verdict, schema)
        self._contact.awaits_answer(None)
        return True

    def _called(self, seq: int) -> dict[str, Any]:
        """Return what an update is called in every log, here and at the aggregator."""
        return {"update": f"{self._name}/{seq}", "seq": seq}

    def _awaits(self, verdict: Verdict) -> bool:
        return self._outbox.update is not None and verdict.seq == self._outbox.update.seq
