"""The doctor: what would keep a node or an aggregator from working here, found before it is needed."""

import asyncio
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fedmq.config import Federation, is_broker
from fedmq.errors import FedmqError
from fedmq.keys import load
from fedmq.login import Login
from fedmq_models import bundle as bundles
from fedmq_models.encode import devices
from fedmq_models.errors import ModelError
from fedmq_nodes.options import user_cache

OK, WARNING, FAILED = "ok", "warning", "failed"
LEAST_FREE_BYTES = 2**30
PACKAGES = ("numpy", "msgpack", "pyzmq", "pydantic", "torch", "onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Finding:
    """What one look at something showed."""

    what: str
    state: str
    text: str

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def examine(federation: Federation | None, bundle: str, broker: str | None) -> Iterator[Finding]:
    """Look at everything, and say what was found as it is found.

    federation     also look at its address, its keys, its bundle and its run folder
    broker         host or host:port of an MQTT broker to knock at
    """
    yield _python()
    yield _packages()
    yield from _providers()
    yield _guarded("torch", _torch)
    yield _guarded("bundle", lambda: _bundle(federation.bundle if federation else bundle))
    yield _guarded("cache", lambda: _disk(user_cache()))
    if federation is not None:
        yield _guarded("run folder", lambda: _disk(federation.run))
        if is_broker(federation.link.address):
            yield _guarded("broker", lambda: _knock(federation.link.address, federation.link.broker))
        else:
            yield _guarded("address", lambda: _address(federation.link.address))
        if federation.link.secure:
            yield _guarded("keys", lambda: _keys(federation))
    if broker is not None:
        yield _guarded("broker", lambda: _knock(broker if is_broker(broker) else f"mqtt://{broker}", Login()))


def _guarded(what: str, look: Callable[[], tuple[str, str]]) -> Finding:
    try:
        return Finding(what, *look())
    except (FedmqError, ModelError, OSError) as error:
        return Finding(what, FAILED, str(error))


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", OK if sys.version_info >= (3, 11) else FAILED, f"{found}; fedmq needs 3.11 or newer")


def _packages() -> Finding:
    present = []
    for name in ("fedmq", *PACKAGES):
        try:
            present.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return Finding("packages", OK, ", ".join(present))


def _providers() -> Iterator[Finding]:
    for problem in devices.findings():
        yield Finding("onnxruntime", FAILED, problem)
    yield _guarded("devices", lambda: (OK, ", ".join(devices.available())))


def _torch() -> tuple[str, str]:
    try:
        import torch
    except ImportError as error:
        return WARNING, f"{error}: statistics, evaluation and classes work without torch, training needs fedmq[cpu]"
    cuda = "with CUDA" if torch.cuda.is_available() else "without CUDA, which training does not need"
    return OK, f"{torch.get_num_threads()} threads, {cuda}"


def _bundle(name: str) -> tuple[str, str]:
    found = bundles.verify(name)
    if found:
        return FAILED, "; ".join(map(str, found))
    bundle = bundles.load(name)
    space = f"feature space {bundle.feature_space[:16]}"
    return OK, f"{bundle.name}: {len(bundle.labels)} classes, {bundle.dim} dimensions, {space}"


def _disk(folder: Path) -> tuple[str, str]:
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    return (OK if free > LEAST_FREE_BYTES else WARNING), f"{folder}: {free / 1e9:.1f} GB free"


def _address(address: str) -> tuple[str, str]:
    scheme, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or not (port.isdigit() or port == "*"):
        return FAILED, f"{address} is not an address such as tcp://127.0.0.1:5600"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("" if host == "*" else host, 0 if port == "*" else int(port)))
        except OSError as error:
            return FAILED, f"{address}: {error.strerror}; stop what listens there, or choose another port"
    return OK, f"{address} is free"


def _keys(federation: Federation) -> tuple[str, str]:
    load(federation.link.key)
    enrolled = len(list(federation.link.enrolled.glob("*.key")))
    return (OK if enrolled else WARNING), f"{federation.link.key}; {enrolled} nodes are enrolled"


def _knock(address: str, login: Login) -> tuple[str, str]:
    from fedmq.transports.broker import Broker

    found = asyncio.run(Broker(address, login).knock())
    return OK, f"{address} answers, and takes messages of up to {found} bytes"
