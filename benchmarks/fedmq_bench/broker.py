"""A Mosquitto for a measurement or a test: a real broker on a free port of this machine, to be killed at will."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmq_bench.errors import ProgramMissing

PATIENCE_S = 60.0
LOOK_S = 0.01
AS_ROOT = "user root\n" if os.geteuid() == 0 else ""  # or else it could not read a folder of ours


def program() -> str:
    """Return where the broker's program lies.

    raises     ProgramMissing, with what to install
    """
    # Where packages put it, which is often not on the path of a person.
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ProgramMissing("mosquitto, the MQTT broker, is not installed: apt-get install mosquitto")
    return found


def free_port() -> int:
    """Return a port that was free a moment ago: whoever is started again must listen where it did."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """One broker, which can be killed and started again at the same address."""

    def __init__(self, folder: Path, more: str = "", config: Path | None = None, port: int | None = None) -> None:
        """Write its configuration, which lets everyone in, with `more` added; or take the one in `config`."""
        self.port = port or free_port()
        self.address = f"mqtt://127.0.0.1:{self.port}"
        self.log = folder / "mosquitto.log"
        self._config = config or folder / "mosquitto.conf"
        self._process: subprocess.Popen[bytes] | None = None
        if config is None:
            anyone = "" if "password_file" in more else "allow_anonymous true\n"
            self._config.write_text(f"{AS_ROOT}listener {self.port} 127.0.0.1\n{anyone}{more}\n")

    def start(self) -> None:
        """Start it, and return when it listens."""
        with self.log.open("ab") as log:
            words = [program(), "-c", str(self._config), "-v"]
            self._process = subprocess.Popen(words, stdout=log, stderr=log)  # noqa: S603
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), PATIENCE_S).close()
            except ConnectionRefusedError:
                if (code := self._process.poll()) is not None:
                    said = self.log.read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"mosquitto ended with code {code}: {said}") from None
                time.sleep(LOOK_S)
            else:
                return

    def stop(self) -> None:
        """Kill it with SIGKILL: what it has not saved is lost."""
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
