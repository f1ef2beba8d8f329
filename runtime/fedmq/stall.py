"""Stalls: the disk will not take a batch. It is tried again, ever less often; until it is taken, nothing is accepted.

Nothing was acknowledged that is not kept, so nothing is lost by waiting; and whoever sends meanwhile is told when to
try again, so what waits here does not grow.
"""

FIRST_RETRY_S, LAST_RETRY_S = 0.5, 30.0


class Stall:
    """Whether the ledger has a problem, and when it is tried again.

    problem    in words; empty while there is none
    retry_at   None while a try is under way, or there is no problem
    """

    def __init__(self) -> None:
        self.problem = ""
        self.retry_at: float | None = None
        self._wait_s = FIRST_RETRY_S

    def failed(self, problem: str, now: float) -> bool:
        """Take note that a try has failed; return whether it was the first."""
        first = not self.problem
        self.problem, self.retry_at = problem, now + self._wait_s
        self._wait_s = min(2 * self._wait_s, LAST_RETRY_S)
        return first

    def due(self, now: float) -> bool:
        """Whether to try again now; if so, that counts as begun."""
        if self.retry_at is None or now < self.retry_at:
            return False
        self.retry_at = None
        return True

    def over(self) -> bool:
        """Take note that a batch was kept; return whether that ended a stall."""
        stalled = bool(self.problem)
        self.problem, self.retry_at, self._wait_s = "", None, FIRST_RETRY_S
        return stalled

    def wait_s(self, now: float) -> float:
        """Seconds after which a node may send again; what was refused then comes after the next try."""
        return FIRST_RETRY_S + (max(0.0, self.retry_at - now) if self.retry_at is not None else 0.0)
