"""A Mosquitto for one federation: its configuration, who may come with which password, and who may say and hear what.

A node may publish its own `up` and `status` topics and read its own `down` and the model; the aggregator the reverse.
A broker names users by password, so a node's name is its user there. Passwords lie in a file each, to be carried to
where they are used; the broker has their hashes. What is there already is kept, so a node more changes nobody else's.
"""

import base64
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from fedmq.config import Federation, is_broker, require_private
from fedmq.errors import ConfigInvalid
from fedmq.login import Login
from fedmq.transports import AGGREGATOR
from fedmq.transports.broker import Broker
from fedmq.transports.mqtt import Topics

ITERATIONS, SALT_BYTES = 101, 12  # as mosquitto_passwd does; the passwords are drawn, and need no slower hash
USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SERVICE = "mosquitto"
QUEUED_MESSAGES, IN_FLIGHT = 512, 20


def write(folder: Path, federation: Federation, nodes: Sequence[str], draw: Callable[[int], bytes]) -> Path:
    """Write mosquitto.conf, passwords, access and one secrets/NAME.password each; return the first.

    draw       so many random bytes
    raises     ConfigInvalid for a name that cannot be a user, or an address that is no broker's
    """
    users = [AGGREGATOR, *nodes]
    for name in users:
        if not USER.fullmatch(name) or users.count(name) > 1:
            raise ConfigInvalid(f"{name!r} cannot be a node's name here, or is one twice")
    folder = folder.absolute()
    text = configuration(folder, federation)
    secrets = folder / "secrets"
    try:
        secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "state").mkdir(exist_ok=True)
        lines = [_hashed(name, _password(secrets / f"{name}.password", draw), draw(SALT_BYTES)) for name in users]
        _keep_private(folder / "passwords", "".join(lines))
        _keep_private(folder / "access", access(federation.federation, nodes))
        (folder / "mosquitto.conf").write_text(text)
        hand_over(folder / "passwords", folder / "access", folder / "state")
    except OSError as error:
        raise ConfigInvalid(f"cannot write to {folder}: {error.strerror}") from error
    return folder / "mosquitto.conf"


def configuration(folder: Path, federation: Federation) -> str:
    """Return mosquitto.conf: one listener, nobody anonymous, and a bound on what a slow node makes the broker keep."""
    address = federation.link.address
    if not is_broker(address):
        raise ConfigInvalid(f"link.address is {address}, which is no broker's; set it to mqtts://HOST or mqtt://HOST")
    require_private(address, federation.link.broker)
    broker = Broker(address, Login())
    frame = federation.limits.frame_bytes
    lines = [
        f"# Mosquitto for the federation {federation.federation!r}, written by fedmq broker-config.",
        f"listener {broker.port}" + ("" if broker.is_private else " 127.0.0.1"),
        *([f"certfile {folder}/broker.crt", f"keyfile {folder}/broker.key"] if broker.is_private else []),
        "allow_anonymous false",
        f"password_file {folder}/passwords",
        f"acl_file {folder}/access",
        "persistence true",
        f"persistence_location {folder}/state/",
        "persistent_client_expiration 1h",
        "# Per client: on their way, and waiting behind those.",
        f"max_inflight_messages {IN_FLIGHT}",
        f"max_queued_messages {QUEUED_MESSAGES}",
        f"max_queued_bytes {2 * frame}",
        "# A whole version is one message, so that it can be retained.",
        f"max_packet_size {frame + 4096}",
    ]
    return "\n".join(lines) + "\n"


def access(federation: str, nodes: Sequence[str]) -> str:
    """Return the access list."""
    topics = Topics(federation)
    entries = [
        f"user {AGGREGATOR}",
        f"topic read {topics.up('+')}",
        f"topic read {topics.status('+')}",
        f"topic write {topics.model}",
        f"topic write {topics.keyframe}",
        f"topic write {topics.down('+')}",
    ]
    for node in nodes:
        entries += [
            "",
            f"user {node}",
            f"topic write {topics.up(node)}",
            f"topic write {topics.status(node)}",
            f"topic read {topics.down(node)}",
            f"topic read {topics.model}",
            f"topic read {topics.keyframe}",
        ]
    return "\n".join(entries) + "\n"


def _password(path: Path, draw: Callable[[int], bytes]) -> str:
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(base64.urlsafe_b64encode(draw(24)).decode() + "\n")
    return path.read_text().strip()


def _keep_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read: Mosquitto warns of others, and announces that it will refuse them."""
    path.touch(0o600)
    path.chmod(0o600)
    path.write_text(text)


def hand_over(*paths: Path) -> None:
    """Give files of root's to the user that a Mosquitto of root's becomes, if this machine has one."""
    if os.geteuid() == 0:
        with suppress(LookupError):
            for path in paths:
                shutil.chown(path, SERVICE)


def _hashed(user: str, password: str, salt: bytes) -> str:
    """Return a line of Mosquitto's password file: PBKDF2 with SHA-512, its format $7$."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    encoded = [base64.b64encode(part).decode() for part in (salt, digest)]
    return f"{user}:$7${ITERATIONS}${encoded[0]}${encoded[1]}\n"
