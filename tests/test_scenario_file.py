"""Scenario files: what may be said, what is refused with which sentence, and what the page says of it."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import scenery
from fedmq.errors import ConfigInvalid
from fedmq_bench.scenario import data, file, policies
from fedmq_bench.scenario.form import Group, Partition, Scenario
from fedmq_nodes.errors import DataUnusable

PAGE = Path(__file__).parents[1] / "docs" / "scenarios.md"
ELSEWHERE = {"groups", "partitions", "task", "federation", "policies", "name"}


def keys(found: Any, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield every dotted key and its default."""
    for field in fields(found):
        value = getattr(found, field.name)
        if is_dataclass(value):
            yield from keys(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def test_a_path_that_is_set_for_a_preset_is_relative_to_the_current_folder() -> None:
    assert file.read("homogeneous", ["data.source=mine.npz"]).data.source == "mine.npz"


def test_every_key_stands_in_the_page_with_its_default() -> None:
    told = {
        key: tomllib.loads(f"value = {default.strip('`')}")["value"] if default.startswith("`") else None
        for key, default in re.findall(r"^\| `([a-z_.0-9]+)` \| (.*?) \| ", PAGE.read_text(), re.MULTILINE)
    }
    known = dict(keys(Scenario()))
    for form, name in ((Group(), "groups"), (Partition(), "partitions")):
        known |= dict(keys(form, f"{name}."))
    for key in [key for key in known if key in ELSEWHERE or key.split(".")[0] == "task"]:
        del known[key]
    # Both are spread alike, and told once; so are both ways of a link, and both presences.
    alike = {"speed": "compute", "down": "up", "reachable": "present"}
    known = {key: value for key, value in known.items() if not any(key.startswith(f"groups.{one}.") for one in alike)}
    assert told == {key: plain(value) for key, value in known.items()}


def test_every_preset_can_be_read_is_described_and_stands_in_the_page() -> None:
    told = re.findall(r"^\| `([a-z-]+)` \| [A-Z]", PAGE.read_text(), re.MULTILINE)
    presets = file.presets()
    assert sorted(told) == sorted(presets)
    assert len(presets) == 10
    assert all(sentence.endswith(".") for sentence in presets.values())


def test_the_file_in_the_page_can_be_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    found = file.scenario(tomllib.loads(text), "page", tmp_path)
    assert [group.name for group in found.groups] == ["phone", "gateway"]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"sead": 1}, "unknown key sead; did you mean seed"),
        ({"groups": [{"cuont": 3}]}, r"unknown key groups\[0\]\.cuont; did you mean groups\[0\]\.count"),
        ({"groups": [{"up": {"mpbs": 3.0}}]}, r"unknown key groups\[0\]\.up\.mpbs; did you mean groups\[0\]\.up\.mbps"),
        ({"groups": [{"up": {"loss": 1.0}}]}, r"groups\[0\]\.up\.loss is 1\.0: input should be less than 1"),
        ({"groups": [{"compute": {"dist": "empirical"}}]}, "empirical takes a file, no other does"),
        ({"groups": []}, "there are no .*groups"),
        ({"groups": [{"name": "a"}, {"name": "a"}]}, "2 groups have 1 names"),
        ({"groups": [{}], "partitions": [{"groups": ["b"]}]}, "partitions.groups has 'b'; there are node"),
        ({"groups": [{}], "stop": {"updates_per_node": 0}}, "both 0: a run needs an end"),
        ({"groups": [{}], "federation": {"codec": {"up": "int9"}}}, "no codec named 'int9'"),
        ({"groups": [{}], "policies": {"mine": {"rounds": {"gaol": 2}}}}, "policy mine: unknown key rounds.gaol"),
        ({"groups": {"name": "a"}}, r"write \[\[groups\]\], once for each"),
    ],
)
def test_a_mistake_is_answered_with_the_key(table: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=sentence):
        file.scenario(table, "file", tmp_path)


def test_paths_are_relative_to_the_file_and_overrides_have_the_last_word(tmp_path: Path) -> None:
    (tmp_path / "times.txt").write_text("1.5\n2.5\n")
    (tmp_path / "mine.toml").write_text(
        'data.source = "own.npz"\n[[groups]]\ncompute = { dist = "empirical", file = "times.txt" }\n'
    )
    found = file.read(str(tmp_path / "mine.toml"), ["seed=7", "stop.time_s=20.0"])
    assert (found.name, found.seed, found.stop.time_s) == ("mine", 7, 20.0)
    assert found.data.source == str(tmp_path / "own.npz")
    assert list(found.groups[0].compute.numbers()) == [1.5, 2.5]


def test_a_name_that_is_no_file_and_no_preset_is_answered_with_the_presets() -> None:
    with pytest.raises(ConfigInvalid, match="homogenous is no file and no preset; there are byzantine-fifth, "):
        file.read("homogenous")


def test_a_policy_is_what_it_is_known_for_under_what_the_file_says_for_it(tmp_path: Path) -> None:
    found = scenery.scenario(
        tmp_path, federation={"codec": {"up": "fp16"}}, policies={"deadline": {"rounds": {"deadline_s": 3.0}}}
    )
    deadline, cached = policies.settings(found, "deadline"), policies.settings(found, "cached")
    assert (deadline.rounds.deadline_s, deadline.codec.up, deadline.rule) == (3.0, "fp16", "mean")
    assert (cached.rule, cached.codec.up, cached.evaluate_every) == ("cached", "fp16", 0)
    assert policies.named("sync, deadline", found) == ["sync", "deadline"]
    with pytest.raises(ConfigInvalid, match="no policy named 'asynch'; there are sync"):
        policies.named("asynch", found)


# Data


def test_every_row_of_a_domain_is_dealt_to_exactly_one_of_its_nodes(tmp_path: Path) -> None:
    found = scenery.scenario(tmp_path, {"domains": ["photo"]}, {"name": "rest", "domains": ["sketch"], "alpha": 0.5})
    pool = data.pool(found.data.source, lambda _line: None)
    dealt = data.deal(found, pool)
    rows = [row for one in dealt.values() for part in (one.data.train, one.data.test) for row in part.rows]
    assert sorted(rows) == list(range(len(pool.rows.labels)))
    for one in dealt.values():
        groups = {pool.domains[pool.rows.groups[row]] for row in one.data.train.rows}
        assert groups == {one.domain}


def test_evenly_dealt_nodes_differ_by_a_row_per_class_at_most_and_a_small_alpha_makes_them_differ(
    tmp_path: Path,
) -> None:
    def spread(alpha: float) -> int:
        found = scenery.scenario(tmp_path, {"domains": ["photo"], "alpha": alpha}, data={"source": "toy.npz"})
        dealt = data.deal(found, data.pool(found.data.source, lambda _line: None))
        sizes = [len(one.data.train) + len(one.data.test) for one in dealt.values()]
        return max(sizes) - min(sizes)

    assert spread(0.0) <= 3 < spread(0.5)


def test_a_node_has_no_more_examples_than_its_group_says_and_never_too_few_to_train(tmp_path: Path) -> None:
    found = scenery.scenario(tmp_path, {"examples": 7})
    dealt = data.deal(found, data.pool(found.data.source, lambda _line: None))
    assert {len(one.data.train) for one in dealt.values()} == {7}
    crowded = scenery.scenario(tmp_path, {"count": 300})
    with pytest.raises(DataUnusable, match="it takes 2: lower the group's count"):
        data.deal(crowded, data.pool(crowded.data.source, lambda _line: None))


def test_a_domain_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    found = scenery.scenario(tmp_path, {"domains": ["scetch"]})
    with pytest.raises(ConfigInvalid, match="domain 'scetch'; there are photo, sketch, all"):
        data.deal(found, data.pool(found.data.source, lambda _line: None))


def test_every_table_of_a_group_is_a_form_of_its_own() -> None:
    """The page tells ways, presences and spreads once: both of each must have the same form."""
    hints = get_type_hints(Group)
    assert hints["up"] is hints["down"]
    assert hints["present"] is hints["reachable"]
    assert hints["compute"] is hints["speed"]
