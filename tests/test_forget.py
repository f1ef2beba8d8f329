"""Forgetting: the head is one solved without the node, and nothing that it sent is left in any file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fedmq import codec, erase, replay, terms
from fedmq.aggregator import Aggregator
from fedmq.commands import app
from fedmq.compress import CODECS
from fedmq.delta import Params, digest_of
from fedmq.effects import Keep, Send
from fedmq.errors import ConfigInvalid, LedgerUnusable
from fedmq.folder import claim
from fedmq.forget import allow, forget
from fedmq.journal import Entry, NodeEntry, ReportEntry, Traffic
from fedmq.ledger import Keeping, Ledger
from fedmq.messages import Code, Hello, Message, Ready, Task, Update, Verdict
from fedmq.plan import Job
from fedmq.points import Points
from fedmq.record import LEDGER, Record
from fedmq.rounds import Cause
from fedmq.stats.forms import FORMS
from ledgers import META, opened
from pair import SPACE
from test_stats import beginning
from test_stats_pool import NODES, SETTINGS, head_of, pool, taken, update

Arrived = Sequence[tuple[str, Update]]
# Three versions: of a; of a and b; of a, c and b, who was replaced. And c was replaced since.
ROUNDS: tuple[Arrived, ...] = (NODES[:1], NODES[1:2], [NODES[2], ("b", update(7, seq=2))])
PENDING: Arrived = [("c", update(8, seq=2))]


def written(folder: Path, rounds: Sequence[Arrived] = ROUNDS, pending: Arrived = PENDING) -> Path:
    """Write a run in which the nodes a, b and c have an id of their own, and return its folder."""
    folder.mkdir()
    meta = META | {"method": "statistics"}
    ledger = Ledger.open(folder / LEDGER, meta, {}, beginning(), Keeping(), 0.0, 1.0, terms.written(SETTINGS))
    found = pool()
    for name in "abc":
        entries: list[Entry] = [NodeEntry(1.0, f"id-{name}", name, "idle")]
        ledger.keep([*entries, ReportEntry(1.0, f"id-{name}", None, 9, 3, 0.5)], 1.0)
    for arrived in rounds:
        ledger.keep([*taken(named(arrived), found), found.commit(Cause.GOAL, Traffic(), 2.0)], 2.0)
    ledger.keep(taken(named(pending), found), 3.0)
    ledger.close()
    return folder


def named(arrived: Arrived) -> list[tuple[str, Update]]:
    return [(f"id-{node}", one) for node, one in arrived]


def newest(folder: Path) -> tuple[int, str]:
    with Record.open(folder / LEDGER) as record:
        version, params = record.params()
        return version, digest_of(params)


def params_of(folder: Path) -> dict[int, Params]:
    """Return the params that a run has, by version."""
    found = {}
    with Record.open(folder / LEDGER) as record:
        for row in record.versions():
            if (point := Points(record).point(row["version"])) is not None:
                found[row["version"]] = point.exact
    return found


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


@pytest.mark.parametrize(
    ("who", "left"),
    [
        ("a", [("b", update(7, seq=2)), ("c", update(8, seq=2))]),
        ("b", [NODES[0], ("c", update(8, seq=2))]),
        ("id-c", [NODES[0], ("b", update(7, seq=2))]),
    ],
)
def test_the_head_afterwards_is_one_solved_without_the_node_to_the_bit(who: str, left: Arrived, tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    done = forget(run, who)
    assert (done.version, done.nodes) == (4, 2)
    assert newest(run) == (4, head_of(named(left)))


def test_nothing_that_the_node_sent_or_was_made_of_it_is_left_in_any_file(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    sent = [bytes(one.payload) for node, one in (*ROUNDS[1], *ROUNDS[2]) if node == "b"]
    others = [bytes(one.payload) for node, one in (*ROUNDS[0], *ROUNDS[2], *PENDING) if node != "b"]
    heads = {version: params.flat.tobytes() for version, params in params_of(run).items()}
    before = everything(run)
    assert all(data in before for data in (*sent, *others, *heads.values()))
    done = forget(run, "b")
    after = everything(run)
    assert (done.payloads, done.payload_bytes) == (2, sum(map(len, sent)))
    assert [data in after for data in sent] == [False, False]
    assert all(data in after for data in others)
    assert {version: data in after for version, data in heads.items()} == {0: True, 1: True, 2: False, 3: False}
    with Record.open(run / LEDGER) as record:
        assert {row["node"] for row in record.reports()} == {"id-a", "id-c"}
        assert [(row["seq"], row["code"]) for row in record.updates() if row["node"] == "id-b"] == [
            (1, "accepted"),
            (2, "accepted"),
        ]


def test_what_is_left_replays_to_the_bit_and_what_was_forgotten_cannot(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    with Record.open(run / LEDGER) as record:
        assert [one.outcome.value for one in replay.replay(record)] == ["same"] * 4
    forget(run, "b")
    with Record.open(run / LEDGER) as record:
        found = {one.version: one.outcome.value for one in replay.replay(record)}
    assert found == {0: "same", 1: "same", 2: "cannot be replayed", 3: "cannot be replayed", 4: "same"}


def test_forgetting_everybody_leaves_the_frozen_model(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    for who in "abc":
        done = forget(run, who)
    assert (done.version, done.nodes) == (6, 0)
    assert newest(run) == (6, digest_of(beginning()))


def test_a_forgetting_that_was_cut_short_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = written(tmp_path / "run")
    sent = bytes(NODES[1][1].payload)

    def full(_file: int, _data: bytes, _start: int) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("fedmq.erase.os.pwrite", full)
        with pytest.raises(LedgerUnusable, match="No space left on device; mend that and run it again"):
            forget(run, "b")
    assert sent in everything(run)
    erase.finish(run / LEDGER)
    assert sent not in everything(run)
    again = forget(run, "b")
    assert (again.version, again.payloads, newest(run)) == (5, 0, (5, head_of(named([NODES[0], PENDING[0]]))))


class Speaker:
    """An aggregator that goes on with a run, and is spoken to directly."""

    def __init__(self, run: Path) -> None:
        with Record.open(run / LEDGER) as record:
            past = Points(record).past()
        job = Job(SPACE, 12, "statistics", {}, b"", beginning())
        self.aggregator = Aggregator(SETTINGS, job, past, np.random.default_rng(0), now=0.0)

    def say(self, peer: str, message: Message) -> list[Message]:
        said, effects = [], self.aggregator.receive(peer, codec.encode(message), 1.0)
        while effects:
            effect = effects.pop(0)
            if isinstance(effect, Keep):
                effects += self.aggregator.kept(effect.number, 1.0)
            elif isinstance(effect, Send) and peer in effect.peers:
                said.append(codec.decode(effect.frame))
        return said

    def join(self, peer: str) -> list[Message]:
        hello = Hello(7, "test", peer, SPACE, 12, ("statistics",), (*CODECS, *FORMS))
        return [*self.say(peer, hello), *self.say(peer, Ready(7, 40, 0))]


def test_a_forgotten_node_may_come_but_is_not_asked_and_not_heard_until_it_is_allowed(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    forget(run, "b")
    speaker = Speaker(run)
    assert [type(one) for one in speaker.join("id-b") if isinstance(one, Task)] == []
    (verdict,) = speaker.say("id-b", Update(7, 3, 4, "stats-fp32", 47, payload=update(7).payload))
    assert isinstance(verdict, Verdict)
    assert (verdict.code, verdict.seq) == (Code.FORGOTTEN, 3)
    assert allow(run, "b") == "id-b"
    assert [type(one) for one in Speaker(run).join("id-b") if isinstance(one, Task)] == [Task]


def test_a_run_that_cannot_forget_says_why(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    with pytest.raises(ConfigInvalid, match=r"0 nodes are called 'z'; there are a \(id-a\), b \(id-b\), c \(id-c\)"):
        forget(run, "z")
    with claim(run), pytest.raises(LedgerUnusable, match="in use by another process"):
        forget(run, "a")
    with pytest.raises(LedgerUnusable, match="there is no ledger"):
        forget(tmp_path, "a")
    (tmp_path / "deltas").mkdir()
    ledger = opened(tmp_path / "deltas" / LEDGER)
    ledger.keep([NodeEntry(1.0, "a", "a", "idle")], 1.0)
    ledger.close()
    with pytest.raises(ConfigInvalid, match="learns by fedclip, whose deltas are in every version since"):
        forget(tmp_path / "deltas", "a")


def test_the_command_says_what_it_erased(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    done = CliRunner().invoke(app, ["forget", str(run), "b"], catch_exceptions=False)
    assert "version 4 is of 2 nodes, without id-b; erased: 2 payloads, 936 bytes" in done.output
    again = CliRunner().invoke(app, ["forget", str(run), "b", "--undo", "--json"], catch_exceptions=False)
    assert again.output == '{"node": "id-b", "allowed": true}\n'
