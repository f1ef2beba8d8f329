"""A node's memory on disk: what was written is read again, or it is said why not and what became of it."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmq.delta import Arrays, Delta, Params, Schema
from fedmq.effects import Log
from fedmq.memory import Memory
from fedmq.messages import Update
from fedmq_nodes import state
from fedmq_nodes.errors import StateUnusable
from pair import params
from strategies import arrays, tries

WHO = {"name": "edge", "federation": "", "feature_space": "a" * 64}
UPDATE = Update(7, 4, 2, "int8", examples=10, steps=3, loss=0.5, train_s=1.5, payload=bytes(range(27)))
OWN = params(0.5, Schema((("rotation.blocks", (2, 3, 3)),)))
MEMORY = Memory("one", 3, UPDATE, Delta(params(0.25)), OWN)


def opened(folder: Path, logs: list[Log], who: dict[str, str] = WHO) -> state.State:
    folder.mkdir(exist_ok=True)
    return state.State(folder, who, logs.append)


def same(a: Memory, b: Memory) -> bool:
    def values(memory: Memory) -> object:
        parts = [part and (part.schema, part.flat.tobytes()) for part in (memory.residual, memory.personal)]
        return memory.run, memory.seq, memory.update, parts

    return values(a) == values(b)


def written(folder: Path, memory: Memory = MEMORY) -> Path:
    here = opened(folder, [])
    here.write(memory)
    return here.path


@pytest.mark.parametrize(
    "memory",
    [
        Memory(),
        Memory("one", 3),
        Memory("one", 3, personal=OWN),
        replace(MEMORY, residual=None),
        replace(MEMORY, update=None),
        replace(MEMORY, personal=None),
        MEMORY,
    ],
)
def test_a_memory_is_read_as_it_was_written(memory: Memory, tmp_path: Path) -> None:
    written(tmp_path, memory)
    logs: list[Log] = []
    assert same(opened(tmp_path, logs).memory, memory)
    assert [log.event for log in logs] == (["memory.recalled"] if memory.used else [])


@tries(50)
@given(arrays(), arrays(), st.binary(max_size=200), st.integers(1, 2**40))
def test_any_residual_any_own_part_and_any_payload_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, residual: Arrays, own: Arrays, payload: bytes, seq: int
) -> None:
    update = replace(UPDATE, seq=seq, payload=payload)
    memory = Memory("one", seq - 1, update, Delta(residual), Params(own))
    folder = tmp_path_factory.mktemp("node")
    written(folder, memory)
    assert same(opened(folder, []).memory, memory)


def test_a_node_that_was_never_here_remembers_nothing_and_says_nothing(tmp_path: Path) -> None:
    logs: list[Log] = []
    assert (opened(tmp_path, logs).memory, logs) == (Memory(), [])


def test_a_file_cut_anywhere_or_with_any_byte_changed_is_set_aside_and_never_believed(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    cuts = [whole[:length] for length in range(0, len(whole), 7)]
    flips = []
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= int(rng.integers(1, 256))
        flips.append(bytes(flipped))
    for data in (*cuts, *flips):
        path.write_bytes(data)
        logs: list[Log] = []
        found = opened(tmp_path, logs).memory
        # A changed byte may leave everything that counts as it was, such as a space in the file's own header.
        if same(found, MEMORY):
            continue
        assert (found, [log.event for log in logs]) == (Memory(), ["memory.damaged"])
        assert path.with_suffix(".damaged").read_bytes() == data
        assert not path.exists()


def test_what_a_crash_left_of_a_write_is_not_taken_for_the_memory(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.with_suffix(".partial").write_bytes(b"half of a file")
    assert same(opened(tmp_path, []).memory, MEMORY)


def test_a_file_of_a_newer_format_is_set_aside_with_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(state, "FORMAT", "2")
        written(tmp_path)
    logs: list[Log] = []
    assert opened(tmp_path, logs).memory == Memory()
    assert "format 2, this fedmq reads 1" in logs[0].fields["text"]


def test_another_nodes_file_is_an_error_that_names_both(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(StateUnusable, match="name 'edge', this node has 'other'"):
        opened(tmp_path, [], {**WHO, "name": "other"})


def test_what_was_unsent_in_another_run_is_kept_beside(tmp_path: Path) -> None:
    here = opened(tmp_path, [])
    here.write(MEMORY)
    here.write(Memory("two", 0))
    here.write(Memory("two", 1))
    assert opened(tmp_path, []).memory == Memory("two", 1)
    os.replace(tmp_path / "memory.one", here.path)
    assert same(opened(tmp_path, []).memory, MEMORY)


def test_what_a_node_has_for_itself_is_kept_beside_when_it_joins_another_run(tmp_path: Path) -> None:
    here = opened(tmp_path, [])
    here.write(Memory("one", 3, personal=OWN))
    here.write(Memory("two", 0))
    os.replace(tmp_path / "memory.one", here.path)
    assert same(opened(tmp_path, []).memory, Memory("one", 3, personal=OWN))


def test_the_own_part_is_read_for_its_run_and_for_no_other(tmp_path: Path) -> None:
    written(tmp_path)
    assert state.personal(tmp_path, "one").flat.tobytes() == OWN.flat.tobytes()
    with pytest.raises(StateUnusable, match="is of run one, not of run two"):
        state.personal(tmp_path, "two")
    written(tmp_path, replace(MEMORY, personal=None))
    with pytest.raises(StateUnusable, match="has no part of a node's own"):
        state.personal(tmp_path, "one")
    with pytest.raises(StateUnusable, match="cannot be read as a node's state"):
        state.personal(tmp_path / "nowhere", "one")


def test_what_cannot_be_written_is_said_and_what_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs: list[Log] = []
    here = opened(tmp_path, logs)
    here.write(MEMORY)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        here.write(Memory("one", 4))
    assert [(log.level, log.event, log.fields["seq"]) for log in logs] == [("error", "memory.unwritable", 4)]
    assert "No space left on device" in logs[0].fields["text"]
    assert same(opened(tmp_path, []).memory, MEMORY)
    assert [path.name for path in tmp_path.iterdir()] == ["memory"]


def test_one_process_holds_a_nodes_state_and_nodes_share_a_folder(tmp_path: Path) -> None:
    logs: list[Log] = []
    with state.opened(tmp_path, "a", "", "s", logs.append) as first:
        first.write(Memory("one", 1))
        with state.opened(tmp_path, "b", "", "s", logs.append) as second:
            assert second.memory == Memory()
        with (
            pytest.raises(StateUnusable, match="node a: .* is in use by another process"),
            state.opened(tmp_path, "a", "", "s", logs.append),
        ):
            pass
    with state.opened(tmp_path, "a", "", "s", logs.append) as again:
        assert again.memory == Memory("one", 1)
    with state.opened(tmp_path, "a", "", "another space", logs.append) as other:
        assert other.memory == Memory()


def test_a_folder_that_cannot_be_made_is_a_sentence_with_an_exit_code(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(StateUnusable, match="the state of node a: .* cannot be used: Not a directory") as found,
        state.opened(tmp_path / "file", "a", "", "s", lambda _log: None),
    ):
        pass
    assert found.value.exit_code == 3
