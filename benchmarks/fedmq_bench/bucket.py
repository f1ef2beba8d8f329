"""A token bucket, as a law: so many bytes a second, and so many at once after a pause. It is told what time it is."""


class Bucket:
    """Bytes in the order in which they come.

    bytes_per_s    tokens that drip in; one byte takes one
    burst_bytes    tokens that a full bucket holds; 0 is a link that sends one byte after the other and saves nothing up
    """

    def __init__(self, bytes_per_s: float, burst_bytes: float = 0.0) -> None:
        if bytes_per_s <= 0 or burst_bytes < 0:
            raise ValueError(f"{bytes_per_s:g} bytes/s and a burst of {burst_bytes:g}: above 0, and not below 0")
        self._byte_s = 1.0 / bytes_per_s
        self._saved_s = burst_bytes / bytes_per_s
        self._paid_at = float("-inf")  # what has passed would have taken until then, without a burst

    def take(self, size_bytes: int, now: float) -> float:
        """Send so many bytes, and return when the last of them has passed: now, or later.

        now        never earlier than at the call before
        source     the generic cell rate algorithm (ITU-T I.371) on bytes: a bucket without a counter to keep up to date
        """
        self._paid_at = max(self._paid_at, now - self._saved_s) + size_bytes * self._byte_s
        return max(now, self._paid_at)
