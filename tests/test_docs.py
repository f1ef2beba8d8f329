"""What the documentation says of the settings is so."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from fedmq import config
from fedmq.config import Federation
from fedmq.rounds import PRESETS
from fedmq_models.methods import METHODS, Adapting
from fedmq_models.training import Training
from fedmq_nodes import fleetfile

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
ROW = re.compile(r"^\| `([a-z_.0-9]+)` \| (.*?) \| ", re.MULTILINE)
PRESET = re.compile(r"^\| `([a-z]+)`(?: \(default\))? \| (?!`|none)(.*?) \| .* \|$", re.MULTILINE)


def settings(found: Any, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield every dotted key and its value."""
    for field in fields(found):
        value = getattr(found, field.name)
        if is_dataclass(value):
            yield from settings(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def plain(value: object) -> object:
    """Return a value as TOML has it."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def test_every_setting_stands_in_the_page_with_its_default() -> None:
    named = {key: default for key, default in ROW.findall(PAGE.read_text()) if key not in PRESETS}
    read = {
        key: tomllib.loads(f"value = {default.strip('`')}")["value"] if default.startswith("`") else None
        for key, default in named.items()
    }
    known = {**dict(settings(Federation("x"))), **{f"task.{key}": value for key, value in settings(Training())}}
    del known["task"], known["federation"]  # a table, and the one key without a default
    assert read == {key: plain(value) for key, value in known.items()}


def test_every_method_stands_in_the_page_with_what_stays_on_a_node() -> None:
    told = dict(re.findall(r"^\| \*\*`([a-z-]+)`\*\* \|.*\| (.*?) ?\|$", PAGE.read_text(), re.MULTILINE))
    known = {name: bool(how.stays or (isinstance(how, Adapting) and how.keeps)) for name, how in METHODS.items()}
    assert {name: bool(stays) for name, stays in told.items()} == known


def test_every_preset_stands_in_the_page_with_what_it_sets() -> None:
    told = dict(PRESET.findall(PAGE.read_text()))
    assert told.keys() == PRESETS.keys()
    for name, text in told.items():
        for key, value in re.findall(r"`(\w+) = ([\d.]+)`", text):
            assert getattr(PRESETS[name], key) == float(value), (name, key)


def test_the_files_in_the_page_can_be_read(tmp_path: Path) -> None:
    first, second = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert config.federation(tomllib.loads(first), "page", tmp_path).stop.versions == 50
    (tmp_path / "fleet.toml").write_text(second)
    fleet = fleetfile.read(tmp_path / "fleet.toml", [])
    assert [(node.name, node.examples_per_s) for node in fleet.nodes] == [("photo", 0.0), ("sketch", 200.0)]
