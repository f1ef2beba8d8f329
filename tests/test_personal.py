"""Parts that stay on a node: they make it better there, they never travel, and they outlive its process."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fedmq import codec
from fedmq.aggregator import Aggregator
from fedmq.delta import Schema
from fedmq.messages import Model, Report, Update, Welcome
from fedmq.past import Past
from fedmq.plan import Settings
from fedmq.record import Record
from fedmq.report import page
from fedmq.show import render
from fedmq.status import status
from fedmq.summary import summarise
from fedmq_models import bundle as bundles
from fedmq_models.methods import METHODS
from fedmq_models.training import Training
from fedmq_nodes import task as tasks
from fedmq_nodes.errors import StateUnusable
from fedmq_nodes.sources import Data
from learners import CLASSES, DIM, SCALE, School, domain, halves, text
from ledgers import opened

TURNED = {name: halves(domain(160, seed, turn=1.0)) for seed, name in enumerate("abc")}
# Two nodes agree on what the classes are called, and a third calls two of them the other way round.
SWAPPED = {
    name: halves(domain(160, seed, 0.0, swap))
    for seed, (name, swap) in enumerate({"a": (0, 1, 2), "b": (0, 1, 2), "c": (1, 0, 2)}.items())
}
PERSONAL = sorted(name for name, how in METHODS.items() if how.stays)


def training(name: str) -> Training:
    return Training(method=name, lr=0.02, epochs=3, batch_size=16)


@pytest.mark.parametrize("name", PERSONAL)
@pytest.mark.parametrize("data", [TURNED, SWAPPED], ids=["features turned", "classes swapped"])
def test_where_nodes_differ_the_personal_model_is_better_than_the_shared_one_on_every_node(
    name: str, data: dict[str, Data]
) -> None:
    reports = School(training(name), data).run(versions=8).reports(8)
    assert {node: (entry.personal or 0) >= entry.correct for node, entry in reports.items()} == dict.fromkeys(
        "abc", True
    )
    mean = {key: sum(getattr(entry, key) for entry in reports.values()) / 240 for key in ("correct", "personal")}
    assert mean["personal"] > mean["correct"] + 0.05


@pytest.mark.parametrize("name", PERSONAL)
def test_version_0_has_no_personal_model_and_is_zero_shot_on_every_node(name: str) -> None:
    school = School(training(name), TURNED).run(versions=1)
    reports = [message for message in school.said() if isinstance(message, Report)]
    frozen = {(message.correct, message.examples) for message in reports if message.version is None}
    assert {(message.correct, message.examples) for message in reports if message.version == 0} == frozen
    assert {message.personal for message in reports if not message.version} == {None}
    assert None not in {message.personal for message in reports if message.version == 1}


@pytest.mark.parametrize("name", PERSONAL)
def test_what_stays_is_in_no_frame_no_update_no_version_and_no_schema(name: str) -> None:
    school = School(training(name), TURNED).run(versions=3)
    head = Schema((("head.weight", (CLASSES, DIM)),))
    welcomes = [message for message in school.said() if isinstance(message, Welcome)]
    assert {message.schema for message in welcomes} == {head.entries}
    assert {entry.params.schema for entry in school.versions()} == {head}
    payloads = [message.payload for message in school.said() if isinstance(message, Update | Model)]
    assert {len(payload) for payload in payloads} == {4 * CLASSES * DIM}
    secrets = [memory.personal for memory in school.memories.values()]
    assert all(secret is not None and np.abs(secret.flat).max() > 0 for secret in secrets)
    sent = b"".join(bytes(part) for _, frame in school.frames for part in frame)
    own = [value.tobytes() for secret in secrets if secret is not None for value in secret.flat if value]
    assert [four for four in own if four in sent] == []


def test_a_node_that_dies_and_comes_back_goes_on_with_its_own_part() -> None:
    school = School(training("fedot"), SWAPPED).run(versions=4)
    before = school.memories["c"].personal
    assert before is not None
    school.simulation.remove("c")
    node = school.start("c", session=2)
    assert node.personal is before
    school.run(versions=6)
    assert node.personal is not before
    assert (school.reports(6)["c"].personal or 0) > school.reports(6)["c"].correct


def test_a_node_that_comes_back_without_its_disk_begins_its_own_part_anew() -> None:
    school = School(training("fedot"), SWAPPED).run(versions=4)
    school.simulation.remove("c")
    del school.memories["c"]
    assert school.start("c", session=2).personal is None
    school.run(versions=6)
    assert school.memories["c"].personal is not None


def test_the_own_part_of_another_run_is_dropped() -> None:
    earlier = School(training("fedot"), SWAPPED).run(versions=2).memories
    memories = {name: replace(memory, run="another") for name, memory in earlier.items()}
    school = School(training("fedot"), SWAPPED, memories=memories)
    assert school.nodes["a"].personal is not None
    school.run(versions=1)
    begun = School(training("fedot"), SWAPPED).run(versions=1)
    values = [one.memories["a"].personal for one in (school, begun)]
    assert values[0] is not None
    assert values[1] is not None
    assert values[0].flat.tobytes() == values[1].flat.tobytes()


def test_what_is_shared_is_a_setting() -> None:
    """The other way round: each node has a head of its own, and the adapter before it is common."""
    school = School(replace(training("personal"), share=("adapter",)), SWAPPED).run(versions=3)
    adapter = ["adapter.0.weight", "adapter.0.bias", "adapter.2.weight"]
    assert [name for name, _ in school.versions()[-1].params.schema.entries] == adapter
    assert {memory.personal and memory.personal.schema.entries for memory in school.memories.values()} == {
        (("head.weight", (CLASSES, DIM)),)
    }


def test_with_everything_shared_nothing_is_kept_and_no_personal_accuracy_is_reported() -> None:
    school = School(replace(training("fedot"), share=("head", "rotation")), TURNED).run(versions=2)
    assert {memory.personal for memory in school.memories.values()} == {None}
    assert {entry.personal for entry in school.reports(2).values()} == {None}


def test_the_status_has_both_accuracies_of_each_node_and_their_means() -> None:
    school = School(training("fedot"), TURNED).run(versions=2)
    found = status(school.aggregator, school.simulation.now)
    reports = school.reports(2)
    assert {node["name"]: (node["accuracy"], node["personal"]) for node in found["nodes"]} == {
        name: (entry.correct / 80, (entry.personal or 0) / 80) for name, entry in reports.items()
    }
    assert found["accuracy"]["personal"] == round(sum(entry.personal or 0 for entry in reports.values()) / 240, 4)


def test_a_part_that_was_kept_for_another_shape_is_refused_with_both() -> None:
    task = tasks.Task(Training(method="fedot"), ("a", "b", "c"), SCALE, text())
    version, own = task.parted(task.fresh)
    tasks.require_same(task, version.schema, own)
    with pytest.raises(StateUnusable, match="has kept head.weight 3x8, the task keeps rotation.blocks 1x8x8; give it"):
        tasks.require_same(task, version.schema, version)
    alone = replace(task, training=Training(method="linear"))
    with pytest.raises(StateUnusable, match="has kept rotation.blocks 1x8x8, the task keeps nothing"):
        tasks.require_same(alone, alone.parted(alone.fresh)[0].schema, own)


def test_an_older_aggregator_reads_the_report_of_a_node_with_a_part_of_its_own() -> None:
    report = Report(7, 3, 10, 6, 0.5, personal=9)
    plain = codec.decode(codec.encode(replace(report, personal=None)))
    assert b"personal" not in b"".join(map(bytes, codec.encode(plain)))
    assert codec.decode(codec.encode(report)) == report


def test_what_travels_and_what_stays_are_of_different_names_and_make_the_whole_again() -> None:
    task = tasks.Task(Training(method="personal"), ("a", "b", "c"), SCALE, text())
    version, own = task.parted(task.fresh)
    assert own is not None
    whole = task.whole(version, own)
    assert list(whole) == list(task.fresh) == [name for part in (version, own) for name, _ in part.schema.entries]
    assert all((whole[name] == value).all() for name, value in task.fresh.items())


@pytest.mark.parametrize(
    ("how", "stays"),
    [
        (Training(), ""),
        (Training(moon=1.0), "the model of its last run"),
        (Training(method="fedot"), "rotation.blocks 1x8x8"),
        (Training(method="fedot", moon=1.0), "rotation.blocks 1x8x8, the model of its last run"),
        (Training(method="fedot", share=("head", "rotation")), ""),
        (Training(method="faaclip"), "a domain head"),
        (Training(method="faaclip", share=("0", "1")), "3.weight 8x8, 3.bias 8, a domain head"),
        (Training(method="facmic"), ""),
    ],
)
def test_what_stays_is_said_in_words_by_status_summary_and_report(how: Training, stays: str, tmp_path: Path) -> None:
    found = bundles.write(
        tmp_path / "b", name="toy", labels=("a", "b", "c"), text=text(), logit_scale=SCALE, declared_space="toy"
    )
    job = tasks.job(found, how)
    aggregator = Aggregator(Settings("toy"), job, Past.none(job.params), np.random.default_rng(0), 0.0)
    told = status(aggregator, 0.0)
    assert told["stays"] == stays
    console = Console(width=200)
    with console.capture() as shown:
        console.print(render(told))
    opened(tmp_path / "ledger", notes=dict(job.notes)).close()
    with Record.open(tmp_path / "ledger") as record:
        assert summarise(record)["stays"] == stays
        pages = page.render(record, [])
    for text_ in (shown.get(), pages):
        assert (f"stays on each node: {stays}" in text_) == bool(stays)
