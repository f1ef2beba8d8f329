"""A link in virtual time: one direction of one node's TCP connection, as who sits above it sees it.

Bytes pass one after the other at the rate, then take half a round trip and jitter, and arrive in order. Lost packets
are sent again, so loss is never a gap but time: many at a rate that it bounds, MSS / rtt x sqrt(1.5 / loss) (Mathis et
al. 1997, ACM CCR 27(3)), and for the last ones of a frame, behind which nothing shows the gap, a retransmission timeout
(RFC 6298, at least 0.2 s as in Linux), doubled each time. What an outage interrupts goes on after it; one that is
longer than ZeroMQ's heartbeat timeout breaks the connection, and what was on its way is gone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from numpy.random import Generator

from fedmq_bench.bucket import Bucket
from fedmq_bench.scenario.form import Way
from fedmq_bench.scenario.timeline import Outages

SEGMENT_BYTES = 1448
LEAST_TIMEOUT_S, MOST_RETRIES = 0.2, 15
BROKEN_AFTER_S = 60.0
FASTEST = 1e12  # bytes/s of a way without a rate


@dataclass(frozen=True)
class Crossing:
    """What becomes of a frame: when the last byte of it has left, and when copies arrive, none if it is lost."""

    left_at: float
    arrive_at: Sequence[float]


class Lane:
    """One direction. The time at which frames are handed over never goes back."""

    def __init__(self, way: Way, outages: Outages) -> None:
        self._way, self._outages = way, outages
        self._bucket = Bucket(rate_bytes_per_s(way))
        self._last_at = 0.0

    def carry(self, size_bytes: int, now: float, rng: Generator, broken_after: float | None = None) -> Crossing:
        """Send a frame.

        broken_after     the connection breaks when this share of it has left; None: it does not
        """
        way = self._way
        ready_at = self._passable(now)
        if ready_at - now > BROKEN_AFTER_S:
            return Crossing(now, ())
        if broken_after is not None:
            return Crossing(self._bucket.take(int(size_bytes * broken_after), ready_at), ())
        left_at = self._bucket.take(size_bytes, ready_at)
        outage_at, back_at = self._outages.next(ready_at)
        if outage_at < left_at:
            if back_at - outage_at > BROKEN_AFTER_S:
                return Crossing(outage_at, ())
            left_at = self._bucket.take(0, left_at + back_at - outage_at)
        delay_s = way.rtt_ms / 2e3 + self._waited_s(rng)
        if way.jitter_ms:
            delay_s += float(rng.exponential(way.jitter_ms / 1e3))
        at = max(left_at + delay_s, self._last_at)
        self._last_at = at
        copies = 2 if way.duplicate and float(rng.random()) < way.duplicate else 1
        if way.reorder and float(rng.random()) < way.reorder:
            at += way.reorder_ms / 1e3
        return Crossing(left_at, (at,) * copies)

    def _passable(self, now: float) -> float:
        start, end = self._outages.next(now)
        return end if start <= now else now

    def _waited_s(self, rng: Generator) -> float:
        """Return how long the receiver waits for the last packet of a frame, if that is lost, again and again."""
        way = self._way
        if not way.loss:
            return 0.0
        times = min(int(rng.geometric(1.0 - way.loss)) - 1, MOST_RETRIES)
        timeout_s = max(LEAST_TIMEOUT_S, 2 * way.rtt_ms / 1e3)
        return timeout_s * (2.0**times - 1.0)


def rate_bytes_per_s(way: Way) -> float:
    """Return how many bytes pass in a second."""
    rate = way.mbps * 1e6 / 8 if way.mbps else FASTEST
    if way.loss and way.rtt_ms:
        rate = min(rate, SEGMENT_BYTES / (way.rtt_ms / 1e3) * math.sqrt(1.5 / way.loss))
    return rate
