"""The feature cache: once encoded, never again, and never half."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from fedmq_nodes.cache import KEY_BYTES, FeatureCache
from fedmq_nodes.errors import CacheUnusable

SPACE, OTHER = "a" * 64, "b" * 64
DIM = 4


def key(number: int) -> bytes:
    return number.to_bytes(KEY_BYTES, "big")


def rows(*numbers: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array([[number] * DIM for number in numbers], np.float32)


def test_what_was_added_is_there_for_the_next_process(tmp_path: Path) -> None:
    FeatureCache(tmp_path, SPACE, DIM).add([key(1), key(2)], rows(1, 2))
    again = FeatureCache(tmp_path, SPACE, DIM)
    assert [again.row(key(n)) for n in (1, 2, 3)] == [0, 1, None]
    np.testing.assert_array_equal(again.values(), rows(1, 2))


def test_values_are_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, SPACE, DIM)
    cache.add([key(1)], rows(1))
    assert isinstance(cache.values(), np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        cache.values()[0] = 9


def test_an_empty_cache_has_no_rows(tmp_path: Path) -> None:
    assert FeatureCache(tmp_path, SPACE, DIM).values().shape == (0, DIM)


def test_another_feature_space_never_meets_these_features(tmp_path: Path) -> None:
    FeatureCache(tmp_path, SPACE, DIM).add([key(1)], rows(1))
    assert FeatureCache(tmp_path, OTHER, DIM).row(key(1)) is None


def test_an_image_that_is_there_or_comes_twice_takes_one_row(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, SPACE, DIM)
    cache.add([key(1), key(1), key(2)], rows(1, 1, 2))
    cache.add([key(2), key(3)], rows(9, 3))
    np.testing.assert_array_equal(cache.values(), rows(1, 2, 3))


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_whatever_a_crash_left_half_written_is_encoded_again_and_the_rest_is_not(tmp_path: Path, cut: int) -> None:
    cache = FeatureCache(tmp_path, SPACE, DIM)
    cache.add([key(1), key(2), key(3)], rows(1, 2, 3))
    folder = tmp_path / SPACE[:KEY_BYTES]
    # Values reach the disk first, so a crash cuts keys, or leaves values that no key speaks of.
    os.truncate(folder / "keys", 3 * KEY_BYTES - cut)
    again = FeatureCache(tmp_path, SPACE, DIM)
    missing = [n for n in (1, 2, 3) if again.row(key(n)) is None]
    assert missing == ([3] if cut <= KEY_BYTES else [2, 3])
    again.add([key(n) for n in missing], rows(*missing))
    np.testing.assert_array_equal(FeatureCache(tmp_path, SPACE, DIM).values(), rows(1, 2, 3))


def test_a_full_disk_is_a_sentence_and_nothing_of_the_batch_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path, SPACE, DIM)
    cache.add([key(1)], rows(1))
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CacheUnusable, match="cannot write 32 bytes to .*: No space left on device, .* bytes free"):
        cache.add([key(2), key(3)], rows(2, 3))
    monkeypatch.setattr(os, "fsync", real)
    assert len(calls) == 1
    again = FeatureCache(tmp_path, SPACE, DIM)
    assert [again.row(key(n)) for n in (1, 2, 3)] == [0, None, None]
    again.add([key(4)], rows(4))
    np.testing.assert_array_equal(again.values(), rows(1, 4))


def test_a_real_full_disk_too(tmp_path: Path) -> None:
    """A file system of 64 KiB, where this machine lets one be mounted."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=64k none {place} 2>/dev/null") != 0:
        pytest.skip("needs to mount a file system of its own")
    try:
        cache = FeatureCache(place, SPACE, 1024)
        cache.add([key(1)], np.ones((1, 1024), np.float32))
        with pytest.raises(CacheUnusable, match="No space left on device"):
            cache.add([key(n) for n in range(2, 40)], np.ones((38, 1024), np.float32))
        assert len(FeatureCache(place, SPACE, 1024)) == 1
    finally:
        os.system(f"umount {place}")


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheUnusable, match="cannot hold a feature cache: Not a directory"):
        FeatureCache(tmp_path / "file", SPACE, DIM)


def held(folder: Path) -> dict[int, list[float]]:
    """What a process that comes now finds: the feature of each of the first hundred images that has one."""
    cache = FeatureCache(folder, SPACE, DIM)
    rows, values = cache.take([key(n) for n in range(100)])
    return {n: values[row].tolist() for n, row in enumerate(rows) if row is not None}


def ten(folder: Path) -> FeatureCache:
    cache = FeatureCache(folder, SPACE, DIM)
    cache.add([key(n) for n in range(10)], rows(*range(10)))
    return cache


def test_what_nobody_here_needs_goes_the_oldest_first_and_what_is_needed_stays(tmp_path: Path) -> None:
    cache = ten(tmp_path)
    assert cache.evict(cache.room(10), []) == 0
    assert cache.evict(cache.room(4), [key(1), key(0)]) == 6
    assert held(tmp_path) == {n: [n] * DIM for n in (0, 1, 8, 9)}
    assert cache.evict(cache.room(1), [key(0), key(9)]) == 2  # what is needed is held in any case
    assert held(tmp_path) == {n: [n] * DIM for n in (0, 9)}
    sizes = {path.name: path.stat().st_size for path in (tmp_path / SPACE[:KEY_BYTES]).iterdir()}
    assert sizes["keys"] + sizes["values"] == cache.room(2)


def test_who_has_read_the_cache_before_finds_the_right_features_afterwards(tmp_path: Path) -> None:
    first, other = ten(tmp_path), FeatureCache(tmp_path, SPACE, DIM)
    rows_before, values_before = other.take([key(3), key(9)])
    for most in (5, 3, 1):  # a file may get the number of one that is gone
        first.evict(first.room(most), [])
        first.add([key(50 + most)], rows(50 + most))
    assert [values_before[row].tolist() for row in rows_before if row is not None] == [[3] * DIM, [9] * DIM]
    found, values = other.take([key(3), key(9), key(51)])
    assert [None if row is None else values[row].tolist() for row in found] == [None, None, [51] * DIM]
    other.add([key(3)], rows(3))
    assert held(tmp_path)[3] == [3] * DIM


@pytest.mark.parametrize("steps", range(1, 12))
def test_a_crash_while_features_are_left_out_costs_some_and_mixes_none_up(
    tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, done = ten(tmp_path), list[str]()

    def dying(name: str) -> None:
        real = getattr(os, name)

        def step(*words: object) -> object:
            done.append(name)
            if len(done) == steps:
                raise KeyboardInterrupt
            return real(*words)

        monkeypatch.setattr(os, name, step)

    for name in ("fsync", "replace"):
        dying(name)
    crashed = False
    try:
        cache.evict(cache.room(4), [])
    except KeyboardInterrupt:
        crashed = True
    monkeypatch.undo()
    found = held(tmp_path)
    assert found == {n: [n] * DIM for n in found}
    assert crashed or set(found) == {6, 7, 8, 9}
    again = FeatureCache(tmp_path, SPACE, DIM)
    again.add([key(n) for n in range(10)], rows(*range(10)))
    assert held(tmp_path) == {n: [n] * DIM for n in range(10)}


def _add(folder: Path, first: int) -> None:
    cache = FeatureCache(folder, SPACE, DIM)
    for number in range(first, first + 40):
        cache.add([key(number)], rows(number))


def test_two_processes_that_share_a_cache_take_turns(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_add, args=(tmp_path, first)) for first in (0, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    cache = FeatureCache(tmp_path, SPACE, DIM)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(cache) == 60
    for number in range(60):
        row = cache.row(key(number))
        assert row is not None
        assert cache.values()[row].tolist() == [number] * DIM
