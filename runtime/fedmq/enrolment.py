"""Enrolment: who is let in, since when, and who no longer is.

An enrolled key is NAME.key in the aggregator's folder. Revoking it renames that file to NAME.revoked, so that a second
revocation can be told from a mistyped name, and `fedmq keys list` still knows whose key it was. Enrolling the same file
again lets the node in again.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedmq.errors import KeyUnusable
from fedmq.keys import fingerprint, load_public

ENROLLED, REVOKED, UNUSABLE = "enrolled", "revoked", "unusable"


@dataclass(frozen=True)
class Enrolment:
    """One file of the folder.

    state          enrolled, revoked, or unusable: it lets nobody in, and `problem` says why
    since_at       when it got there, or was revoked, in seconds since 1970
    fingerprint    short form of `key`, which is the identity that a node has in the ledger and the status
    """

    name: str
    state: str
    since_at: float
    key: str = ""
    fingerprint: str = ""
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def listing(folder: Path) -> list[Enrolment]:
    """Return everyone who was ever enrolled in this folder, by name."""
    paths = [path for path in folder.glob("*") if path.suffix in (".key", ".revoked")]
    return [_enrolment(path) for path in sorted(paths)]


def revoke(who: str, folder: Path) -> tuple[list[Enrolment], bool]:
    """Let this node in no longer, by its name, its key or the fingerprint of that.

    A key that was enrolled under several names loses all of them.

    returns    whose files are revoked now, and whether any of them was not before
    raises     KeyUnusable if nobody of that name or key was ever enrolled, or the folder cannot be changed
    """
    known = listing(folder)
    named = [one for one in known if who.removesuffix(".key") in (one.name, one.key, one.fingerprint)]
    if not named:
        names = ", ".join(sorted({one.name for one in known if one.state != REVOKED})) or "nobody"
        raise KeyUnusable(f"{who} is not enrolled in {folder}, so nothing was revoked; enrolled: {names}")
    keys = {one.key for one in named} - {""}
    meant = [one for one in known if one in named or one.key in keys]
    live = [one for one in meant if one.state != REVOKED]
    for one in live:
        path = folder / f"{one.name}.key"
        try:
            path.replace(path.with_suffix(".revoked"))
            path.with_suffix(".revoked").touch()
        except OSError as error:
            raise KeyUnusable(f"cannot revoke {path}: {error.strerror}; remove it by hand") from error
    return [_enrolment(folder / f"{name}.revoked") for name in sorted({one.name for one in meant})], bool(live)


def _enrolment(path: Path) -> Enrolment:
    state = REVOKED if path.suffix == ".revoked" else ENROLLED
    try:
        since_at = path.stat().st_mtime
        key = load_public(path)
    except (OSError, KeyUnusable) as error:
        return Enrolment(path.stem, UNUSABLE if state == ENROLLED else state, since_at, problem=str(error))
    return Enrolment(path.stem, state, since_at, key.decode(), fingerprint(key))
