"""Attention: which nodes a person should see first, where not all of them can be shown."""

from collections.abc import Sequence
from typing import Any

FINE = ("", "finished", "gone")


def urgency(node: dict[str, Any]) -> tuple[int, str]:
    """Return what nodes of a status are sorted by: in trouble, gone, awaited, behind, and the others by name."""
    trouble = node["reason"] not in (*FINE, node["state"]) and node["state"] != "finished"
    order = (trouble and node["state"] != "gone", node["state"] == "gone", node["awaited"], node["staleness"] > 0)
    return order.index(True) if True in order else len(order), node["name"] or node["id"]


def first(nodes: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Return all of these nodes by name, or those that matter most if there are more than `most`."""
    if len(nodes) <= most:
        return sorted(nodes, key=lambda node: str(node["name"] or node["id"]))
    return sorted(nodes, key=urgency)[:most]
