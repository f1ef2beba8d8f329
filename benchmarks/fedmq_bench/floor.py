"""The floor: a ROUTER that sends as many bytes to as many processes, whose DEALERs send as many back.

Nothing is read, nothing is added, nobody is asked who they are. What a federation takes longer is its own doing.
"""

import os
import time
from multiprocessing.connection import Connection

import zmq

from fedmq import keys
from fedmq.transports import AGGREGATOR
from fedmq_bench.wires import Wire


def hub(pipe: Connection, _number: int, wire: Wire, nodes: int, down_bytes: int, rounds: int, blocks: int) -> None:
    """Say an address; then, each time that all nodes are there, time so many echoes; in the end tell all their seconds.

    tells      the address; then per block (seconds of each echo, CPU seconds of this process in them)
    """
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        if wire.secure:
            router.curve_secretkey, router.curve_server = keys.load(wire.own_key).secret, True
        port = router.bind_to_random_port("tcp://127.0.0.1")
        pipe.send(f"tcp://127.0.0.1:{port}")
        # Not bytes(n), whose untouched pages are all the one page of zeros, which never leaves the cache.
        payload = os.urandom(down_bytes)
        blocks_told = []
        for _ in range(blocks):
            routes = [router.recv_multipart()[0] for _ in range(nodes)]
            seconds, cpu_s = [], time.process_time()
            for _ in range(rounds):
                began = time.perf_counter()
                frame = zmq.Frame(payload, copy=False)
                for route in routes:
                    router.send_multipart([route, frame], copy=False)
                for _ in routes:
                    router.recv_multipart(copy=False)
                seconds.append(time.perf_counter() - began)
            blocks_told.append((seconds, time.process_time() - cpu_s))
            for route in routes:
                router.send_multipart([route, b""])
        pipe.send(blocks_told)


class Echo:
    """A node's end: a DEALER that answers until it is told to stop."""

    def __init__(self, wire: Wire, address: str, up_bytes: int) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        if wire.secure:
            self._socket.curve_serverkey = keys.load_public(wire.folder / f"{AGGREGATOR}.key")
            self._socket.curve_publickey, self._socket.curve_secretkey = zmq.curve_keypair()
        self._socket.connect(address)
        self._payload = os.urandom(up_bytes)

    def block(self) -> None:
        """Say that we are here, and answer what comes until something empty comes."""
        self._socket.send(b"here")
        while len(self._socket.recv(copy=False)):
            self._socket.send(self._payload, copy=False)

    def close(self) -> None:
        """Let go."""
        self._socket.close(0)
        self._context.term()
