"""A page of a federation that is only told of: a thousand nodes need no thousand processes to be looked at."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedmq.page.server import Page, serving
from fedmq.plan import Settings
from fedmq.see import Place
from fedmq.status import Status, status
from pair import Fleet

STATES = ("training", "training", "training", "idle", "encoding", "training", "gone")


def crowd(count: int, version: int = 12) -> Status:
    """The status of a federation with so many nodes, in all states."""
    template = status(Fleet(Settings("orchards"), {}).aggregator, 1.0)
    nodes = [_node(at, version) for at in range(count)]
    awaited = [node["name"] for node in nodes if node["awaited"]]
    gone = [node["name"] for node in nodes if node["state"] == "gone"][:40]
    round_ = template["round"] | {
        "have": 411, "goal": 900, "quorum": 450, "open_s": 7.5, "deadline_in_s": 42.0, "waiting_for": awaited,
        "gone": gone, "reason": "collecting: 411 of 900 updates",
    }  # fmt: skip
    traffic = {
        "up_goodput": 7 * 10**9,
        "up_application": 71 * 10**8,
        "down_goodput": 10**10,
        "down_application": 10**10,
    }
    return template | {
        "federation": "orchards", "version": version, "versions": 40, "round": round_, "nodes": nodes, "bytes": traffic,
        "accuracy": {"version": version, "federated": 0.7421, "personal": None, "zero_shot": 0.5164},
    }  # fmt: skip


def _node(at: int, version: int) -> dict[str, Any]:
    state = STATES[at % len(STATES)] if at % 97 else "idle"
    struck = at % 97 == 5
    return {
        "id": f"key-{at}", "name": f"edge-{at:04}", "state": state, "version": version - at % 3,
        "training_from": None, "staleness": at % 11 // 9 * 2, "done": 300 if state == "encoding" else 0,
        "total": 1200 if state == "encoding" else 0, "examples": 200 + at, "bytes_up": 7_000_000 + at * 991,
        "bytes_down": 9_000_000 + at * 997, "strikes": int(struck), "accuracy": 0.6 + at % 30 / 100, "personal": None,
        "reason": "the link is gone" if state == "gone" else "not_finite: 3 values are not finite" if struck else "",
        "silent_s": 400.0 + at if state == "gone" else at % 10 / 2, "awaited": state == "training" and at % 2 == 0,
    }  # fmt: skip


@contextmanager
def shown(ledger: Path, look: Callable[[], Status]) -> Iterator[tuple[Page, str, Callable[[], None]]]:
    """Serve the page meanwhile, in a thread; yield it, its address, and what tells it that something has happened."""
    ready, end = threading.Event(), asyncio.Event()
    found: list[Any] = []

    async def main() -> None:
        async with serving(ledger, Place("127.0.0.1", 0)) as (page, url):
            page.begin(look)
            found.extend((page, url, asyncio.get_running_loop()))
            ready.set()
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert ready.wait(60)
        page, url, loop = found
        yield page, url, lambda: loop.call_soon_threadsafe(page.happened)
    finally:
        found[2].call_soon_threadsafe(end.set)
        thread.join()
