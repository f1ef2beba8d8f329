"""The ground: real processes on this machine, through the weather that a plan has. It is to time what `world` is to it.

Every node is a process of its own, which is killed with SIGKILL where the plan ends it, and started again with the
state that is on disk. Processes are forked from one that has loaded everything, and wait until they are to begin: what
the plan takes for the beginning of a process is then its first greeting, and not seconds of imports on a busy machine.
Eight that each loaded torch would take half a minute of processor time.
"""

import asyncio
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from fedmq import codec
from fedmq.codec import Frame
from fedmq.errors import RemoteError
from fedmq.messages import Update
from fedmq_bench.scenario import device
from fedmq_bench.scenario.device import READY, Begin, Role
from fedmq_bench.scenario.fleet import Phase
from fedmq_bench.scenario.host import DOWN, Host
from fedmq_bench.scenario.link import Crossing
from fedmq_bench.scenario.timeline import FOREVER_S

HANDED_OVER_S = 0.002  # after its update was handed over, a node is killed
_FORK = multiprocessing.get_context("forkserver")


@dataclass
class Machine:
    """One node's machine.

    process, pipe     one that lives, or waits to begin
    lives             whether it was told to begin
    """

    host: Host
    role: Role
    process: BaseProcess = field(init=False)
    pipe: Connection = field(init=False)
    lives: bool = False


class Ground:
    """Everyone's machine.

    sent_bytes     of updates that were put on links, again where they had to be, and in part where a link broke
    failure        what went wrong that is in no plan
    """

    def __init__(self, trains: bool) -> None:
        """Make ready to fork; what is trained with is loaded once for all."""
        _FORK.set_forkserver_preload([device.__name__, *(["torch"] if trains else [])])
        self.sent_bytes = 0
        self.failure: str | None = None
        self._is_over = False
        self._machines: dict[str, Machine] = {}
        self._loop = asyncio.get_running_loop()
        self._began_at = self._loop.time()
        self._threads = ThreadPoolExecutor(1000, "attend")
        self._ready: dict[str, asyncio.Event] = {}

    def clock(self) -> float:
        """Return the seconds since everything began."""
        return self._loop.time() - self._began_at

    def add(self, host: Host, role: Role) -> None:
        """Have a process of this node wait."""
        machine = self._machines[role.member.name] = Machine(host, role)
        self._ready[role.member.name] = asyncio.Event()
        self._put_up(machine)

    async def begin(self) -> None:
        """Once all are ready, let time begin: whoever is present from the beginning goes to work."""
        for ready in self._ready.values():
            await ready.wait()
            if self.failure is not None:
                raise RuntimeError(self.failure)
        self._began_at = self._loop.time()
        for machine in self._machines.values():
            self._await_spell(machine, 0.0)

    async def end(self) -> None:
        """Kill everyone, and wait until they are gone."""
        self._is_over = True
        for machine in self._machines.values():
            if machine.process.pid is not None:
                machine.process.kill()
        await asyncio.to_thread(self._threads.shutdown)

    def carrier(self, host: Host) -> Callable[[str, Frame, float], tuple[Crossing, bool]]:
        """Return what says, for this node's link, what becomes of a frame, and whether the connection breaks then."""

        def carry(direction: str, frame: Frame, now: float) -> tuple[Crossing, bool]:
            if direction == DOWN or not _is_update(frame):
                return host.carry(direction, frame, now), False
            breaks = host.member.drops(Phase.MID_UPLOAD, host.uploads)
            crossing, sent, drops_out = host.upload(frame, now)
            self.sent_bytes += sent
            if drops_out:
                self._drop_out(self._machines[host.member.name], crossing.arrive_at[0] + HANDED_OVER_S)
            return crossing, breaks

        return carry

    # Spells, as `world` has them

    def _await_spell(self, machine: Machine, now: float) -> None:
        """Let the process begin, unless it is away now, and await the next time that it is."""
        host = machine.host
        start, end = next(host.away, (FOREVER_S, FOREVER_S))
        host.dies_at = start
        if start > now:
            self._let_begin(machine)
        if start < FOREVER_S:
            self._do(start, lambda: self._end_spell(machine, end))

    def _end_spell(self, machine: Machine, end: float) -> None:
        if end == FOREVER_S:
            self._leave(machine)
            return
        self._kill(machine, end)
        self._do(end, lambda: self._await_spell(machine, end))

    def _do(self, at: float, action: Callable[[], None]) -> None:
        self._loop.call_at(self._began_at + at, action)

    def _let_begin(self, machine: Machine) -> None:
        host = machine.host
        if machine.lives or self.clock() < host.down_until:
            return
        host.sessions += 1
        machine.lives = True
        machine.pipe.send(Begin(host.trainings, host.sessions))

    def _kill(self, machine: Machine, until: float) -> None:
        host = machine.host
        host.down_until = max(host.down_until, until)
        if machine.lives:
            old = machine.process
            machine.lives = False
            self._put_up(machine)
            if old.pid is not None:
                old.kill()

    def _drop_out(self, machine: Machine, at: float) -> None:
        """Kill a process then, and have the next one begin a while later."""
        back_at = at + machine.host.member.group.drop.back_s
        self._do(at, lambda: self._kill(machine, back_at))
        self._do(back_at, lambda: self._let_begin(machine))

    def _leave(self, machine: Machine) -> None:
        machine.host.down_until = FOREVER_S
        if machine.lives:
            machine.lives = False
            machine.process.terminate()  # it says goodbye

    # Processes: each has a thread that starts it, hears what it says, and sees it end

    def _put_up(self, machine: Machine) -> None:
        machine.pipe, there = _FORK.Pipe()
        machine.process = _FORK.Process(target=device.live, args=(there, machine.role), daemon=True)
        self._threads.submit(self._attend, machine, machine.process, machine.pipe, there)

    def _attend(self, machine: Machine, process: BaseProcess, ours: Connection, theirs: Connection) -> None:
        process.start()
        theirs.close()
        if self._is_over or machine.process is not process:
            process.kill()  # its end came before its beginning
        try:
            while True:
                self._loop.call_soon_threadsafe(self._hear, machine, process, ours.recv())
        except (EOFError, ConnectionResetError):
            process.join()
            ours.close()
            self._loop.call_soon_threadsafe(self._ended, machine, process)

    def _hear(self, machine: Machine, process: BaseProcess, said: object) -> None:
        if said == READY:
            self._ready[machine.role.member.name].set()
        elif machine.process is process:
            assert isinstance(said, int)
            host = machine.host
            host.trainings = said + 1
            if host.member.drops(Phase.BEFORE_TRAINING, said):  # it kills itself
                self._kill(machine, back_at := self.clock() + host.member.group.drop.back_s)
                self._do(back_at, lambda: self._let_begin(machine))

    def _ended(self, machine: Machine, process: BaseProcess) -> None:
        name = machine.role.member.name
        if machine.process is process and not self._is_over and machine.host.down_until < FOREVER_S:
            self.failure = f"{name} ended with code {process.exitcode}; its log ends: {_last_line(machine.role.log)}"
            self._ready[name].set()


def _is_update(frame: Frame) -> bool:
    try:
        return isinstance(codec.decode(frame), Update)
    except RemoteError:
        return False


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else ""
