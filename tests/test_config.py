"""Settings: what is accepted, and how a mistake is answered."""

import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fedmq import config
from fedmq.codec import Limits
from fedmq.compress import CODECS
from fedmq.config import Endpoint, Federation, federation, is_loopback, keys, override, parse, read
from fedmq.delta import Schema
from fedmq.errors import EXIT_USAGE, ConfigInvalid
from fedmq.ledger import Keeping
from fedmq.plan import Codecs, Settings
from fedmq.rounds import PRESETS, Policy
from fedmq.rules.combining import Combining
from fedmq.weight import Weighting

HERE = Path("/somewhere")
LEAVES = [key for key in keys(Federation) if not any(other.startswith(key + ".") for other in keys(Federation))]


def parsed(**table: Any) -> Federation:
    return federation({"federation": "pacs", **table}, "federation.toml", HERE)


def complaint(**table: Any) -> str:
    with pytest.raises(ConfigInvalid) as refused:
        parsed(**table)
    return str(refused.value)


def nested(key: str, value: object) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {first: nested(rest, value) if rest else value}


def default(key: str) -> Any:
    value: Any = parsed()
    for name in key.split("."):
        value = getattr(value, name)
    return value


# What is accepted


def test_a_name_is_all_that_a_federation_needs() -> None:
    found = parsed()
    assert replace(found, run=Path("run"), link=Endpoint()) == Federation("pacs")


@pytest.mark.parametrize(
    "key", [key for key in LEAVES if key not in ("federation", "rounds.deadline_s", "rounds.grace")]
)
def test_every_key_takes_the_value_that_it_has_without_being_said(key: str) -> None:
    value = default(key)
    said = str(value) if isinstance(value, Path) else value
    assert parsed(**nested(key, said)) == parsed()


def test_the_tables_that_the_docstring_lists_are_those_that_there_are() -> None:
    listed = set(re.findall(r"\[(\w+)\]", (config.__doc__ or "").split("`[rounds]")[0]))
    tables = {f.name for f in fields(Federation) if is_dataclass(f.default) or f.name == "task"}
    assert listed == tables


@pytest.mark.parametrize("form", [Policy, Weighting, Combining, Keeping, Endpoint])
def test_every_key_of_a_table_is_explained_in_its_docstring(form: type) -> None:
    words = set(re.findall(r"\w+", form.__doc__ or ""))
    assert {f.name for f in fields(form)} <= words


def test_a_whole_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "federation.toml"
    path.write_text(
        """
        federation = "pacs"
        bundle = "bundles/clip"
        run = "runs/pacs"
        start_nodes = 6
        [link]
        address = "tcp://0.0.0.0:5600"
        key = "own.key_secret"
        [keeping]
        durable = false
        versions = 0
        [task]
        method = "fedclip"
        epochs = 2
        [rounds]
        preset = "quorum"
        grace = 1
        max_staleness = 3
        [weight]
        by = "updates"
        [codec]
        up = "fp16"
        [limits]
        frame_bytes = 1_000_000
        """
    )
    found = federation(read(path), str(path), tmp_path)
    assert found == Federation(
        "pacs",
        start_nodes=6,
        bundle=str(tmp_path / "bundles/clip"),
        run=tmp_path / "runs/pacs",
        link=Endpoint("tcp://0.0.0.0:5600", "auto", tmp_path / "own.key_secret", enrolled=tmp_path / "keys/enrolled"),
        keeping=Keeping(durable=False, versions=0),
        task={"method": "fedclip", "epochs": 2},
        rounds=Policy(quorum_share=0.5, grace=1.0, max_staleness=3),
        weight=Weighting(by="updates"),
        codec=Codecs(up="fp16"),
        limits=Limits(frame_bytes=1_000_000),
    )
    assert found.link.secure


def test_paths_are_relative_to_the_file_and_an_embedded_bundle_is_not_a_path(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    found = [federation({"federation": "x", "bundle": b}, "f", tmp_path).bundle for b in ("tiny", "here", "/abs/b")]
    assert found == ["tiny", str(tmp_path / "here"), "/abs/b"]
    assert parsed(run="/abs/run").run == Path("/abs/run")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_taken_and_may_be_changed(name: str) -> None:
    assert parsed(rounds={"preset": name}).rounds == PRESETS[name]
    assert parsed(rounds={"preset": name, "quorum": 2}).rounds == replace(PRESETS[name], quorum=2)


def test_without_a_preset_rounds_are_synchronous() -> None:
    assert parsed().rounds == parsed(rounds={}).rounds == PRESETS["sync"]


def test_settings_do_not_change_under_the_hands_of_who_gave_them() -> None:
    table = {"federation": "pacs", "rounds": {"preset": "quorum"}}
    federation(table, "federation.toml", HERE)
    assert table == {"federation": "pacs", "rounds": {"preset": "quorum"}}


# What is not


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("bundel", "bundle"),
        ("federations", "federation"),
        ("round", "rounds"),
        ("start_node", "start_nodes"),
        ("rounds.gaol", "rounds.goal"),
        ("rounds.presett", "rounds.preset"),
        ("rounds.deadline", "rounds.deadline_s"),
        ("link.adress", "link.address"),
        ("keeping.durably", "keeping.durable"),
        ("codec.upward", "codec.up"),
        ("guard.norm_facto", "guard.norm_factor"),
        ("limits.frame_size", "limits.frame_bytes"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(key: str, meant: str) -> None:
    assert complaint(**nested(key, 1)) == f"federation.toml: unknown key {key}; did you mean {meant}?"


def test_an_unknown_key_that_is_near_to_none_is_answered_with_all() -> None:
    told = complaint(zzz=1)
    assert told.startswith("federation.toml: unknown key zzz; there are federation, ")
    assert all(key in told for key in [*LEAVES, "rounds.preset"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("federation", 3),
        ("federation", "x" * 201),
        ("bundle", ["tiny"]),
        ("run", 3),
        ("start_nodes", 0),
        ("start_nodes", 1.5),
        ("start_nodes", True),
        ("start_nodes", "6"),
        ("evaluate_every", -1),
        ("strikes", 0),
        ("mute_s", -1.0),
        ("mute_s", float("inf")),
        ("link.curve", "maybe"),
        ("link.address", 5600),
        ("keeping.durable", "perhaps"),
        ("keeping.versions", -1),
        ("rounds.goal", -1),
        ("rounds.quorum", 0),
        ("rounds.quorum_share", 1.1),
        ("rounds.quorum_share", float("nan")),
        ("rounds.deadline_s", 0),
        ("rounds.deadline_s", "soon"),
        ("rounds.deadline_s", float("inf")),
        ("rounds.grace", -0.1),
        ("rounds.over_selection", 0.9),
        ("rounds.over_selection", float("inf")),
        ("rounds.over_selection", "1.3"),
        ("weight.by", "size"),
        ("weight.cap", 0),
        ("weight.staleness", "linear"),
        ("weight.a", -1),
        ("guard.norm_factor", -1),
        ("guard.norm_cap", 0),
        ("guard.norm_cap", float("inf")),
        ("outer.name", "lamb"),
        ("outer.lr", 0),
        ("outer.momentum", 1.0),
        ("outer.momentum", float("nan")),
        ("rule", "mode"),
        ("combine.faulty", 0.5),
        ("combine.faulty", -0.1),
        ("combine.passes", 0),
        ("combine.memory_bytes", 0),
        ("pulse.heartbeat_s", 0),
        ("limits.frame_bytes", 0),
        ("stop.versions", -1),
        ("link", 3),
        ("rounds", 3),
        ("rounds", "quorum"),
        ("rounds", ["quorum"]),
        ("rounds.preset", "fast"),
        ("rounds.preset", 3),
        ("rounds.preset", ["sync"]),
        ("task", 3),
    ],
)
def test_a_value_that_a_key_cannot_have_is_answered_with_the_key_and_the_value(key: str, value: object) -> None:
    assert complaint(**nested(key, value)).startswith(f"federation.toml: {key} is {value!r}")


@pytest.mark.parametrize("key", ["codec.up", "codec.down"])
def test_a_codec_that_does_not_exist_is_answered_with_the_key_and_those_that_do(key: str) -> None:
    expected = f"federation.toml: {key} is 'zip': no codec named 'zip'; there are {', '.join(CODECS)}"
    assert complaint(**nested(key, "zip")) == expected


@pytest.mark.parametrize("rule", ["median", "trimmed", "krum", "clipping"])
def test_a_rule_that_compares_is_refused_where_rounds_have_too_few_to_compare(rule: str) -> None:
    expected = f"rounds.goal is 1, and the rule {rule} needs 3 updates to see which of them is odd; raise the goal"
    assert expected in complaint(rule=rule, rounds={"preset": "fedasync"})
    assert parsed(rule=rule, rounds={"preset": "fedbuff"}).rule == rule
    assert parsed(rule="clipping", rounds={"preset": "fedasync"}, combine={"radius": 1.0}).combine.radius == 1.0


@pytest.mark.parametrize("rule", ["cached", "calibrated"])
def test_a_rule_that_goes_on_from_earlier_deltas_is_refused_where_they_are_not_kept_whole(rule: str) -> None:
    assert f"the rule {rule} needs keeping.durable" in complaint(rule=rule, keeping={"durable": False})
    assert f"the rule {rule} caches whole deltas" in complaint(rule=rule, weight={"steps": "normalised"})
    assert parsed(rule=rule, rounds={"preset": "fedasync"}).rule == rule


def test_a_rule_that_could_hold_more_than_it_may_is_refused_with_both_numbers() -> None:
    schema = Schema((("w", (512, 1026)),))
    Settings("test", rule="median", most_nodes=1021).require_room(schema)
    Settings("test", rule="mean").require_room(schema)
    with pytest.raises(ConfigInvalid) as refused:
        Settings("test", rule="median").require_room(schema)
    assert str(refused.value) == (
        "the rule median holds a delta of each node, 21012480000 bytes for 10000 nodes, limit is 2147483648: "
        "set most_nodes to 1022 or less, or raise combine.memory_bytes"
    )


def test_a_federation_without_a_name_is_told_so() -> None:
    with pytest.raises(ConfigInvalid, match=r"^f\.toml: federation is missing$") as refused:
        federation({}, "f.toml", HERE)
    assert (refused.value.reason, refused.value.exit_code) == ("config_invalid", EXIT_USAGE)


def test_a_prefix_stands_before_the_key_in_every_complaint() -> None:
    for table, expected in (
        ({"cap": 0}, "task.cap is 0: "),
        ({"capp": 1}, "unknown key task.capp; did you mean task.cap?"),
    ):
        with pytest.raises(ConfigInvalid, match=re.escape(expected)):
            parse(Weighting, table, "f.toml", "task.")


# Files


def test_a_file_that_cannot_be_read_or_is_not_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("federation = ")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name, expected in (
        ("none.toml", "cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
        ("bad.toml", "is not TOML: Invalid value"),
        ("binary.toml", "is not TOML: "),
    ):
        with pytest.raises(ConfigInvalid, match=re.escape(f"{tmp_path / name} {expected}")):
            read(tmp_path / name)


# --set


def overridden(*texts: str, **table: Any) -> dict[str, Any]:
    override(table, texts)
    return table


def test_an_override_has_the_last_word_and_is_read_as_toml_or_else_as_text() -> None:
    assert overridden(
        "federation=art",
        "rounds.goal=4",
        "rounds.grace = 0.5",
        "keeping.durable=false",
        'bundle="tiny"',
        "link.address=tcp://127.0.0.1:1",
        "task.labels=['a', 'b']",
        "stop.versions=1",
        "stop.versions=2",
        "task.note=",
        "task.formula=a=b",
        rounds={"goal": 1, "quorum": 2},
    ) == {
        "federation": "art",
        "rounds": {"goal": 4, "quorum": 2, "grace": 0.5},
        "keeping": {"durable": False},
        "bundle": "tiny",
        "link": {"address": "tcp://127.0.0.1:1"},
        "task": {"labels": ["a", "b"], "note": "", "formula": "a=b"},
        "stop": {"versions": 2},
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rounds.goal", "--set rounds.goal: write key=value, such as rounds.goal=4"),
        ("=4", "--set =4: write key=value, such as rounds.goal=4"),
        ("", "--set : write key=value, such as rounds.goal=4"),
        ("federation.name=x", "--set federation.name=x: federation is a value, not a table"),
    ],
)
def test_an_override_that_is_not_one_is_refused(text: str, expected: str) -> None:
    with pytest.raises(ConfigInvalid, match=re.escape(expected)):
        overridden(text, federation="pacs")


def test_a_mistake_in_an_override_is_found_like_one_in_the_file() -> None:
    assert "unknown key rounds.gaol; did you mean rounds.goal?" in complaint(**overridden("rounds.gaol=4"))
    assert "rounds.goal is 'four': " in complaint(**overridden("rounds.goal=four"))


# Addresses


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("tcp://127.0.0.1:5600", True),
        ("tcp://127.1.2.3:5600", True),
        ("tcp://localhost:*", True),
        ("tcp://[::1]:5600", True),
        ("ipc:///tmp/socket", True),
        ("inproc://here", True),
        ("tcp://0.0.0.0:5600", False),
        ("tcp://*:5600", False),
        ("tcp://[::]:5600", False),
        ("tcp://10.0.0.1:5600", False),
        ("tcp://127.evil.example:5600", False),
        ("tcp://localhost.example:5600", False),
        ("tcp://127.0.0.1:0;10.0.0.1:5600", False),  # ZeroMQ's source;destination
        ("nonsense", False),
    ],
)
def test_only_what_no_other_machine_can_reach_is_loopback_and_in_the_clear_by_default(
    address: str, expected: bool
) -> None:
    assert (is_loopback(address), Endpoint(address).secure) == (expected, not expected)
    assert (Endpoint(address, curve="on").secure, Endpoint(address, curve="off").secure) == (True, False)


def test_a_version_is_evaluated_every_so_often_or_only_at_the_end() -> None:
    assert [[Settings("x", evaluate_every=n).evaluates(v) for v in range(4)] for n in (0, 1, 2)] == [
        [False] * 4,
        [True] * 4,
        [True, False, True, False],
    ]
