"""Replay: what was committed is computed again to the bit, and what was changed since is found and named."""

import gzip
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace as changed
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ledgers
from fedmq import segments, terms
from fedmq.cli import application
from fedmq.guards import Guard
from fedmq.ledger import Keeping, Ledger
from fedmq.outer import Name, Outer
from fedmq.past import Past
from fedmq.plan import Codecs, Settings, Stop
from fedmq.points import Points
from fedmq.record import LEDGER
from fedmq.replay import Outcome, Replayed, replay
from fedmq.rounds import PRESETS
from fedmq.rules import RULES
from fedmq.weight import Weighting
from ledgers import Life, opened, reading
from pair import Fleet, Worker, params

SAME, DIFFERS, CANNOT = Outcome.SAME, Outcome.DIFFERS, Outcome.CANNOT


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    ledgers.close_all()


def lived(
    path: Path,
    count: int = 40,
    keeping: Keeping | None = None,
    segment_bytes: int = 10_000,
    settings: Settings = ledgers.SETTINGS,
) -> Path:
    """Leave the ledger of a life of so many updates, four to a version, every fifth of them refused."""
    ledger = opened(path, keeping=keeping, segment_bytes=segment_bytes, settings=settings)
    for i, batch in enumerate(Life.after(Past.none(params()), settings).take(ledgers.updates(count))):
        ledger.keep(batch, float(i))
    ledger.close()
    return path


def replayed(path: Path) -> list[Replayed]:
    return list(replay(reading(path)))


def outcomes(path: Path) -> list[Outcome]:
    return [one.outcome for one in replayed(path)]


def damage(path: Path, number: int) -> None:
    """Turn over one bit of the payload of an update."""
    (row,) = reading(path).rows("select * from payloads where number = ?", (number,))
    file = segments.path(path, row["segment"])
    data = bytearray(file.read_bytes())
    data[row["start"] + row["size"] // 2] ^= 1
    file.write_bytes(data)


def test_every_version_of_a_life_with_lossy_codecs_momentum_and_scaled_updates_is_the_same(tmp_path: Path) -> None:
    path = lived(tmp_path / "ledger", keeping=Keeping(versions=1))
    assert outcomes(path) == [SAME] * 9
    assert any(row["scale"] < 1 for row in reading(path).updates())


OPTIMIZERS = [Outer(name, 0.1) for name in ("sgd", "nesterov", "adam")]


@pytest.mark.parametrize(
    ("rule", "outer"),
    [*((rule, Outer("momentum")) for rule in RULES), *(("mean", outer) for outer in OPTIMIZERS)],
    ids=lambda found: found if isinstance(found, str) else found.name,
)
def test_every_version_under_every_rule_and_optimizer_is_the_same(tmp_path: Path, rule: str, outer: Outer) -> None:
    settings = changed(ledgers.SETTINGS, rule=rule, outer=outer)
    path = lived(tmp_path / "ledger", keeping=Keeping(versions=1), settings=settings)
    assert outcomes(path) == [SAME] * 9


def test_what_counts_per_step_of_training_is_the_same(tmp_path: Path) -> None:
    settings = changed(ledgers.SETTINGS, weight=Weighting(steps="normalised"))
    assert outcomes(lived(tmp_path / "ledger", keeping=Keeping(versions=1), settings=settings)) == [SAME] * 9


@pytest.mark.parametrize("rule", ["cached", "calibrated"])
def test_the_newest_delta_of_a_node_that_left_long_ago_is_carried_from_file_to_file(tmp_path: Path, rule: str) -> None:
    """Node c sends three times and never again; files are dropped as soon as they are full, and it still counts."""
    settings, path = changed(ledgers.SETTINGS, rule=rule), tmp_path / "run" / "ledger"
    path.parent.mkdir()
    arrived = [one for i, one in enumerate(ledgers.updates(80)) if one[0] != "c" or i < 9]
    whole = Life.after(Past.none(params()), settings).take(arrived)
    keeping = Keeping(versions=1, replay_bytes=400)
    ledger = opened(path, keeping=keeping, segment_bytes=200, settings=settings)
    for batch in whole[:50]:
        ledger.keep(batch, 0.0)
    found = reading(path)
    newest = found.versions()[-1]["version"]
    assert newest >= 9
    assert min(Points(found).cached(newest)) < 9
    assert len(list(path.parent.glob("ledger-payloads-*"))) == 2
    replayable = outcomes(path).count(SAME)
    assert replayable >= 2
    assert outcomes(path) == [CANNOT] * (newest + 1 - replayable) + [SAME] * replayable
    again = opened(ledgers.as_a_kill_leaves_it(path, tmp_path / "left"), keeping=keeping, settings=settings)
    rest = Life.after(again.past(), settings).take(arrived[50:], at=50.0)
    assert ledgers.facts([e for batch in rest for e in batch]) == ledgers.facts([e for b in whole[50:] for e in b])


def live(path: Path, lives: list[Settings]) -> None:
    """Run a federation of three nodes for ten seconds under each of these settings, a kill between any two."""
    fleet = Fleet(lives[0], {name: Worker(step=0.1 * (i + 1), train_s=1.0 + i) for i, name in enumerate("abc")})
    for life, until_s in zip(lives, (9.5 + 10 * life for life in range(len(lives))), strict=True):
        if fleet.ledger is not None:
            fleet.simulation.remove("aggregator")
            fleet.ledger.close()
        fleet.settings = life
        fleet.ledger = Ledger.open(
            path, ledgers.META, {}, params(), Keeping(versions=1), 0.0, fleet.simulation.now, terms.written(life)
        )
        if fleet.simulation.now:
            fleet.start_aggregator(fleet.ledger.past())
        fleet.run(until_s=until_s)


@pytest.mark.parametrize("preset", ["sync", "quorum", "fedbuff", "fedasync"])
def test_a_federation_is_replayed_also_when_it_was_restarted_under_other_settings(tmp_path: Path, preset: str) -> None:
    path = tmp_path / "ledger"
    settings = Settings(
        "test", rounds=PRESETS[preset], codec=Codecs("int8", "int8"), outer=Outer("momentum", 0.5), start_nodes=2
    )
    lives = [
        settings,
        changed(settings, codec=Codecs("fp16", "fp32"), guard=Guard(0.0), stop=Stop(versions=99)),
        changed(settings, outer=Outer("sgd", 0.7)),
        settings,
    ]
    live(path, lives)
    found = reading(path)
    assert {row["settings"] for row in found.versions()[1:]} == {1, 2, 3}
    assert set(outcomes(path)) == {SAME}


@pytest.mark.parametrize("preset", ["quorum", "fedasync"])
def test_a_federation_is_replayed_also_when_it_was_restarted_under_other_rules(tmp_path: Path, preset: str) -> None:
    """What one rule or optimizer has left, another does not go on from, and neither does it itself after that."""
    path, settings = tmp_path / "ledger", Settings("test", rounds=PRESETS[preset], codec=Codecs("int8", "int8"))
    ways: list[tuple[str, Name]] = [
        ("cached", "adam"),
        ("mean", "sgd"),
        ("cached", "adam"),
        ("calibrated", "nesterov"),
        ("clipping", "momentum"),
    ]
    live(path, [changed(settings, rule=rule, outer=Outer(name, 0.1)) for rule, name in ways])
    found = reading(path)
    assert {row["settings"] for row in found.versions()[1:]} == {1, 2, 3, 4}
    assert set(outcomes(path)) == {SAME}


@pytest.mark.parametrize("number", [0, 5, 31])
def test_a_damaged_payload_is_blamed_on_the_first_version_that_differs_and_on_the_update(
    tmp_path: Path, number: int
) -> None:
    path = lived(tmp_path / "ledger", keeping=Keeping(versions=1))
    damage(path, number)
    found = replayed(path)
    first = number // 4 + 1
    assert [one.version for one in found if one.outcome is DIFFERS] == [first]
    assert f"update {number}, seq " in found[first].text
    assert "are damaged: their checksum is" in found[first].text
    assert [one.outcome for one in found] == [SAME] * first + [DIFFERS] + [CANNOT] * (8 - first)


def test_after_a_version_that_differs_replay_goes_on_from_the_next_params_that_were_kept(tmp_path: Path) -> None:
    path = lived(tmp_path / "ledger", keeping=Keeping(versions=3))
    damage(path, 5)
    found = replayed(path)
    assert [one.outcome for one in found] == [SAME] * 2 + [DIFFERS] + [CANNOT] * 4 + [SAME] * 2
    assert found[3].text == "it goes on from version 2, whose params are neither replayed nor kept"


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ("update updates set weight = weight + 1 where number = 9", 3),
        ("update updates set scale = 0.5 where number = 12", 4),
        ("update versions set digest = 'ab' where version = 5", 5),
        ("update settings set value = replace(value, '\"lr\": 1.0', '\"lr\": 1.5')", 1),
    ],
)
def test_a_record_that_was_altered_differs_from_there_on(tmp_path: Path, change: str, first: int) -> None:
    path = lived(tmp_path / "ledger", keeping=Keeping(versions=1))
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(change).rowcount == 1
    found = replayed(path)
    assert [one.outcome for one in found[: first + 1]] == [SAME] * first + [DIFFERS]
    assert found[first].text.startswith("replayed digest ")


def test_what_was_not_kept_cannot_be_replayed_and_the_rest_is(tmp_path: Path) -> None:
    path = lived(tmp_path / "ledger", keeping=Keeping(versions=1, replay_bytes=300), segment_bytes=200)
    found = replayed(path)
    assert [one.outcome for one in found] == [CANNOT] * 7 + [SAME] * 2
    assert found[6].text == "of its 4 updates 0 have their payloads kept (keeping.replay_bytes)"


def test_a_ledger_that_was_not_durable_cannot_be_replayed(tmp_path: Path) -> None:
    path = lived(tmp_path / "ledger", keeping=Keeping(durable=False))
    assert outcomes(path) == [SAME] + [CANNOT] * 8


def test_settings_that_this_fedmq_does_not_know_are_named(tmp_path: Path) -> None:
    path = lived(tmp_path / "ledger")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update settings set value = replace(value, '\"rule\"', '\"rulez\"')")
    assert "unknown key rulez; did you mean rule?" in replayed(path)[1].text


def command(run: Path, *words: str) -> tuple[int, list[str]]:
    found = CliRunner().invoke(application(), ["replay", str(run), *words])
    return found.exit_code, found.stdout.splitlines()


def test_the_command_says_what_differs_and_ends_with_a_code_that_a_script_can_use(tmp_path: Path) -> None:
    lived(tmp_path / LEDGER, keeping=Keeping(versions=1))
    assert command(tmp_path) == (0, ["9 versions: 9 same"])
    code, rows = command(tmp_path, "--json")
    assert (code, [json.loads(row)["outcome"] for row in rows]) == (0, ["same"] * 9)
    assert json.loads(rows[1]).keys() == {"version", "outcome", "updates", "digest", "text"}
    damage(tmp_path / LEDGER, 31)
    code, rows = command(tmp_path)
    assert code == 1
    assert rows[0].startswith("version 8 differs: update 31, seq ")
    assert rows[1] == "9 versions: 8 same, 1 differs"


def test_a_record_of_the_format_before_can_be_read_and_says_why_it_cannot_be_replayed(tmp_path: Path) -> None:
    golden = Path(__file__).parent / "formats" / "format-1.sqlite.gz"
    (tmp_path / LEDGER).write_bytes(gzip.decompress(golden.read_bytes()))
    code, rows = command(tmp_path)
    assert code == 3
    assert rows[-1] == "6 versions: 6 cannot be replayed"
    assert "settings that it was committed with are not in the ledger" in rows[1]
