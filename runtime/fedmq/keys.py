"""Keys: who an end of a link is. Curve25519 pairs, as ZeroMQ's CURVE uses them, in ZeroMQ's certificate files.

A pair is NAME.key_secret, which stays where it was made and is readable by its owner alone, and NAME.key, which is
public. An aggregator lets in the nodes whose public keys lie in one folder, as that is now: it is looked at with every
frame, so enrolling and revoking need no restart. That is cheap: as long as the folder itself has not changed, one stat.
"""

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import zmq.auth
from zmq.utils import z85

from fedmq.errors import KeyUnusable

KEY_CHARACTERS = 40
FINGERPRINT_BYTES = 8
LOOK_S = 2.0  # a file that was edited in place does not change its folder; it is noticed after so long


@dataclass(frozen=True)
class KeyPair:
    """Both halves, z85, 40 characters each."""

    public: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class _Read:
    """A file as it was when it was read."""

    stamp: tuple[int, int, int]
    key: str


class Enrolled:
    """The public keys in one folder, as text. A file is read again only when it has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed_at_ns = -1
        self._looked_at = 0.0
        self._files: dict[str, _Read] = {}
        self._keys: frozenset[str] = frozenset()

    def now(self, now: float) -> frozenset[str]:
        """Return who may come, looking closely when the folder has changed or `LOOK_S` have passed.

        The same object is returned as long as nobody was enrolled or revoked.
        """
        if self._folder_changed_at_ns() != self._changed_at_ns or now - self._looked_at > LOOK_S:
            self._looked_at = now
            self.look()
        return self._keys

    def look(self) -> frozenset[str]:
        """Return who may come, after looking at every file."""
        changed_at_ns, files = self._folder_changed_at_ns(), {}
        with suppress(OSError):
            for entry in os.scandir(self._folder):
                if entry.name.endswith(".key"):
                    with suppress(KeyUnusable, OSError):
                        files[entry.name] = self._read(Path(entry.path), entry.stat())
        self._changed_at_ns, self._files = changed_at_ns, files
        keys = frozenset(read.key for read in files.values())
        if keys != self._keys:
            self._keys = keys
        return self._keys

    def _read(self, path: Path, found: os.stat_result) -> "_Read":
        stamp = (found.st_ino, found.st_size, found.st_ctime_ns)
        known = self._files.get(path.name)
        return known if known is not None and known.stamp == stamp else _Read(stamp, load_public(path).decode())

    def _folder_changed_at_ns(self) -> int:
        try:
            return self._folder.stat().st_mtime_ns
        except OSError:
            return -1


@dataclass(frozen=True)
class AggregatorKeys:
    """Our pair, and the folder of those who may come."""

    own: KeyPair
    folder: Path

    @cached_property
    def enrolled(self) -> "Enrolled":
        """Who may come."""
        return Enrolled(self.folder)

    def admits(self, public: bytes) -> bool:
        """Whether the node with this public key may come, as the folder is now; an unreadable file admits nobody."""
        return public.decode("ascii", "replace") in self.enrolled.look()


@dataclass(frozen=True)
class NodeKeys:
    """Our pair, and the aggregator's public key."""

    own: KeyPair
    aggregator: bytes


def new(folder: Path, name: str) -> Path:
    """Make a pair and return the path of its public half.

    raises     KeyUnusable if there is one already: a key is an identity, and is not overwritten
    """
    for path in (folder / f"{name}.key_secret", folder / f"{name}.key"):
        if path.exists():
            raise KeyUnusable(
                f"{path} exists already; a new key is a new identity, so choose another name or remove it first"
            )
    before = os.umask(0o077)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        public, _ = zmq.auth.create_certificates(folder, name)
    except OSError as error:
        raise KeyUnusable(f"cannot write keys to {folder}: {error.strerror}") from error
    finally:
        os.umask(before)
    return Path(public)


def load(path: Path) -> KeyPair:
    """Return the pair in a .key_secret file.

    raises     KeyUnusable if it is missing, malformed, or readable by others
    """
    public, secret = _read(path)
    if secret is None:
        raise KeyUnusable(f"{path} holds no secret key; name the file that ends in .key_secret")
    if path.stat().st_mode & 0o077:
        raise KeyUnusable(f"{path} can be read by others; chmod 600 it, or make a new key if others could log in")
    return KeyPair(public, secret)


def load_public(path: Path) -> bytes:
    """Return the public key in a .key file, z85."""
    return _read(path)[0]


def fingerprint(public: bytes) -> str:
    """Return a short form of a public key, to be compared by eye or on the telephone: 16 hexadecimal digits."""
    digits = hashlib.sha256(z85.decode(public)).hexdigest()[: 2 * FINGERPRINT_BYTES]
    return "-".join(digits[i : i + 4] for i in range(0, len(digits), 4))


def enrol(public: Path, folder: Path) -> Path:
    """Let in the node with this public key, and return where that is now written.

    raises     KeyUnusable if it is no public key, or another one has its name
    """
    key, secret = _read(public)
    if secret is not None:
        raise KeyUnusable(f"{public} holds a secret key, which stays where it was made; enrol its .key instead")
    target = folder / f"{public.stem}.key"
    if target.exists():
        if load_public(target) != key:
            raise KeyUnusable(f"{target} is another key of the same name; rename the file to enrol both")
        return target
    unfinished = folder / f"{public.stem}.unfinished"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(public, unfinished)
        unfinished.replace(target)
        target.with_suffix(".revoked").unlink(missing_ok=True)
    except OSError as error:
        raise KeyUnusable(f"cannot write {target}: {error.strerror}") from error
    return target


def _read(path: Path) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(path)
        for key in (public, secret):
            if key is not None and (len(key) != KEY_CHARACTERS or not set(key) <= set(z85.Z85CHARS)):
                raise ValueError(f"a key has {KEY_CHARACTERS} characters of z85, one here has {len(key)}")
    except (OSError, ValueError) as error:
        raise KeyUnusable(f"{path} is not a key file: {error}; fedmq keys new makes one") from error
    return public, secret
