"""The chronicle of a run: one word leads from an update to the version that it is in, and back."""

import json
from pathlib import Path

import pytest

from fedmq import chronicle, lines
from fedmq.chronicle import Asked, Line
from fedmq.errors import ConfigInvalid
from fedmq.journal import EventEntry, NodeEntry, UpdateEntry
from fedmq.ledger import Keeping, Ledger
from fedmq.messages import Code
from fedmq.plan import Settings, Stop
from fedmq.record import LEDGER, Record
from fedmq.rounds import PRESETS
from fedmq.wanted import Wanted
from pair import Fleet, Worker, params

META = {"federation": "test", "feature_space": "a" * 64, "method": "fedclip"}
QUORUM = PRESETS["quorum"]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A run of six versions with a node that is late, and one that calls itself something odd."""
    folder = tmp_path_factory.mktemp("run")
    ledger = Ledger.open(folder / LEDGER, META, {}, params(), Keeping(), 0.0, 0.0)
    workers = {"a": Worker(), "b": Worker(), "slow": Worker(train_s=1.6)}
    fleet = Fleet(Settings("test", rounds=QUORUM, stop=Stop(versions=6)), workers, ledger=ledger)
    fleet.run()
    ledger.keep(
        [NodeEntry(99.0, "x", "\x1b[2Jodd", "gone"), EventEntry(99.0, "warning", "node.lost", {"node": "x"})], 99.0
    )
    ledger.close()
    return Record.open(folder / LEDGER)


def told(record: Record, **asked: object) -> list[Line]:
    return chronicle.lines(record, Asked(**asked))  # type: ignore[arg-type]


def test_every_accepted_update_is_in_the_version_that_took_it_in(record: Record) -> None:
    updates = [line for line in told(record) if line["kind"] == "update"]
    for version in (line for line in told(record) if line["kind"] == "version" and line["version"] > 0):
        inside = [line["number"] for line in updates if line["version"] == version["version"]]
        assert sorted(inside) == list(range(version["first"], version["folded"]))
        assert len(inside) == version["updates"]
    left = [line for line in updates if line["version"] is None]
    assert [line["code"] for line in left if line["number"] is None and line["code"] == "accepted"] == []


def test_an_update_leads_to_its_version_and_a_version_to_its_updates(record: Record) -> None:
    (update, version) = told(record, update="slow/1")
    assert (update["kind"], version["kind"]) == ("update", "version")
    assert version["version"] == update["version"]
    back = told(record, version=version["version"])
    assert update in back
    assert back[-1] == version


def test_lines_can_be_chosen_by_node_and_verdict(record: Record) -> None:
    assert {line["name"] for line in told(record, nodes=Wanted(names=("s*",)))} == {"slow"}
    assert {line["kind"] for line in told(record, verdicts=("accepted",))} == {"update"}
    refused = told(record, verdicts=tuple(code for code in Code if code is not Code.ACCEPTED))
    accepted = told(record, verdicts=("accepted",))
    assert len(refused) + len(accepted) == len(record.updates())
    with pytest.raises(ConfigInvalid, match="--verdict is 'fine'; there are accepted, too_stale"):
        Asked(verdicts=("fine",))


def test_lines_come_in_order_and_each_is_one_line_of_text_that_a_terminal_only_shows(record: Record) -> None:
    found = told(record)
    assert [line["at"] for line in found] == sorted(line["at"] for line in found)
    for line in found:
        text = lines.text(line)
        assert text.isprintable()
        json.dumps(line)
    assert "[2Jodd" in lines.text(found[-1])


def test_a_refused_update_says_why_in_its_line() -> None:
    line = {
        "kind": "update", "at": 0.0, "update": "edge-7/42", "name": "edge-7", "node": "edge-7", "seq": 42,
        "code": "too_stale", "base_version": 3, "staleness": 8, "examples": 60, "frame_bytes": 67_716, "number": None,
        "text": "trained from version 3, now 11, limit 5 behind", "version": None,
    }  # fmt: skip
    text = lines.text(line)
    assert text.startswith("1970-01-01 00:00:00  edge-7/42 ")
    assert text.endswith("too_stale   from version 3, 8 behind, 60 examples, 67.7 kB: " + str(line["text"]))


def test_the_log_of_both_ends_calls_an_update_the_same(tmp_path: Path) -> None:
    """One word, from training to the version: the node's lines, the aggregator's, and the ledger's."""
    ledger = Ledger.open(tmp_path / LEDGER, META, {}, params(), Keeping(), 0.0, 0.0)
    fleet = Fleet(Settings("test", stop=Stop(versions=3)), {"a": Worker(), "b": Worker()}, ledger=ledger)
    fleet.run()
    ledger.close()
    logs = [(log.event, log.fields) for _, _, log in fleet.simulation.logs]
    accepted = [entry for entry in fleet.kept if isinstance(entry, UpdateEntry) and entry.code is Code.ACCEPTED]
    with Record.open(tmp_path / LEDGER) as record:
        homes = {line["update"]: line["version"] for line in told(record, verdicts=("accepted",))}
    assert len(homes) == len(accepted)
    for update, version in homes.items():
        events = [event for event, fields in logs if fields.get("update") == update]
        assert events == ["update.trained", "update.admitted", "update.judged"]
        (into,) = [
            fields["round"] for event, fields in logs if (event, fields.get("update")) == ("update.admitted", update)
        ]
        assert into == version
