"""Scenario files: a fleet in TOML, as values. Every key is checked, and a mistake is answered with the key.

    seed, describe
    [data]                  what is learned from
    [federation]            settings of every policy: codec, pulse, weight, outer, guard, ...
    [task]                  how nodes train
    [stop]                  when a run is over
    [policies.NAME]         what a policy of that name sets beside what it is known for
    [[groups]]              nodes that are alike: how many, with which data, how fast, over which link
    [[partitions]]          when whom nobody reaches

Paths are relative to the file. What each key says stands in docs/scenarios.md, and a test holds every one of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from fedmq import config
from fedmq.config import Table
from fedmq.errors import ConfigInvalid
from fedmq_bench.scenario import policies
from fedmq_bench.scenario.form import TINY, Group, Partition, Scenario
from fedmq_models.training import Training

TABLES = ("groups", "partitions", "task", "federation", "policies")


def presets() -> dict[str, str]:
    """Return the sentence of each preset that ships, by its name."""
    folder = resources.files("fedmq_bench.scenario") / "presets"
    names = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {name: read(name).describe for name in names}


def read(what: str, overrides: Sequence[str] = ()) -> Scenario:
    """Return the scenario in a file, or the preset of that name.

    overrides     `key=value`, such as seed=3 or stop.updates_per_node=10
    raises        ConfigInvalid, naming the key
    """
    path = Path(what)
    folder = path.parent  # of a preset, which names no file, it is the current one: for paths among the overrides
    if not path.is_file():
        path = Path(str(resources.files("fedmq_bench.scenario") / "presets" / f"{what}.toml"))
        if "/" in what or not path.is_file():
            known = ", ".join(sorted(other.stem for other in path.parent.glob("*.toml")))
            raise ConfigInvalid(f"{what} is no file and no preset; there are {known}")
    table = config.read(path)
    config.override(table, overrides)
    return replace(scenario(table, path.name, folder), name=path.stem)


def scenario(table: Table, where: str, folder: Path) -> Scenario:
    """Return the scenario that a table describes; its paths are relative to `folder`."""
    rest = {key: value for key, value in table.items() if key not in TABLES}
    found = config.parse(Scenario, rest, where, also=TABLES)
    groups = tuple(_listed(Group, table, "groups", where))
    if not groups:
        raise ConfigInvalid(f"{where}: there are no [[groups]], and so no nodes")
    names = [group.name for group in groups]
    if len(set(names)) < len(names):
        raise ConfigInvalid(f"{where}: {len(names)} groups have {len(set(names))} names; a name is of one group")
    partitions = tuple(_listed(Partition, table, "partitions", where))
    if unknown := {name for one in partitions for name in one.groups} - set(names):
        raise ConfigInvalid(f"{where}: partitions.groups has {min(unknown)!r}; there are {', '.join(names)}")
    source = found.data.source
    whole = replace(
        found,
        data=replace(found.data, source=source if source == TINY else str(folder / source)),
        groups=tuple(_located(group, folder) for group in groups),
        partitions=partitions,
        task=config.parse(Training, table.get("task", {}), where, "task."),
        federation=table.get("federation", {}),
        policies=table.get("policies", {}),
    )
    for name in (*policies.POLICIES, *whole.policies):
        policies.settings(whole, name, where)
    return whole


def _listed(form: type[Any], table: Table, name: str, where: str) -> Iterable[Any]:
    entries = table.get(name, [])
    if not isinstance(entries, list):
        raise ConfigInvalid(f"{where}: {name} is a table; write [[{name}]], once for each")
    return (config.parse(form, entry, where, f"{name}[{at}].") for at, entry in enumerate(entries))


def _located(value: Any, folder: Path) -> Any:
    """Return the same with its paths relative to the folder."""
    moved = {}
    for each in fields(value):
        part = getattr(value, each.name)
        if isinstance(part, Path):
            moved[each.name] = folder / part
        elif is_dataclass(part):
            moved[each.name] = _located(part, folder)
    return replace(value, **moved)
