"""Sockets: what the kernel says that our TCP connections have carried, without any header of TCP or below.

The offsets are those of `struct tcp_info` (linux/tcp.h), which only ever grows at its end. Bytes that were repeated
because they got lost are the wire's, not the transport's.
"""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_RECEIVED, _SENT, _REPEATED = 128, 200, 208
_SIZE = 216


def carried(port: int) -> tuple[int, int]:
    """Return the bytes that this process's open connections on a local port have received and sent, all together.

    raises     OSError on a kernel before 4.19, which does not say
    """
    received = sent = 0
    for connection in _connections(port):
        facts = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
        if len(facts) < _SIZE:
            raise OSError(f"the kernel tells {len(facts)} bytes about a connection, {_SIZE} are needed (Linux 4.19)")
        received += struct.unpack_from("=Q", facts, _RECEIVED)[0]
        sent += struct.unpack_from("=Q", facts, _SENT)[0] - struct.unpack_from("=Q", facts, _REPEATED)[0]
    return received, sent


def _connections(port: int) -> Iterator[socket.socket]:
    """Yield a copy of each; whoever owns one may close it meanwhile."""
    for name in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if not os.readlink(name).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name.name))) as copy:
                is_tcp = copy.family in (socket.AF_INET, socket.AF_INET6) and copy.type == socket.SOCK_STREAM
                if is_tcp and copy.getsockname()[1] == port and copy.getpeername():
                    yield copy
