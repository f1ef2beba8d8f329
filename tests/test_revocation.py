"""Revocation as a person sees it: real processes, real keys, a connection that was open before."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from fedmq import keys
from fedmq.errors import LedgerUnusable
from fedmq.record import LEDGER, Record
from running import PATIENCE_S, fedmq
from test_fleet import FEDERATION, own_folder, serving, started

__all__ = ["own_folder"]


def test_a_revoked_node_is_refused_at_once_exits_with_4_and_joins_again_once_it_is_enrolled_again() -> None:
    Path("federation.toml").write_text(FEDERATION + '[link]\ncurve = "on"\naddress = "tcp://127.0.0.1:*"\n')
    for name in ("aggregator", "a", "b"):
        fedmq("keys", "new", name)
    for name in ("a", "b"):
        fedmq("keys", "enrol", f"keys/{name}.key")
    a, b = (keys.load_public(Path(f"keys/{name}.key")).decode() for name in "ab")
    with serving("federation.toml", "--set", "start_nodes=1") as (_, address):

        def join(name: str) -> tuple[str, ...]:
            pair = ("--key", f"keys/{name}.key_secret", "--aggregator-key", "keys/aggregator.key")
            limit = ("--examples-per-s", "400")  # about seven rounds a second
            return ("join", address, "--bundle", "./toy", "--features", "a.npz", "--name", name, *pair, *limit)

        with started(*join("b"), log="b.log") as other:
            with started(*join("a"), log="a.log") as node:
                until(node, lambda: updates_of(a) >= 1)
                fedmq("keys", "revoke", "a")
                assert node.wait(PATIENCE_S) == 4
            assert "(revoked): this node's key is not enrolled any more" in Path("a.log").read_text()
            before, others = updates_of(a), updates_of(b)
            until(other, lambda: updates_of(b) >= others + 2)
            assert updates_of(a) == before
            fedmq("keys", "enrol", "keys/a.key")
            with started(*join("a"), log="again.log") as again:
                until(again, lambda: updates_of(a) > before)
    seqs = [row["seq"] for row in Record.open(Path("run") / LEDGER).updates() if row["node"] == a]
    assert seqs == list(range(1, len(seqs) + 1))


def updates_of(node: str) -> int:
    """How many updates of this node the ledger has; none while its file is being made."""
    try:
        with Record.open(Path("run") / LEDGER) as record:
            return sum(row["node"] == node for row in record.updates())
    except LedgerUnusable:
        return 0


def until(process: subprocess.Popen[str], holds: Callable[[], bool]) -> None:
    """Look again and again while the process runs."""
    while not holds():
        try:
            raise AssertionError(f"it ended with {process.wait(0.1)}")
        except subprocess.TimeoutExpired:
            continue
