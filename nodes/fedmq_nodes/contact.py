"""Contact: when a node speaks although nothing happened, and when it takes the link for dead.

Hello is said again after a time that doubles, with jitter so that a fleet does not greet in step. That spares an
aggregator, so a hello that never left does not double it for long. A ping goes out after
a heartbeat in which nothing else did. Silence, or an update that nobody answers, leads back to hello.
"""

from numpy.random import Generator

from fedmq.session import Session, State

FIRST_RETRY_S, LAST_RETRY_S = 0.5, 15.0
# After a hello that the link could not take, which costs nobody anything: a connection is there in a few round trips.
UNSENT_FIRST_RETRY_S, UNSENT_RETRY_S, UNSENT_GROWTH = 0.05, 2.0, 1.25
SILENT_HEARTBEATS = 4  # so many without a word, and the link is taken for dead
ANSWER_S = 30.0  # an update without a verdict for so long is asked about
ANSWERED_PINGS = 2  # or after so many since it was sent: the link carries, and the second was sent behind the update


class Contact:
    """The timers of one conversation.

    heartbeat_s    the aggregator's to say, once it has been heard
    greetings      how often hello was said since it was last answered
    """

    def __init__(self, session: Session, rng: Generator, now: float) -> None:
        self.heartbeat_s = 2.0
        self.greetings = 0
        self._session, self._rng = session, rng
        self._retry_s, self._unsent_s = FIRST_RETRY_S, UNSENT_FIRST_RETRY_S
        self._hello_at = self._ping_at = now
        self._answer_at: float | None = None
        self._sent_at: float | None = None
        self._pongs = 0  # since an update was sent of which nobody has said that it is there
        self._deliver_at: float | None = None

    def greet_anew(self, now: float) -> None:
        """Say hello at the next tick."""
        self._session.state = State.GREETING
        self._hello_at, self._answer_at, self._deliver_at, self._sent_at = now, None, None, None

    def unsent(self, now: float) -> None:
        """The link could not take the last hello."""
        self._retry_s = min(self._retry_s, UNSENT_RETRY_S)
        self._hello_at = min(self._hello_at, now + self._unsent_s * float(self._rng.uniform(0.75, 1.25)))
        self._unsent_s = min(UNSENT_GROWTH * self._unsent_s, UNSENT_RETRY_S)

    def welcomed(self, heartbeat_s: float, now: float) -> None:
        """The aggregator has answered."""
        self.heartbeat_s, self.greetings = heartbeat_s, 0
        self._retry_s, self._unsent_s = FIRST_RETRY_S, UNSENT_FIRST_RETRY_S
        self.spoke(now)

    def spoke(self, now: float) -> None:
        """Something was sent that shows that the node is alive."""
        self._ping_at = now + self.heartbeat_s

    def sent_update(self, now: float) -> None:
        """An update was sent."""
        self.awaits_answer(now)
        self._sent_at, self._pongs = now, 0

    def awaits_answer(self, now: float | None) -> None:
        """An update is there and is being kept, or (None) it has its verdict."""
        self._deliver_at = self._sent_at = None
        self._answer_at = None if now is None else now + ANSWER_S

    def ponged(self, now: float) -> None:
        """A ping was answered. What was sent before it is there, or lost."""
        if self._sent_at is not None:
            self._pongs += 1
            if self._pongs >= ANSWERED_PINGS:
                self._answer_at = now

    def deliver_later(self, after_s: float, now: float) -> None:
        """The update may be sent again after so long; jitter spreads a fleet that was told so at once."""
        self.awaits_answer(None)
        self._deliver_at = now + after_s * float(self._rng.uniform(1.0, 1.25))

    def delivery_due(self, now: float) -> bool:
        """Whether to send the update again now; if so, that is settled."""
        if self._session.state is not State.OPEN or self._deliver_at is None or self._deliver_at > now:
            return False
        self._deliver_at = None
        return True

    def dead(self, now: float) -> str | None:
        """Return why the link counts as dead, or None."""
        if self._session.state is not State.OPEN:
            return None
        if self._silent_at <= now:
            return f"nothing heard for {self._session.silent_for(now):.1f} s"
        if self._answer_at is not None and self._answer_at <= now:
            return f"no verdict for {ANSWER_S if self._sent_at is None else now - self._sent_at:.0f} s"
        return None

    def hello_due(self, now: float) -> bool:
        """Whether to say hello now; if so, the next one is put off."""
        if self._session.state is not State.GREETING or self._hello_at > now:
            return False
        self.greetings += 1
        self._hello_at = now + self._retry_s * float(self._rng.uniform(0.75, 1.25))
        self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
        return True

    def ping_due(self, now: float) -> bool:
        """Whether to ping now; if so, the next one is put off."""
        if self._session.state is not State.OPEN or self._ping_at > now:
            return False
        self.spoke(now)
        return True

    def next_deadline(self) -> float:
        """When to look at the clock again."""
        if self._session.state is not State.OPEN:
            return self._hello_at
        return min(at for at in (self._ping_at, self._silent_at, self._answer_at, self._deliver_at) if at is not None)

    @property
    def _silent_at(self) -> float:
        return self._session.heard_at + SILENT_HEARTBEATS * self.heartbeat_s
