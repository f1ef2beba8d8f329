"""Whoever follows a page of the documentation gets through it: every command in it is typed, one after the other."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import broker
import granted
from granted import AGGREGATOR, LISTENS, WORKS
from pages import PAGES, Shown, Typed, blocks
from terminal import Terminal

# Beginnings of commands that cannot be typed here, and why.
NOT_HERE = {
    "make ": "makes an environment from a package index",
    "pip install ": "changes the environment that the tests run in",
    "fedmq bundle make ": "fetches weights of several hundred MB",
    "fedmq bench accuracy --keep ": "keeps rows in this checkout, of data that are fetched, for hours",
    "fedmq scenario compare heavy-stragglers --seeds 20 --engine ray ": "needs a Ray cluster",
}

# What is typed behind a command, and why; HERE is the folder.
SHORT = "a smaller number does"
PORT = "a port that is free"
QUICK = "--set stop.versions=1 --set task.method=statistics --set codec.up=stats-rank4"
ONE = "--set stop.updates_per_node=1"
FEW = f"{ONE} --set data.source=HERE/features.npz"
LIGHT = "that nodes learn is seen elsewhere, and each would load torch"
MORE = {
    "fedmq up fleet.toml": (QUICK, LIGHT),
    "fedmq up fleet.toml --hold-out each": ("--set stop.versions=2", SHORT),
    "fedmq up fleet.toml --set rounds.preset=fedbuff --set rounds.goal=2 --set run=runs/fedbuff": (QUICK, LIGHT),
    "fedmq up fleet.toml --hold-out each --set rounds.preset=quorum --set task.epochs=2 --set stop.versions=12": (
        "--hold-out photo --set run=runs/quorum --set stop.versions=2",
        "each was held out before, in a run that is over",
    ),
    "fedmq up caltech.toml --set stop.versions=20": (QUICK, LIGHT),
    "fedmq serve federation.toml": (
        "--set link.curve=on --set run=runs/with-keys",
        "as it is off this machine, and a run of its own",
    ),
    "fedmq serve federation.toml --dashboard 8080": ("--dashboard 0 --set stop.versions=0", PORT),
    "fedmq serve federation.toml --metrics 9464": ("--metrics 0 --set stop.versions=0", PORT),
    "fedmq join node.toml --metrics 9465": ("--metrics 0 --no-train", f"{PORT}, and {LIGHT}"),
    "fedmq join tcp://10.0.0.5:5600 --data photos/ --bundle clip-bundle --key keys/edge-1.key_secret "
    "--aggregator-key aggregator.key": ("--no-train", LIGHT),
    "fedmq serve federation.toml --set link.broker.user=aggregator "
    "--set link.broker.password=broker/secrets/aggregator.password": (
        "--set link.broker.ca=ca.crt --set run=runs/over-mqtt",
        "an authority that no machine knows, and a run of its own",
    ),
    "fedmq join mqtts://broker.example:8883 --federation pacs --name edge-1 --password edge-1.password --ca ca.crt "
    "--data photos/ --bundle pacs-bundle --key keys/edge-1.key_secret --aggregator-key aggregator.key": (
        "--no-train",
        LIGHT,
    ),
    "fedmq bench comm --codec fp32,int8,eden1 --plot comm.png": (
        "--part learning --nodes 2 --rounds 1 --seeds 1 --data features.npz",
        "the other part is in the next one",
    ),
    "fedmq bench comm --codec fp32,eden1 --part system --link-mbps 10 --rtt-ms 50": (
        "--codec eden1 --nodes 1 --system-rounds 1",
        SHORT,
    ),
    "fedmq scenario run heavy-stragglers --policy cached": (f"--no-training {FEW}", f"{SHORT}, and {LIGHT}"),
    "fedmq scenario compare heavy-stragglers --seeds 5 --report heavy.html": (
        f"--seeds 1 --policies sync,cached --processes 1 {FEW}",
        SHORT,
    ),
    "fedmq scenario compare heavy-stragglers --policies sync,quorum,fedbuff,cached,cached-small --seeds 11": (
        f"--seeds 1 --processes 1 --no-training {FEW}",
        f"{SHORT}, and {LIGHT}",
    ),
    "fedmq scenario run lost-uploads --real --policy fedbuff": (f"--no-training {FEW}", SHORT),
    "fedmq scenario run lost-uploads --real --link mqtt --speed 4": (f"--no-training {FEW}", SHORT),
}

# What must be there before a command, and the page says in words.
BEFORE: dict[str, Callable[[Terminal], None]] = {
    "fedmq keys enrol edge-1.key": granted.the_key_of_edge_1,
    "fedmq join tcp://10.0.0.5:5600 --data photos/ --bundle clip-bundle --key keys/edge-1.key_secret "
    "--aggregator-key aggregator.key": granted.the_key_of_the_aggregator,
    "fedmq status runs/pacs": granted.a_federation_that_runs,
    "fedmq join node.toml --metrics 9465": granted.a_file_of_a_node,
    "fedmq report runs/demo-1": granted.a_demo,
    "fedmq serve federation.toml --set task.method=faaclip --set task.target.pool=target.npz": granted.a_pacs_bundle,
    "fedmq forget runs/pacs edge-1": granted.a_run_of_statistics,
    "fedmq broker-config federation.toml --nodes edge-1,edge-2 --out broker": granted.a_broker,
    "mosquitto -c broker/mosquitto.conf": granted.its_certificate,
    "fedmq join mqtts://broker.example:8883 --federation pacs --name edge-1 --password edge-1.password --ca ca.crt "
    "--data photos/ --bundle pacs-bundle --key keys/edge-1.key_secret "
    "--aggregator-key aggregator.key": granted.what_edge_1_was_given,
    "fedmq bench plot benchmarks/fedmq_bench/results/accuracy.jsonl --data pacs --out "
    "docs/pictures/accuracy-pacs.png": granted.the_rows_that_are_kept,
}

# What goes on until somebody stops it, and how it says that it is there.
GOES_ON = {
    "fedmq serve ": LISTENS,
    "fedmq join ": WORKS,
    "fedmq watch runs/pacs": r"\S",
    "mosquitto ": r"running",
}

COMMANDS = {
    page.name: [one for block in blocks(page) if isinstance(block, Typed) for one in block.commands] for page in PAGES
}
FOLLOWED = [page for page in PAGES if COMMANDS[page.name]]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    granted.settle(tmp_path)
    here = Terminal(tmp_path)
    yield here
    here.close()


@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: page.name)
def test_whoever_types_what_a_page_says_gets_through_it(page: Path, terminal: Terminal) -> None:
    if any("mqtt" in command for command in COMMANDS[page.name]):
        broker.installed()
    for block in blocks(page):
        if isinstance(block, Shown):
            granted.show(terminal.folder, block)
            continue
        for command in block.commands:
            if not command.startswith(tuple(NOT_HERE)):
                follow(command, terminal)
        terminal.stop()


def follow(command: str, here: Terminal) -> None:
    """Type a command, and wait until it has ended, or goes on as it should."""
    if command in BEFORE:
        BEFORE[command](here)
    more = MORE.get(command, ("", ""))[0].replace("HERE", str(here.folder))
    ready = next(
        (ready for start, ready in GOES_ON.items() if command.startswith(start) and "--once" not in command), None
    )
    if ready is None:
        here.run(f"{command} {more}")
        return
    found = here.start(f"{command} {more}", ready)
    if ready == LISTENS:
        here.stand_ins[AGGREGATOR] = found[1]


@pytest.mark.parametrize("start", NOT_HERE)
def test_what_is_not_typed_still_stands_in_a_page(start: str) -> None:
    assert any(command.startswith(start) for commands in COMMANDS.values() for command in commands)


def test_what_is_said_of_a_command_is_of_one_that_stands_in_a_page() -> None:
    known = {command for commands in COMMANDS.values() for command in commands}
    assert {*MORE, *BEFORE} - known == set()
    assert [start for start in GOES_ON if not any(command.startswith(start) for command in known)] == []


def test_most_commands_are_typed() -> None:
    known = [command for commands in COMMANDS.values() for command in commands]
    typed = [command for command in known if not command.startswith(tuple(NOT_HERE))]
    assert len(typed) > 50
