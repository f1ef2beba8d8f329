"""The endpoint: a registry over HTTP, in a thread of its own, at a place that was asked for."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as TookTooLong
from contextlib import contextmanager
from typing import TypeVar

from prometheus_client import CollectorRegistry, start_http_server

from fedmq.errors import AddressUnusable
from fedmq.see import Place

Found = TypeVar("Found")
PATIENCE_S = 5.0


@contextmanager
def serving(registry: CollectorRegistry, place: Place) -> Iterator[str]:
    """Answer whoever asks at this place meanwhile, and yield the URL.

    raises     AddressUnusable if the place is taken, or not ours
    """
    try:
        server, thread = start_http_server(place.port, place.host, registry)
    except (OSError, socket.gaierror) as error:
        raise AddressUnusable(
            f"metrics cannot be served at {place.host}:{place.port}: {error.strerror}; choose another port"
        ) from error
    try:
        yield f"{place.url(server.server_port)}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def from_loop(look: Callable[[], Found]) -> Callable[[], Found | None]:
    """Return what asks this question in the running loop's thread, from any other one.

    A loop that has no time for it, or runs no more, is answered for with None: a scrape must not hang.
    """
    loop = asyncio.get_running_loop()

    async def ask() -> Found:
        return look()

    def wait() -> Found | None:
        try:
            return asyncio.run_coroutine_threadsafe(ask(), loop).result(PATIENCE_S)
        except (TookTooLong, RuntimeError):
            return None

    return wait
