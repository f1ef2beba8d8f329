"""The outbox: the update that waits for its verdict, and what the next one carries of those that came too late.

It sends nothing and reads no file. The node asks it what a welcome and a verdict mean for it, and hands its memory to
the shell whenever that has changed. An update is sent only once it is remembered, so a node that is killed sends the
same one again, and never another with the same seq.

An update that is refused because it came too late was not wrong, only old. It returns, and is added to what the next
one says (error feedback keeps its mass in this way, Karimireddy et al. 2019, arXiv:1901.09847), within two bounds: it
is damped for its age as an aggregator damps by default, (1 + staleness)^-1/2, and what is carried is never longer than
what it is carried with, so that the newest word of a node is at least half of what it says.

A codec with feedback is only correct if nothing is lost between what is trained and what is accepted. With one, the
residual also holds what the codec lost, and what returns is neither damped nor bounded (`fedmq_nodes.feedback`).
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fedmq.compress import CODECS
from fedmq.compress import codec as compression
from fedmq.delta import Arrays, Delta, Params, Schema, norm
from fedmq.errors import BadPayload
from fedmq.memory import Memory
from fedmq.messages import Code, Update, Verdict, Welcome
from fedmq.session import Session
from fedmq.stats.forms import FORMS
from fedmq_nodes.feedback import regained, squeezed

# Refused for when or how they came. Every other refusal says that the values are unusable, or that nobody wants any.
RETURNING = frozenset({Code.TOO_STALE, Code.UNKNOWN_VERSION, Code.WRONG_CODEC})

Dropped = tuple[str, Mapping[str, object]]  # an event, and what is to be said of it


class Outbox:
    """One node's unjudged update and its residual.

    update         waits for its verdict; there is at most one
    residual       what the next one carries, as its codec has it; None is nothing
    remembered     whether the update would survive this process, and may therefore be sent
    personal       what the node keeps to itself of this run; here because it is remembered with the update that was
                   learned beside it, or not at all
    """

    def __init__(self, memory: Memory, session: Session) -> None:
        session.seq = memory.seq
        # Statistics are of the data that a process had. The next one counts its own.
        unsent = None if memory.update is None or memory.update.codec in FORMS else memory.update
        self.update = unsent and replace(unsent, session=session.number)
        self.residual = memory.residual
        self.personal = memory.personal
        self.remembered = unsent is not None
        self._session = session
        self._run, self._used = memory.run, memory.used

    @property
    def memory(self) -> Memory:
        """What the next process must know."""
        return Memory(self._run, self._session.seq, self.update, self.residual, self.personal)

    def fill(self, update: Update, delta: Delta, seed: int, personal: Params | None = None) -> None:
        """Make this update, packed from `delta` and what that carries, the one that waits."""
        self.personal = personal
        codec = compression(update.codec)
        if codec.feedback:
            payload, self.residual = squeezed(codec, delta, self.residual, seed)
        else:
            if self.residual is not None and math.isfinite(norm(delta)):
                delta, self.residual = carried(delta, self.residual), None
            payload = codec.pack(delta, seed)
        self.put(replace(update, payload=payload))

    def put(self, update: Update) -> None:
        """Make this update, which has its payload, the one that waits."""
        self.update = update
        self.remembered, self._used = False, update.seq

    def keep(self, memory: Memory) -> bool:
        """Take note of what is on the disk now; return whether the update may be sent since then."""
        before, self.remembered = self.remembered, self.update is not None and memory.update is self.update
        return self.remembered and not before

    def meet(self, welcome: Welcome) -> list[Dropped]:
        """Let go of what is another run's, or may be in this one's ledger already; return what that was."""
        dropped: list[Dropped] = []
        if self._run and self._run != welcome.run:
            if self.update is not None or self.residual is not None or self.personal is not None:
                dropped.append(("memory.dropped", {"seq": self._used, "run": self._run, "found": welcome.run}))
            self.update = self.residual = self.personal = None
            self._session.seq = self._used = welcome.seq
        self._run = welcome.run
        if self.update is not None and self.update.seq < welcome.seq:
            # Another process of this node went on without this memory; whether this update was judged is not told.
            dropped.append(("update.dropped", {"seq": self.update.seq, "newest": welcome.seq}))
            self.update = None
        if self.residual is not None and (self._used < welcome.seq or self.residual.schema.entries != welcome.schema):
            # An update that is not remembered here may have carried it.
            dropped.append(("residual.dropped", {"seq": self._used, "newest": welcome.seq}))
            self.residual = None
        if self.update is None:
            self._session.seq = max(self._session.seq, welcome.seq)
        self._used = max(self._used, welcome.seq)
        return dropped

    def judge(self, verdict: Verdict, schema: Schema) -> None:
        """Let go of the update; what was refused for being late alone returns to the residual.

        The residual that an update leaves is of the same making: where one was refused for its length, both go, or the
        next ones would be refused for it too.
        """
        update, self.update = self.update, None
        if update is None or update.codec not in CODECS:
            return
        codec = compression(update.codec)
        if codec.feedback and verdict.code is Code.TOO_LARGE:
            self.residual = None
        if verdict.code not in RETURNING:
            return
        try:
            delta = Delta(codec.unpack(update.payload, schema))
        except BadPayload:
            return
        self.residual = regained(delta, self.residual) if codec.feedback else returned(delta, verdict.staleness)

    def clear(self) -> None:
        """Let go of what was to be sent: the federation has finished. What the node has for itself it keeps."""
        self.update = self.residual = None


def returned(delta: Delta, staleness: int) -> Delta | None:
    """Return what comes back of a delta that was refused when it was so many versions behind; None is nothing.

    delta      as the aggregator would have folded it; one that is not finite stays away, one of zeros is nothing
    """
    if not 0 < norm(delta) < math.inf:
        return None
    return Delta(Arrays(delta.schema, delta.flat * np.float32((1.0 + staleness) ** -0.5)))


def carried(delta: Delta, residual: Delta) -> Delta:
    """Return delta + residual, the residual scaled down to the delta's length where it is longer.

    So the result is at most twice as long as the delta, however often its like is refused.
    """
    own, late = norm(delta), norm(residual)
    share = np.float32(min(1.0, own / late))
    return Delta(Arrays(delta.schema, delta.flat + share * residual.flat))
