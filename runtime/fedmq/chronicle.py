"""The chronicle: what a ledger says happened, in order: updates and what became of them, versions, nodes that came and
went.

An update is called what it is called in logs, the node's name and its seq; its line names the version that it is in,
and a version's line the updates that it is of. So one word leads from a node's log to the version that it changed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fedmq.errors import ConfigInvalid
from fedmq.messages import Code
from fedmq.record import Record
from fedmq.wanted import Wanted

Line = dict[str, Any]
UPDATE, VERSION, EVENT = "update", "version", "event"
OWN_LINES = ("update.refused", "round.closed")  # events of which there is a line already, with more in it


@dataclass(frozen=True)
class Asked:
    """Which lines a person asked to see; nothing asked for is everything.

    update      one by its name, such as edge-7/42, and the version that it is in
    verdicts    of updates
    version     a version, and what is in it
    """

    nodes: Wanted = field(default_factory=Wanted)
    update: str | None = None
    verdicts: tuple[str, ...] = ()
    version: int | None = None

    def __post_init__(self) -> None:
        for verdict in self.verdicts:
            if verdict not in set(Code):
                raise ConfigInvalid(f"--verdict is {verdict!r}; there are {', '.join(Code)}")


def lines(record: Record, asked: Asked) -> list[Line]:
    """Return the lines that are asked for, oldest first."""
    names = {row["node"]: row["name"] or row["node"] for row in record.nodes()}
    updates = [line for line in _updates(record, names) if _is_asked(line, asked)]
    home = {line["version"] for line in updates if asked.update is not None} | {asked.version}
    if asked.update is not None or asked.version is not None:
        versions = [line for line in _versions(record) if line["version"] in home]
    elif asked.verdicts or asked.nodes.names:
        versions = []
    else:
        versions = list(_versions(record))
    narrow = asked.update is not None or asked.verdicts or asked.version is not None
    events = [] if narrow else [line for line in _events(record, names) if _concerns(line, asked)]
    # What a round is made of comes before it, and the sort keeps that order.
    return sorted([*events, *updates, *versions], key=lambda line: line["at"])


def _updates(record: Record, names: dict[str, str]) -> Iterator[Line]:
    rows = record.updates()
    homes = _homes(record, sorted(row["number"] for row in rows if row["number"] is not None))
    for row in rows:
        name = names.get(row["node"], row["node"])
        yield {
            "kind": UPDATE,
            "update": f"{name}/{row['seq']}",
            "name": name,
            **row,
            "version": homes.get(row["number"]),
        }


def _homes(record: Record, numbers: list[int]) -> dict[int, int]:
    """Return number -> the version that the update is in, for those that one has taken in."""
    commits = [(row["folded"], row["version"]) for row in record.versions()]
    homes, at = {}, 0
    for number in numbers:
        while at < len(commits) and commits[at][0] <= number:
            at += 1
        if at == len(commits):
            break
        homes[number] = commits[at][1]
    return homes


def _versions(record: Record) -> Iterator[Line]:
    rows = record.versions()
    for before, row in zip([None, *rows], rows, strict=False):
        up, down = (
            row[key] - (before[key] if before is not None else 0) for key in ("up_application", "down_application")
        )
        yield {
            "kind": VERSION,
            "at": row["closed_at"],
            "version": row["version"],
            "cause": row["cause"],
            "updates": row["updates"],
            "first": before["folded"] if before is not None else 0,
            "folded": row["folded"],
            "invited": row["invited"],
            "open_s": row["closed_at"] - row["opened_at"],
            "bytes_up": up,
            "bytes_down": down,
            "digest": row["digest"],
        }


def _events(record: Record, names: dict[str, str]) -> Iterator[Line]:
    for row in record.events():
        if row["event"] not in OWN_LINES:
            fields = json.loads(row["fields"])
            node = fields.get("node")
            known = {} if node is None else {"name": names.get(node, node)}
            yield {"kind": EVENT, "at": row["at"], "level": row["level"], "event": row["event"], **known, **fields}


def _is_asked(line: Line, asked: Asked) -> bool:
    return (
        asked.nodes.named(line["name"], line["node"])
        and asked.update in (None, line["update"])
        and (not asked.verdicts or line["code"] in asked.verdicts)
        and asked.version in (None, line["version"])
    )


def _concerns(line: Line, asked: Asked) -> bool:
    return not asked.nodes.names or ("node" in line and asked.nodes.named(line["name"], line["node"]))
