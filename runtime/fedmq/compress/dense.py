"""Every value by itself, as a float: 4 bytes exactly, or 2 bytes with 11 or 8 significant bits. Little-endian."""

import numpy as np

from fedmq.compress.halves import from_bf16, from_fp16, to_bf16, to_fp16
from fedmq.compress.sizes import require_size
from fedmq.delta import Arrays, Schema
from fedmq.messages import Buffer


class Fp32:
    """4 bytes per value, exact. Unpacking is a view of the payload."""

    name = "fp32"
    lossless = True
    feedback = False

    def size_bytes(self, schema: Schema) -> int:
        """Return 4 bytes per value."""
        return 4 * schema.size

    def pack(self, arrays: Arrays, seed: int) -> Buffer:
        """Return the values as they are, uncopied on a little-endian machine."""
        return np.ascontiguousarray(arrays.flat, dtype="<f4").data.cast("B")

    def unpack(self, payload: Buffer, schema: Schema) -> Arrays:
        """Return a view of the payload."""
        require_size(self.name, payload, self.size_bytes(schema))
        return Arrays(schema, np.frombuffer(payload, dtype="<f4").astype(np.float32, copy=False))


class Fp16:
    """2 bytes per value, rounded to nearest; a finite value beyond the range of half precision saturates at 65,504."""

    name = "fp16"
    lossless = False
    feedback = False

    def size_bytes(self, schema: Schema) -> int:
        """Return 2 bytes per value."""
        return 2 * schema.size

    def pack(self, arrays: Arrays, seed: int) -> Buffer:
        """Round each value to half precision; an infinity stays one, so that it is refused and not folded."""
        return to_fp16(arrays.flat)

    def unpack(self, payload: Buffer, schema: Schema) -> Arrays:
        """Widen each value."""
        require_size(self.name, payload, self.size_bytes(schema))
        return Arrays(schema, from_fp16(np.frombuffer(payload, dtype="<u2")))


class Bf16:
    """2 bytes per value, rounded to nearest, with the range of float32: a delta of 1e-6 keeps its 8 bits."""

    name = "bf16"
    lossless = False
    feedback = False

    def size_bytes(self, schema: Schema) -> int:
        """Return 2 bytes per value."""
        return 2 * schema.size

    def pack(self, arrays: Arrays, seed: int) -> Buffer:
        """Round each value to its upper half; an infinity stays one, so that it is refused and not folded."""
        return to_bf16(arrays.flat).astype("<u2", copy=False).tobytes()

    def unpack(self, payload: Buffer, schema: Schema) -> Arrays:
        """Widen each value."""
        require_size(self.name, payload, self.size_bytes(schema))
        return Arrays(schema, from_bf16(np.frombuffer(payload, dtype="<u2")))
