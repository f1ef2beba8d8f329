"""The one check that every codec of a fixed size makes first: is the payload as long as the schema says?"""

from fedmq.errors import BadPayload
from fedmq.messages import Buffer


def require_size(codec: str, payload: Buffer, expected_bytes: int) -> None:
    """Raise BadPayload, with both numbers, unless the payload has exactly that size."""
    if len(payload) != expected_bytes:
        raise BadPayload(f"{codec} payload of {len(payload)} bytes, the schema needs {expected_bytes}")


def require_matrix_size(codec: str, payload: Buffer, expected_bytes: int) -> None:
    """Raise BadPayload, with both numbers, unless the part of a payload that is for the matrices has that size."""
    if len(payload) != expected_bytes:
        raise BadPayload(f"{codec} payload with {len(payload)} bytes of matrices, the schema needs {expected_bytes}")
