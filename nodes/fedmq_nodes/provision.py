"""Provisioning: of one fleet file, a folder for each machine, and the line to type for it.

    aggregator/     federation.toml, keys/, and what it needs to log in to a broker
    broker/         what a Mosquitto needs, if the link is one's; ca.key stays here
    nodes/NAME/     node.toml, the aggregator's public key, and what the node needs to log in to a broker
    bundle/         a copy, if the federation's bundle is a folder

What is secret is made once and kept, so that a second call with one node more changes nothing for the others. A node's
own key is made on its device and never leaves it; its public half is then enrolled. With `with_keys` it is made here,
which spares a step per device, and whoever can read this folder or the copy that travels can then be that node.
"""

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from fedmq import config, keys, mosquitto
from fedmq.config import Federation, Table
from fedmq.errors import ConfigInvalid, KeyUnusable
from fedmq.transports import AGGREGATOR
from fedmq_models import bundle as bundles
from fedmq_nodes import fleetfile, nodefile

BUNDLE = "bundle"


@dataclass(frozen=True)
class Provisioned:
    """What was made. `lines`: machine -> what to type, in this order."""

    folder: Path
    lines: dict[str, list[str]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"folder": str(self.folder), "lines": self.lines}

    @property
    def text(self) -> str:
        """What a person is told."""
        told = [f"in {self.folder}, to be typed there; put each device's address in place of its name"]
        for machine, lines in self.lines.items():
            told += ["", f"# {machine}", *lines]
        return "\n".join(told)


def provision(
    file: Path,
    overrides: Sequence[str],
    out: Path,
    with_keys: bool,
    broker_at: Path | None,
    draw: Callable[[int], bytes],
) -> Provisioned:
    """Write everything below `out`, and return what to type.

    draw       so many random bytes
    raises     ConfigInvalid for a fleet that could not run so; KeyUnusable if a key that lies there is damaged
    """
    file, out = file.absolute(), out.absolute()
    fleet = fleetfile.read(file, overrides)
    federation, names = fleet.federation, [node.name for node in fleet.nodes]
    if AGGREGATOR in names:
        raise ConfigInvalid(f"{file}: a node is named {AGGREGATOR!r}, which is the aggregator's own name")
    host, port = _reached_at(federation, file)
    secure, broker = federation.link.secure, config.is_broker(federation.link.address)
    if broker:
        _broker(out / "broker", federation, names, broker_at, host, draw)
    else:
        out.mkdir(parents=True, exist_ok=True)
    bundle = _bundle(federation.bundle, out)
    tables = config.read(file)
    told = tables["federation"]
    own = told if isinstance(told, dict) else config.read(file.parent / told)
    config.override(own, overrides)
    _aggregator(out, own, federation, bundle, port)
    for entry in tables["nodes"]:
        _node(out, tables.get("defaults", {}) | entry, federation, bundle, secure, with_keys)
    return Provisioned(out, _lines(federation, names, bundle, with_keys))


def _reached_at(federation: Federation, file: Path) -> tuple[str, str]:
    """Return host and port of the address that nodes will use."""
    _, _, rest = federation.link.address.partition("://")
    host, colon, port = rest.rpartition(":")
    if config.is_broker(federation.link.address):
        return (host if colon else rest).strip("[]"), port
    if host in ("", "*", "0.0.0.0") or not port.isdecimal():  # noqa: S104
        raise ConfigInvalid(
            f"{file}: link.address is {federation.link.address!r}; say where nodes find the aggregator, such as "
            "tcp://hub.example:5600"
        )
    return host, port


def _broker(
    folder: Path, federation: Federation, names: Sequence[str], at: Path | None, host: str, draw: Callable[[int], bytes]
) -> None:
    path = mosquitto.write(folder, federation, names, draw)
    if federation.link.address.startswith("mqtts://"):
        try:
            from fedmq_nodes import certificates
        except ModuleNotFoundError as error:
            raise ConfigInvalid(f"certificates take {error.name}: pip install 'fedmq[provision]'") from error
        certificates.write(folder, host, federation.federation)
        mosquitto.hand_over(folder / "broker.crt", folder / "broker.key")
    if at is not None:
        path.write_text(mosquitto.configuration(at, federation))


def _bundle(bundle: str, out: Path) -> str:
    """Return what to call the bundle in files one folder down; a folder is copied, once."""
    bundles.load(bundle)
    if not Path(bundle).is_dir():
        return bundle
    if not (out / BUNDLE).exists():
        shutil.copytree(bundle, out / BUNDLE)
    return f"../{BUNDLE}"


def _aggregator(out: Path, own: Table, federation: Federation, bundle: str, port: str) -> None:
    folder = out / "aggregator"
    table = {key: value for key, value in own.items() if key not in ("bundle", "run", "link")}
    link: Table = {"address": federation.link.address, "curve": federation.link.curve}
    if federation.link.secure:
        with suppress(KeyUnusable):
            keys.new(folder / "keys", AGGREGATOR)
        keys.load(folder / "keys" / f"{AGGREGATOR}.key_secret")
        (folder / "keys" / "enrolled").mkdir(exist_ok=True)
    if config.is_broker(federation.link.address):
        link["broker"] = _login(out, folder, AGGREGATOR, federation)
    elif not config.is_loopback(federation.link.address):
        link["address"] = f"tcp://0.0.0.0:{port}"
    folder.mkdir(parents=True, exist_ok=True)
    table |= {"bundle": bundle, "run": "run", "link": link}
    # Files that stay where they are, whatever folder they were named from.
    table |= {"task": dict(federation.task)} if federation.task else {}
    table |= {"start_from": str(federation.start_from)} if federation.start_from else {}
    path = folder / "federation.toml"
    path.write_text(f"# Written by fedmq provision.\n{tomli_w.dumps(table)}")
    fleetfile.federation(path, [])


def _node(out: Path, entry: Table, federation: Federation, bundle: str, secure: bool, with_keys: bool) -> None:
    name = entry["name"]
    folder = out / "nodes" / name
    folder.mkdir(parents=True, exist_ok=True)
    found = bundles.load(federation.bundle)
    node: Table = {"state": "state", **entry, "bundle": BUNDLE if bundle.startswith("../") else bundle}
    if secure:
        shutil.copyfile(out / "aggregator" / "keys" / f"{AGGREGATOR}.key", folder / f"{AGGREGATOR}.key")
        node |= {"key": f"{name}.key_secret", "aggregator_key": f"{AGGREGATOR}.key"}
        if with_keys:
            with suppress(KeyUnusable):
                keys.new(folder, name)
            keys.load(folder / f"{name}.key_secret")
            keys.enrol(folder / f"{name}.key", out / "aggregator" / "keys" / "enrolled")
    if config.is_broker(federation.link.address):
        node |= _login(out, folder, name, federation)
    table = {"address": federation.link.address, "federation": federation.federation, "node": node}
    text = f"# Written by fedmq provision. Bundle: {found.name}, feature space {found.feature_space[:16]}.\n"
    path = folder / "node.toml"
    path.write_text(text + tomli_w.dumps(table))
    nodefile.read(path, {})


def _login(out: Path, folder: Path, user: str, federation: Federation) -> Table:
    """Copy what this user needs to log in to the broker, and return the settings that say so."""
    folder.mkdir(parents=True, exist_ok=True)
    password = folder / f"{user}.password"
    password.touch(0o600)
    password.write_text((out / "broker" / "secrets" / f"{user}.password").read_text())
    login: Table = {"user": user, "password": password.name}
    if federation.link.address.startswith("mqtts://"):
        shutil.copyfile(out / "broker" / "ca.crt", folder / "ca.crt")
        login["ca"] = "ca.crt"
    return login


def _lines(federation: Federation, names: Sequence[str], bundle: str, with_keys: bool) -> dict[str, list[str]]:
    lines: dict[str, list[str]] = {}
    if config.is_broker(federation.link.address):
        lines["broker"] = ["mosquitto -c broker/mosquitto.conf"]
    lines[AGGREGATOR] = ["fedmq serve aggregator/federation.toml"]
    copied = f" {BUNDLE}" if bundle.startswith("../") else ""
    for name in names:
        send = f"ssh {name} mkdir -p fedmq && scp -rp nodes/{name}/.{copied} {name}:fedmq/"
        run = "fedmq join node.toml"
        if not federation.link.secure or with_keys:
            lines[name] = [f"{send} && ssh {name} 'cd fedmq && {run}'"]
            continue
        enrol = f"scp {name}:fedmq/{name}.key . && fedmq keys enrol {name}.key --folder aggregator/keys/enrolled"
        make = f"fedmq keys new {name} --folder ."
        lines[name] = [f"{send} && ssh {name} 'cd fedmq && {make}' && {enrol} && ssh {name} 'cd fedmq && {run}'"]
    return lines
