"""A Mosquitto of the tests' own, on a free port of this machine."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

PATIENCE_S = 60.0
AS_ROOT = "user root\n" if os.geteuid() == 0 else ""  # or else it could not read a test's folder


@cache
def mosquitto() -> str:
    """Return the broker's program; where it is missing and we may, install it."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    found = shutil.which("mosquitto", path=path)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for words in (["update"], ["install", "--yes", "--no-install-recommends", "mosquitto"]):
            subprocess.run(["apt-get", "--quiet", *words], check=False, capture_output=True, timeout=300)
        found = shutil.which("mosquitto", path=path)
    if found is None:
        pytest.skip("mosquitto is not installed, and cannot be installed here: apt-get install mosquitto")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """One broker, which can be stopped and started again at the same address."""

    def __init__(self, folder: Path, more: str = "", config: Path | None = None, port: int | None = None) -> None:
        self.port = port or free_port()
        self.address = f"mqtt://127.0.0.1:{self.port}"
        self.log = folder / "mosquitto.log"
        self._config = config or folder / "mosquitto.conf"
        self._process: subprocess.Popen[bytes] | None = None
        if config is None:
            anyone = "" if "password_file" in more else "allow_anonymous true\n"
            self._config.write_text(f"{AS_ROOT}listener {self.port} 127.0.0.1\n{anyone}{more}\n")

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([mosquitto(), "-c", str(self._config), "-v"], stdout=log, stderr=log)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), PATIENCE_S).close()
            except ConnectionRefusedError:
                assert self._process.poll() is None, self.log.read_text()[-2000:]
            else:
                return

    def stop(self) -> None:
        """Stop it at once, as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE_S)


@contextmanager
def running(folder: Path, more: str = "", config: Path | None = None, port: int | None = None) -> Iterator[Mosquitto]:
    """Run a broker meanwhile; `more` is added to a configuration that lets everyone in, `config` replaces it."""
    broker = Mosquitto(folder, more, config, port)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
