"""Seeing: where an aggregator or a node may be looked at, if anywhere. A port alone is one of this machine."""

import ipaddress
from dataclasses import dataclass

from fedmq.errors import ConfigInvalid
from fedmq.quantities import Word

HERE = "127.0.0.1"
HIGHEST_PORT = 65535


@dataclass(frozen=True)
class Place:
    """Where to listen; port 0 is one that the system chooses."""

    host: str
    port: int

    @property
    def is_private(self) -> bool:
        """Whether it can only be reached from this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def url(self, port: int) -> str:
        """Return the address of what listens there, at this port."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{port}"


@dataclass(frozen=True)
class See:
    """Where an aggregator shows itself; nothing is nowhere.

    metrics    [host:]port of a Prometheus endpoint
    page       [host:]port of a live page
    """

    metrics: Word = ""
    page: Word = ""

    def __post_init__(self) -> None:
        for key in ("metrics", "page"):
            if text := getattr(self, key):
                place(f"see.{key}", text)


def place(what: str, text: str) -> Place:
    """Return the place that [host:]port says.

    what       whose place, for an error
    raises     ConfigInvalid
    """
    host, colon, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > HIGHEST_PORT or (colon and not host):
        raise ConfigInvalid(
            f"{what} is {text!r}; it takes a port up to {HIGHEST_PORT}, or host:port such as {HERE}:9464"
        )
    return Place(host.strip("[]") or HERE, int(port))
