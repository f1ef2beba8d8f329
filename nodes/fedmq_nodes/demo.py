"""The demo: the main job end to end, on images that are drawn here, with an encoder that is shipped.

Six nodes hold four visual domains. The tiny CLIP knows photos; on the other domains it fails until the federation
adapts it. One node is five times slower than the rest, one is killed midway and comes back; nobody waits for either.
"""

import asyncio
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from fedmq.record import LEDGER
from fedmq.report import page
from fedmq_models.tiny import images
from fedmq_nodes import fleetfile, up, use
from fedmq_nodes.fleet import RunningFleet
from fedmq_nodes.lifeline import hold_worker
from fedmq_nodes.live import View
from fedmq_nodes.options import user_cache
from fedmq_nodes.progress import bar
from fedmq_nodes.sources import Images

NODES = ("photo-1", "sketch-1", "sketch-2", "cartoon-1", "cartoon-2", "painting-1")
SLOW, KILLED = "sketch-2", "cartoon-2"
KILLED_AT, BACK_AT, VERSIONS = 5, 9, 20
PER_CLASS, TESTS_PER_CLASS = 40, 25
SEEDS_PER_NODE = 1_000  # apart, so that no two nodes, and no test, draw the same image
EXAMPLES_PER_S = 640.0  # a small device's speed; a node's 384 examples take 0.6 s

FLEET = f"""\
# The fleet of `fedmq demo`. Run it again with: fedmq up fleet.toml --set run=again
[federation]
federation = "demo"
bundle = "tiny"
run = "."

[federation.task]
epochs = 1

[federation.rounds]
preset = "quorum"       # close with most of the fleet and a little grace; who is late counts in the next round
quorum_share = 0.6
deadline_s = 10.0
max_staleness = 20

[federation.pulse]
heartbeat_s = 0.5
lost_after_s = 2.0

[federation.stop]
versions = {VERSIONS}
"""


def run(folder: Path, quiet: bool) -> dict[str, Any]:
    """Run the demo in a new folder and return what came of it, with the keys that scripts rely on."""
    drawings = draw(user_cache() / "demo")
    folder.mkdir(parents=True)
    file = folder / "fleet.toml"
    file.write_text(FLEET + "".join(_node(name, drawings / name) for name in NODES), encoding="utf-8")
    fleet = fleetfile.read(file, [])
    with View(quiet) as view:
        summary = asyncio.run(up.run(fleet, file, [], view, story))
    learned = use.Learned.of(folder)
    domains = {}
    for domain in images.DOMAINS:
        source = Images(drawings / f"test-{domain}", learned.bundle, user_cache() / "features", "cpu")
        domains[domain] = use.evaluate(learned, source, lambda _done, _total: None)
        use.note(folder, domain, domains[domain])
    report = page.write(folder, folder / LEDGER, folder / "report.html")
    per_domain = {name: {key: found[key] for key in ("zero_shot", "federated")} for name, found in domains.items()}
    return summary | _means(per_domain) | {"per_domain": per_domain, "report": str(report)}


async def story(fleet: RunningFleet, watch: up.Watch, view: View) -> None:
    """Kill a node while it trains, and start it again some versions later."""
    view.say(f"six nodes start; {SLOW} is five times slower than the others")
    await watch.until(lambda status: status["version"] >= KILLED_AT and _trains(status, KILLED))
    fleet.kill_node(KILLED)
    view.say(f"version {watch.status['version']}: {KILLED} was killed (SIGKILL) while it trained")
    await watch.until(lambda status: status["version"] >= BACK_AT)
    await fleet.start_node(KILLED)
    view.say(f"version {watch.status['version']}: {KILLED} is started again")


def draw(folder: Path) -> Path:
    """Draw the images of all nodes, and others to test on, unless an earlier demo has; return their folder."""
    jobs = [(name, name.partition("-")[0], PER_CLASS) for name in NODES]
    jobs += [(f"test-{domain}", domain, TESTS_PER_CLASS) for domain in images.DOMAINS]
    with bar("drawing images") as report, ProcessPoolExecutor(os.cpu_count(), initializer=hold_worker) as pool:
        total = sum(per_class for _, _, per_class in jobs)
        report(0, total)
        tasks = [
            pool.submit(images.write, folder / name, domain, 1, images.UNSEEN + SEEDS_PER_NODE * number + at)
            for number, (name, domain, per_class) in enumerate(jobs)
            for at in range(per_class)
        ]
        for done, task in enumerate(as_completed(tasks), 1):
            task.result()
            report(done, total)
    return folder


def _means(per_domain: dict[str, dict[str, float]]) -> dict[str, float]:
    rows = per_domain.values()
    return {key: round(sum(row[key] for row in rows) / len(rows), 4) for key in ("zero_shot", "federated")}


def _trains(status: dict[str, Any], name: str) -> bool:
    return any(node["name"] == name and node["state"] == "training" for node in status["nodes"])


def _node(name: str, data: Path) -> str:
    speed = EXAMPLES_PER_S / 5 if name == SLOW else EXAMPLES_PER_S
    return f'\n[[nodes]]\nname = "{name}"\ndata = "{data}"\nexamples_per_s = {speed}\n'
