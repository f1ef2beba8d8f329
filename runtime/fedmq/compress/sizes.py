"""The one check that every codec makes first: is the payload as long as the schema says?"""

from fedmq.errors import BadPayload
from fedmq.messages import Buffer


def require_size(codec: str, payload: Buffer, expected_bytes: int) -> None:
    """Raise BadPayload, with both numbers, unless the payload has exactly that size."""
    if len(payload) != expected_bytes:
        raise BadPayload(f"{codec} payload of {len(payload)} bytes, the schema needs {expected_bytes}")
