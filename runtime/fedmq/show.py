"""Showing: the status as a person reads it in a terminal, still or live."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.progress import track
from rich.table import Table
from rich.text import Text

from fedmq.attention import first

if TYPE_CHECKING:
    from fedmq.enrolment import Enrolment
    from fedmq.replay import Outcome, Replayed

Status = dict[str, Any]
CAUTION = "bold yellow"
MOST_NAMED = 12
STYLES = {"training": "cyan", "idle": "green", "gone": "red", "encoding": "yellow"}


def json_line(value: object) -> None:
    """Print one JSON document on one line, at once: a script may be waiting for it at the other end of a pipe."""
    print(json.dumps(value), flush=True)


def status(answer: Status) -> None:
    """Print a status."""
    Console().print(render(answer))


def enrolments(found: Sequence[Enrolment]) -> None:
    """Print who may join."""
    import numpy as np

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("node", "state", "since (UTC)", "fingerprint", "key"):
        table.add_column(name, no_wrap=name != "key", overflow="fold")
    for one in found:
        since = str(np.datetime64(int(one.since_at), "s")).replace("T", " ")
        state = Text(one.state, {"enrolled": "green", "unusable": "red"}.get(one.state, "dim"))
        table.add_row(Text(one.name), state, since, one.fingerprint, Text(one.key or one.problem))
    Console().print(table)


def render(answer: Status) -> RenderableType:
    """Return a status as a heading, a line on what is waited for, and a table of nodes."""
    return Group(*heading(answer), nodes(first(answer["nodes"], len(answer["nodes"]))), *_shown(answer))


def heading(answer: Status) -> list[Text]:
    """Return how a federation stands: what it is, what it waits for, and whom nobody listens to."""
    caveat = [Text(answer["caveat"], CAUTION)] if answer["caveat"] else []
    stays = [Text(f"stays on each node: {answer['stays']}", "dim")] if answer["stays"] else []
    return [_heading(answer), *caveat, *stays, _waiting(answer), *map(_muted, answer["muted"][:MOST_NAMED])]


def line(answer: Status) -> str:
    """Return a status as one line, for logs and pipes."""
    stalest = max((node["staleness"] for node in answer["nodes"]), default=0)
    caveat = f"   {answer['caveat'].partition(':')[0]}" if answer["caveat"] else ""
    return f"{_heading(answer)}   {_waiting(answer)}   staleness {stalest}{caveat}"


def replayed(found: Iterable[Replayed], total: int, as_json: bool) -> Counter[Outcome]:
    """Print what became of each version, for a person only what is not the same; return how many of each there were."""
    counts: Counter[Outcome] = Counter()
    terminal = Console(stderr=True)
    for one in track(found, "replaying", total, console=terminal, transient=True, disable=not terminal.is_terminal):
        counts[one.outcome] += 1
        if as_json:
            json_line(asdict(one))
        elif not one.same:
            print(f"version {one.version} {one.outcome}: {one.text}")
    if not as_json:
        text = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        print(f"{counts.total()} versions: {text}")
    return counts


def size(count: float) -> str:
    """Return a number of bytes as a person says it."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def _heading(answer: Status) -> Text:
    accuracy, traffic = answer["accuracy"], answer["bytes"]
    of = f" of {answer['versions']}" if answer["versions"] else ""
    parts = [f"{answer['federation']}  version {answer['version']}{of}"]
    if accuracy["federated"] is not None:
        personal = "" if accuracy["personal"] is None else f", personal {accuracy['personal']:.1%}"
        parts.append(f"accuracy {accuracy['federated']:.1%} (zero-shot {accuracy['zero_shot']:.1%}{personal})")
    parts.append(f"up {size(traffic['up_application'])}  down {size(traffic['down_application'])}")
    return Text("   ".join(parts), style="bold")


def _shown(answer: Status) -> list[Text]:
    """Say how many nodes a filter has left out."""
    asked, known = len(answer["nodes"]), answer.get("known", 0)
    return [Text(f"{asked} of {known} nodes", "dim")] if known > asked else []


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _waiting(answer: Status) -> Text:
    round_ = answer["round"]
    line = Text(round_["reason"])
    if round_["waiting_for"]:
        line.append(f"   waiting for {_some(round_['waiting_for'])}", "yellow")
    if round_["gone"]:
        line.append(f"   gone {_some(round_['gone'])}", "red")
    if round_["deadline_in_s"] is not None and round_["open_s"] is not None:
        line.append(f"   at most {max(0.0, round_['deadline_in_s']):.1f} s more")
    return line


def _muted(mute: dict[str, Any]) -> Text:
    return Text(f"{mute['name']} is not listened to for {mute['for_s']:.0f} s more: {mute['reason']}", "red")


def nodes(shown: Sequence[dict[str, Any]], taken: Mapping[str, int] | None = None, narrow: bool = False) -> Table:
    """Return a table of nodes.

    taken      how many updates of each were accepted, where that is known
    narrow     one line each, without what a small terminal has no room for
    """
    table = Table(box=None, pad_edge=False, header_style="dim")
    columns = ["version", "staleness", "accuracy", *(["updates"] if taken is not None else [])]
    columns += [] if narrow else ["examples", "up", "down"]
    for name in ("node", "state", *columns, "note"):
        right = "right" if name in columns else "left"
        table.add_column(name, justify=right, no_wrap=narrow, min_width=10 if name == "node" else None)  # type: ignore[arg-type]
    for node in shown:
        state = node["state"]
        progress = f" {node['done']}/{node['total']}" if node["total"] else ""
        values = {
            "version": str(node["version"]) if node["version"] >= 0 else "-",
            "staleness": str(node["staleness"]),
            "accuracy": _accuracy(node),
            "updates": str((taken or {}).get(node["id"], 0)),
            "examples": str(node["examples"]),
            "up": size(node["bytes_up"]),
            "down": size(node["bytes_down"]),
        }
        named = Text(node["name"] or node["id"])
        shown_state = Text(state + progress, STYLES.get(state, ""))
        table.add_row(named, shown_state, *(values[name] for name in columns), _note(node, state))
    return table


def _accuracy(node: dict[str, Any]) -> str:
    """Return that of what is shared, and that of the personal model where there is one."""
    return " / ".join(f"{node[key]:.1%}" for key in ("accuracy", "personal") if node[key] is not None) or "-"


def _note(node: dict[str, Any], state: str) -> Text:
    if node["reason"] not in ("", state):
        return Text(node["reason"], "red")
    return Text("awaited" if node["awaited"] else "", "dim")
