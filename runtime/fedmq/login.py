"""Login: who an end is to a broker, and whom it takes for one. Settings, the same at both ends."""

from dataclasses import dataclass, replace
from pathlib import Path

from fedmq.quantities import Word


@dataclass(frozen=True)
class Login:
    """Who we are to a broker, and whom we trust to be one.

    user, password    a name, and the file whose first line is its password
    ca                file of the certificates that the broker's must descend from; None trusts what this system does
    cert, cert_key    our own certificate and its key, for a broker that asks for one
    insecure          let everything go in the clear, also off this machine
    """

    user: Word | None = None
    password: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    cert_key: Path | None = None
    insecure: bool = False

    def located(self, folder: Path) -> "Login":
        """Return it with its files relative to a folder."""
        files = {name: getattr(self, name) for name in ("password", "ca", "cert", "cert_key")}
        return replace(self, **{name: folder / path for name, path in files.items() if path is not None})
