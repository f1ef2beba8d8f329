"""A terminal in which a page is typed: commands that end, and commands that go on until somebody stops them."""

import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from fedmq_bench import broker
from running import PATIENCE_S, wait

INTERRUPTED = 130


@dataclass(frozen=True)
class _Going:
    command: str
    process: subprocess.Popen[bytes]
    log: Path


class Terminal:
    """A folder, and what runs there.

    stand_ins    address that a page has -> one of this machine
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stand_ins: dict[str, str] = {}
        self._going: list[_Going] = []
        cache = {"XDG_CACHE_HOME": str(folder / ".cache"), "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
        self._env = {**os.environ, **cache}

    def run(self, command: str) -> str:
        """Run a command to its end, which must be a good one, and return what it printed."""
        done = subprocess.run(
            self._words(command), cwd=self.folder, env=self._env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (
            f"{command}\nended with {done.returncode}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
        return done.stdout

    def start(self, command: str, ready: str) -> re.Match[str]:
        """Start a command, and return when it says that it is ready, in these words."""
        log = self.folder / f".{len(list(self.folder.glob('.*.log')))}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                self._words(command), cwd=self.folder, env=self._env, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        self._going.append(_Going(command, process, log))

        def said() -> re.Match[str] | None:
            found = re.search(ready, log.read_text())
            assert found or process.poll() is None, f"{command}\nended with {process.poll()}: {log.read_text()[-3000:]}"
            return found

        found: re.Match[str] = wait(said, f"{ready!r} of {command}")
        return found

    def stop(self) -> None:
        """Press Ctrl-C for everything that goes on, the last first; each must end as one that was interrupted."""
        while self._going:
            going = self._going.pop()
            going.process.send_signal(signal.SIGINT)
            code = going.process.wait(PATIENCE_S)
            assert code in (0, INTERRUPTED), f"{going.command}\nended with {code}: {going.log.read_text()[-3000:]}"

    def close(self) -> None:
        """Kill what a failure has left."""
        for going in self._going:
            going.process.kill()
            going.process.wait()

    def _words(self, command: str) -> list[str]:
        for theirs, ours in self.stand_ins.items():
            command = command.replace(theirs, ours)
        first, *words = shlex.split(command)
        return [broker.program(), *words] if first == "mosquitto" else [sys.executable, "-m", first, *words]
