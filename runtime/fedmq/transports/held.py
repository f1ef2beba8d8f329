"""What ZeroMQ holds: frames that are handed over uncopied, each with a note of when ZeroMQ has let go of it."""

from collections import deque
from collections.abc import Sequence

import zmq

from fedmq.codec import Frame


def parts_of(frame: Frame) -> list[zmq.Frame]:
    """Return a frame as ZeroMQ takes it, uncopied; the last part says when it has let go."""
    *before, last = frame
    return [*(zmq.Frame(part, copy=False) for part in before), zmq.Frame(last, copy=False, track=True)]


class Held:
    """Frames that ZeroMQ has not let go of; it does not tell for which of several peers."""

    def __init__(self) -> None:
        self._trackers: deque[zmq.MessageTracker] = deque()

    def add(self, parts: Sequence[zmq.Frame]) -> None:
        """Take note of a frame, handed over to however many peers."""
        assert parts[-1].tracker is not None
        self._trackers.append(parts[-1].tracker)
        while self._trackers and self._trackers[0].done:
            self._trackers.popleft()

    def count(self) -> int:
        """Return how many are held now."""
        self._trackers = deque(one for one in self._trackers if not one.done)
        return len(self._trackers)
