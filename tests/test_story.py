"""A story reads a ledger as it grows: every row once, and the same figures as a report of the whole."""

from collections import Counter
from pathlib import Path

import pytest

from fedmq import story as stories
from fedmq.errors import LedgerUnusable
from fedmq.journal import ReportEntry
from fedmq.ledger import Keeping, Ledger
from fedmq.plan import Settings, Stop
from fedmq.record import LEDGER, Record
from fedmq.report.series import Series
from fedmq.rounds import PRESETS
from fedmq.story import Story
from pair import Fleet, Worker, params

WORKERS = {"a": Worker(tests=8), "b": Worker(tests=8), "slow": Worker(tests=8, train_s=1.6)}
META = {"federation": "test", "feature_space": "a" * 64, "method": "fedclip"}


def opened(folder: Path) -> Ledger:
    return Ledger.open(folder / LEDGER, META, {}, params(), Keeping(), 0.0, 0.0)


def test_a_story_that_is_read_as_it_happens_equals_one_that_is_read_at_the_end(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    fleet = Fleet(Settings("test", rounds=PRESETS["quorum"], stop=Stop(versions=8)), WORKERS, ledger=ledger)
    with Story(tmp_path / LEDGER) as told:
        for until_s in range(1, 40):
            fleet.run(float(until_s))
            told.advance()
        assert told.advance() is False
        with Story(tmp_path / LEDGER) as whole:
            whole.advance()
            assert vars(whole).keys() == vars(told).keys()
            for name in ("rounds", "accuracy", "staleness", "verdicts", "taken"):
                assert getattr(told, name) == getattr(whole, name), name
        with Record.open(tmp_path / LEDGER) as record:
            series = Series(record)
            assert dict(sorted(told.staleness.items())) == series.staleness()
            assert [(one.version, one.up, one.down) for one in told.rounds] == series.traffic()
            assert told.taken == Counter(row["node"] for row in record.updates() if row["code"] == "accepted")
    ledger.close()


def test_where_reports_come_in_order_accuracy_is_that_of_the_report_of_the_run(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    fleet = Fleet(Settings("test", stop=Stop(versions=5)), {"a": Worker(tests=8), "b": Worker(tests=4)}, ledger=ledger)
    fleet.run()
    ledger.close()
    with Story(tmp_path / LEDGER) as told, Record.open(tmp_path / LEDGER) as record:
        told.advance()
        curve = Series(record).accuracy_by_bytes()
        totals = {0: 0.0} | {one.version: float(one.total) for one in told.rounds}
        assert [totals[version] for version in told.accuracy] == curve.x
        assert list(told.accuracy.values()) == pytest.approx(curve.accuracy)


def test_a_report_that_was_overtaken_changes_nothing(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    reports = [ReportEntry(1.0, "a", version, 10, correct, 0.0) for version, correct in ((1, 5), (3, 9), (2, 0))]
    with Story(tmp_path / LEDGER) as told:
        for report in reports:
            ledger.keep([report], 1.0)
            told.advance()
        ledger.keep([ReportEntry(2.0, "b", 3, 10, 5, 0.0)], 2.0)
        told.advance()
        assert told.accuracy == {1: 0.5, 3: 0.7}
    ledger.close()


def test_of_a_long_run_the_newest_rounds_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stories, "KEPT", 5)
    ledger = opened(tmp_path)
    fleet = Fleet(Settings("test", stop=Stop(versions=30)), {"a": Worker(tests=4)}, ledger=ledger)
    fleet.run()
    with Story(tmp_path / LEDGER) as told:
        told.advance()
        assert [one.version for one in told.rounds] == [26, 27, 28, 29, 30]
        assert len(told.accuracy) <= 10
        assert told.taken == {"a": 30}
        assert told.rounds[-1].total == sum(fleet.versions()[-1].traffic.__dict__[key] for key in UP_AND_DOWN)
    ledger.close()


UP_AND_DOWN = ("up_application", "down_application")


def test_a_run_without_a_ledger_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnusable, match="there is no ledger at"):
        Story(tmp_path / LEDGER)
