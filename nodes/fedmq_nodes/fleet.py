"""A fleet on this machine: the aggregator and the nodes as processes of their own, as they would run on devices.

Each is started with the command that a person would type, in a session of its own, so that Ctrl-C reaches the fleet
alone and the fleet decides who stops when. Logs go to the run's folder, one file per process. If this process is gone
without a word, the others end by themselves (`lifeline`).
"""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmq.errors import LocalError
from fedmq_nodes.fleetfile import Fleet
from fedmq_nodes.lifeline import STOPPED_WITHIN_S

STARTED_WITHIN_S = 60.0


class ProcessFailed(LocalError):
    """The aggregator's process could not be started, or ended with an error."""

    reason = "process_failed"

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Ended:
    """How a node's process ended, and the last thing that it said."""

    name: str
    code: int
    last_words: str


class RunningFleet:
    """The processes of one fleet.

    file, overrides     what the aggregator is started with
    """

    def __init__(self, fleet: Fleet, file: Path, overrides: Sequence[str]) -> None:
        self.fleet = fleet
        self.address = ""
        self.nodes: dict[str, Process] = {}
        self._file, self._overrides = file, overrides
        self.logs = fleet.federation.run / "logs"
        self._aggregator: Process | None = None
        self._options = {node.name: node for node in fleet.nodes}

    async def start_aggregator(self, more: Sequence[str] = ()) -> None:
        """Start the aggregator, or start it again, and wait until it listens.

        more       overrides for this start alone
        raises     ProcessFailed, with what it said
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        sets = [word for override in (*self._overrides, *more) for word in ("--set", override)]
        self._aggregator = await self._spawn("aggregator", ["serve", str(self._file), "--json", *sets], PIPE)
        assert self._aggregator.stdout is not None
        try:
            line = await asyncio.wait_for(self._aggregator.stdout.readline(), STARTED_WITHIN_S)
            self.address = json.loads(line)["listening"]
        except (TimeoutError, ValueError):
            code = await self._stop(self._aggregator)
            raise ProcessFailed(
                self.last_words("aggregator") or f"the aggregator exited with {code}", code or 1
            ) from None

    async def start_node(self, name: str) -> None:
        """Start a node's process, or start it again."""
        options = self._options[name]
        words = ["join", self.address, "--federation", self.fleet.federation.federation, *options.arguments()]
        self.nodes[name] = await self._spawn(name, words, DEVNULL, threads=options.threads or 1)

    def kill_node(self, name: str) -> None:
        """Kill a node's process with SIGKILL: no goodbye, nothing flushed."""
        self.nodes[name].kill()

    async def kill_aggregator(self) -> None:
        """Kill the aggregator's process with SIGKILL, and wait until it is gone."""
        assert self._aggregator is not None
        self._aggregator.kill()
        await self._aggregator.wait()

    async def wait(self) -> int:
        """Wait for the aggregator's end, then for the nodes'; return the aggregator's exit code."""
        assert self._aggregator is not None
        code = await self._aggregator.wait()
        await asyncio.gather(*(self._within(process) for process in self.nodes.values()))
        return code

    async def stop(self) -> None:
        """Stop every process that still runs: the nodes first, so that they can say goodbye."""
        await asyncio.gather(*(self._stop(process) for process in self.nodes.values()))
        if self._aggregator is not None:
            await self._stop(self._aggregator)

    def ended(self) -> list[Ended]:
        """Return the nodes whose process has ended."""
        return [
            Ended(name, process.returncode, self.last_words(name))
            for name, process in self.nodes.items()
            if process.returncode is not None
        ]

    def failure(self, has_begun: bool) -> Ended | None:
        """Return a node that failed, where too few are left for the federation to begin, or none for it to go on."""
        failed = [one for one in self.ended() if one.code > 0]
        alive = sum(process.returncode is None for process in self.nodes.values())
        needed = 1 if has_begun else self.fleet.federation.start_nodes
        return failed[0] if failed and len(self.nodes) == len(self._options) and alive < needed else None

    def last_words(self, name: str) -> str:
        """Return the last line of a process's log."""
        lines = (self.logs / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else ""

    async def _spawn(self, name: str, words: Sequence[str], stdout: int, threads: int = 1) -> Process:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
        with (self.logs / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "fedmq", *words, "--until-eof", stdin=PIPE, stdout=stdout, stderr=log,
                env=environment, start_new_session=True,
            )  # fmt: skip

    async def _within(self, process: Process) -> None:
        try:
            await asyncio.wait_for(process.wait(), STOPPED_WITHIN_S)
        except TimeoutError:
            await self._stop(process)

    async def _stop(self, process: Process) -> int | None:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOPPED_WITHIN_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        return process.returncode
