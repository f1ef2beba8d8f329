"""The wire: two network namespaces with a virtual cable between them, whose interfaces count every byte.

Loopback would mix both directions in one counter, and carry segments of 64 KiB as no other link does. The cable has an
MTU of 1,500, and segments are not left whole for a network card to split (gso_max_segs 1), so what it carries has the
headers, the acknowledgements and the repetitions of an Ethernet. An interface counts Ethernet's 14 bytes per packet as
well: 66 with those of IP and TCP with timestamps.

It needs root. Nothing outside the namespaces is touched, and they end with the processes that hold them.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

NEAR, FAR = "10.71.0.1", "10.71.0.2"
TOOLS = ("ip", "nsenter", "unshare")
_CLONE_NEWNET = 0x40000000
_CABLE = "cable"
_PATIENCE_S = 120.0  # the kernel configures one interface at a time, and takes its time to end a namespace


@dataclass(frozen=True)
class Cable:
    """Two namespaces, each by a process that is in it; near listens at NEAR."""

    near: int
    far: int


@cache
def why_not() -> str:
    """Return why there can be no cable here; nothing if there can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not found (iproute2, util-linux)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with cable():
            return ""
    except OSError as error:
        return str(error)


@contextmanager
def cable() -> Iterator[Cable]:
    """Yield two namespaces that are joined by a cable and by nothing else.

    raises     OSError with what a tool said, where the kernel or its administrator does not want that
    """
    with ExitStack() as held:
        near, far = held.enter_context(_namespace()), held.enter_context(_namespace())
        _inside(near, f"ip link add {_CABLE} mtu 1500 type veth peer name {_CABLE} mtu 1500 netns {far}")
        for pid, address in ((near, NEAR), (far, FAR)):
            # Neighbour discovery and the like would count too.
            _inside(pid, f"ip link set {_CABLE} addrgenmode none")
            _inside(pid, "ip link set lo up")
            _inside(pid, f"ip link set {_CABLE} gso_max_segs 1 up")
            _inside(pid, f"ip address add {address}/24 dev {_CABLE}")
        yield Cable(near, far)


def enter(pid: int) -> None:
    """Move this thread, and what it starts from now on, into the namespace of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if libc.setns(namespace, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace of process {pid}")
    finally:
        os.close(namespace)


def counted() -> tuple[int, int]:
    """Return the bytes that this end of the cable has received and sent; to be asked inside."""
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        name, _, figures = line.partition(":")
        if name.strip() == _CABLE:
            columns = figures.split()
            return int(columns[0]), int(columns[8])
    raise OSError(f"there is no {_CABLE} in this network namespace")


@contextmanager
def _namespace() -> Iterator[int]:
    """Yield a process in a namespace of its own, which ends with us however we end: then its input does."""
    words = ["unshare", "--net", "cat"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as holder:  # noqa: S603
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        try:
            holder.stdin.write(b"there\n")
            holder.stdin.flush()
            if not holder.stdout.readline():
                raise OSError(holder.stderr.read().decode().strip() or "unshare said nothing")
            yield holder.pid
        finally:
            holder.kill()


def _inside(pid: int, command: str) -> None:
    words = ["nsenter", "--net", "--target", str(pid), *command.split()]
    try:
        said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command}: not done after {_PATIENCE_S:g} s") from error
    if said.returncode != 0:
        raise OSError(f"{command}: {said.stderr.strip() or said.stdout.strip()}")
