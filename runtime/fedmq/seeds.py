"""Seeds: randomness that both ends, and every repeat of a run, can derive from what they know."""

import hashlib


def seed(*parts: str | int) -> int:
    """Return 64 bits that depend on every part and on nothing else."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little")
