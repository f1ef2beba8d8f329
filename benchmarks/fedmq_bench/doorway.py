"""A doorway: a port on loopback through which connections are led, each in a task of its own, until it is closed."""

import asyncio
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Doorway(ABC):
    """Listens while it is entered; what a connection is led to is for whoever inherits it."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(self._join(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    @abstractmethod
    async def _join(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        """Join a connection with what is behind the doorway, until one of the ends has gone."""
