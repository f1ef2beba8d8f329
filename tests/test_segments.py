"""Segments: what was appended and synced is read back; what a crash left is written over; the oldest go first."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import ledgers
from fedmq import segments
from fedmq.errors import LedgerUnusable
from fedmq.ledger import Keeping
from fedmq.past import Past
from fedmq.points import Points
from fedmq.segments import Place, Segments
from ledgers import Life, opened, reading
from pair import params


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    ledgers.close_all()


def files(ledger: Path) -> list[str]:
    return sorted(path.name for path in ledger.parent.glob("*-payloads-*"))


def test_payloads_are_read_back_from_where_they_were_put(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    found = Segments(ledger, {1: 0})
    payloads = [bytes([i]) * (700_000 * i) for i in range(4)]
    places = [found.append(payload) for payload in payloads]
    found.sync()
    assert [segments.read(ledger, place) for place in places] == payloads
    found.close()
    assert segments.path(ledger, 1).stat().st_size == sum(map(len, payloads))
    assert [segments.read(ledger, place) for place in places] == payloads


def test_what_a_crash_left_behind_the_last_row_is_written_over(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    before = Segments(ledger, {1: 0})
    kept, _lost = before.append(b"kept"), before.append(b"lost")
    before.sync()
    after = Segments(ledger, {1: 4})
    found = after.append(b"next")
    after.sync()
    assert (found.start, segments.read(ledger, found)) == (4, b"next")
    assert segments.read(ledger, kept) == b"kept"


def test_a_payload_that_is_damaged_cut_off_or_gone_is_refused_with_both_checksums(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    found = Segments(ledger, {1: 0})
    place = found.append(b"payload")
    found.sync()
    file = segments.path(ledger, 1)
    for data in (b"paylOad", b"payl"):
        file.write_bytes(data)
        with pytest.raises(LedgerUnusable, match=rf"7 bytes at 0 of .* are damaged: .* written was {place.crc:08x}"):
            segments.read(ledger, place)
    file.unlink()
    with pytest.raises(LedgerUnusable, match="No such file"):
        segments.read(ledger, place)


def test_a_batch_that_was_not_kept_leaves_no_trace_even_if_it_began_a_segment(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    found = Segments(ledger, {1: 0}, full_bytes=4)
    first, mark = found.append(b"four"), found.mark
    assert found.is_full
    found.roll()
    found.append(b"not kept")
    found.sync()
    found.append(b"nor this")
    found.rewind(mark)
    assert (found.mark, files(ledger)) == (mark, ["ledger-payloads-1"])
    assert found.append(b"again") == Place(1, 4, 5, 0x93A15BFC)
    found.sync()
    assert segments.read(ledger, first) == b"four"
    assert segments.path(ledger, 1).read_bytes() == b"fouragain"


def test_files_that_the_ledger_does_not_know_are_deleted(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    for number in (1, 2, 3):
        segments.path(ledger, number).write_bytes(b"x")
    Segments(ledger, {2: 1})
    assert files(ledger) == ["ledger-payloads-2"]


@pytest.mark.parametrize("replay_bytes", [0, 200, 10_000])
def test_the_oldest_payloads_go_first_and_every_segment_begins_at_a_version_with_params(
    tmp_path: Path, replay_bytes: int
) -> None:
    path, keeping = tmp_path / "ledger", Keeping(versions=1, replay_bytes=replay_bytes)
    ledger = opened(path, keeping=keeping, segment_bytes=100)
    for i, batch in enumerate(Life.after(Past.none(params())).take(ledgers.updates(60))):
        ledger.keep(batch, float(i))
    rows = ledger._connection.execute("select segment, version from segments order by segment").fetchall()
    numbers = [entry.number for entry in Points(reading(path)).folded(0)]
    folded = {row["version"]: row["folded"] for row in reading(path).versions()}
    known = {f"ledger-payloads-{segment}" for segment, _ in rows}
    assert set(files(path)) in (known, known - {f"ledger-payloads-{rows[-1][0]}"})  # the last one may not be begun
    assert numbers == list(range(folded[rows[0]["version"]], 48))
    for _, version in rows:
        assert reading(path).params(version)[0] == version
    assert (len(rows) == 1) == (replay_bytes == 0)
    assert (rows[0]["version"] == 0) == (replay_bytes == 10_000)


def test_a_restart_goes_on_in_the_segment_that_was_in_use(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    whole = Life.after(Past.none(params())).take(ledgers.updates(30))
    for i, batch in enumerate(whole):
        ledger = opened(path, segment_bytes=100)
        ledger.keep(batch, float(i))
        ledger.close()
    assert [entry.number for entry in Points(reading(path)).folded(0)] == list(range(24))
    assert len(files(path)) > 1


def test_what_the_kernel_takes_in_pieces_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwritev = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda file, parts, at: pwritev(file, [b"".join(parts)[:5]], at))
    ledger = tmp_path / "ledger"
    found = Segments(ledger, {1: 0})
    places = [found.append(payload) for payload in (b"one", b"", b"three", b"four and more")]
    found.sync()
    assert [segments.read(ledger, place) for place in places] == [b"one", b"", b"three", b"four and more"]
