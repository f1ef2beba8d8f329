"""Framing: how many bytes a frame becomes on its way down: ZeroMQ's or MQTT's, then TCP/IP. Formulas, no sockets.

ZMTP 3.1 (rfc.zeromq.org/spec/37): each part has a byte of flags and its length, in 1 byte up to 255 and in 8 above.
Under CURVE (rfc 26) each part is first sealed into a MESSAGE of 33 bytes more. A part of a message from a node is its
name, empty under CURVE. MQTT 5 (3.3): a PUBLISH at QoS 1 has a byte of type, its length in units of 7 bits, the topic
behind two bytes, a number in two, and properties, of which an expiry takes five. TCP/IP: 20 bytes each and 12 of
timestamps per segment of 1,448, and an acknowledgement without data for every second segment, in the other direction.
Interfaces count Ethernet's 14 bytes per packet as well.
"""

from collections.abc import Iterable

SHORT = 255
CURVE_BYTES = 33
GREETING_BYTES = 64 + 43  # without CURVE, each way, once per connection: the greeting, and READY with two properties
SEGMENT_BYTES = 1448
BYTES_PER_ACKNOWLEDGEMENT = 2 * SEGMENT_BYTES
PACKET_BYTES = 20 + 20 + 12 + 14


def zmtp(parts: Iterable[int], curve: bool = False) -> int:
    """Return the bytes in which ZeroMQ carries a message of parts of these sizes."""
    sizes = [size + CURVE_BYTES * curve for size in parts]
    return sum(size + (2 if size <= SHORT else 9) for size in sizes)


def publish(topic: int, payload: int, expires: bool = False) -> int:
    """Return the bytes of the packet in which MQTT 5 carries a payload of this size to a topic of this size."""
    rest = 2 + topic + 2 + 1 + 5 * expires + payload
    return 1 + max(1, -(-rest.bit_length() // 7)) + rest


def packets(size: int) -> int:
    """Return how many packets carry so many bytes that ZeroMQ sends in one go."""
    return -(-size // SEGMENT_BYTES)


def wire(size: int, back: int) -> int:
    """Return the bytes on a wire of `size` bytes that ZeroMQ sends in one go, while `back` go the other way."""
    return size + PACKET_BYTES * (packets(size) + back // BYTES_PER_ACKNOWLEDGEMENT)
