"""Lines: what happened in a run, as a person reads it, one line each; see `chronicle` for what is in one."""

from typing import Any

import numpy as np

from fedmq.show import size

Line = dict[str, Any]
NAME = 24  # columns of what a line is about
TOLD = ("kind", "at", "level", "event", "name", "node")


def text(line: Line) -> str:
    """Return one line, without what a terminal would obey: a node may call itself anything."""
    when = str(np.datetime64(int(line["at"]), "s")).replace("T", " ")
    return "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in f"{when}  {FORMS[line['kind']](line)}"
    )


def _update(line: Line) -> str:
    behind = f"{line['staleness']} behind" if line["staleness"] else "fresh"
    told = f"{line['update']:<{NAME}} {line['code']:<11} from version {line['base_version']}, {behind}, "
    told += f"{line['examples']} examples, {size(line['frame_bytes'])}"
    if line["number"] is None:
        return f"{told}: {line['text']}" if line["text"] else told
    weight = line["weight"] * line["damping"] * line["scale"]
    home = "in no version yet" if line["version"] is None else f"in version {line['version']}"
    return f"{told}, weight {weight:.1f}, {home}"


def _version(line: Line) -> str:
    told = f"{'version ' + str(line['version']):<{NAME}} {line['cause']:<11}"
    if line["version"] == 0:
        return told.rstrip()
    return (
        f"{told} {line['updates']} updates, {line['invited']} invited, open {line['open_s']:.2f} s, "
        f"{size(line['bytes_up'])} up, {size(line['bytes_down'])} down"
    )


def _event(line: Line) -> str:
    told = " ".join(f"{key}={value}" for key, value in line.items() if key not in TOLD)
    return f"{line.get('name', ''):<{NAME}} {line['event']}  {told}".rstrip()


FORMS = {"update": _update, "version": _version, "event": _event}
