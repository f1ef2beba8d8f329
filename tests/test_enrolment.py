"""Enrolment: who is let in, who no longer is, and how soon that is noticed."""

import os
from pathlib import Path

import pytest

from fedmq.enrolment import listing, revoke
from fedmq.errors import KeyUnusable
from fedmq.keys import LOOK_S, Enrolled, enrol, fingerprint, load_public, new


def enrolled(tmp_path: Path, *names: str) -> Path:
    for name in names:
        enrol(new(tmp_path, name), tmp_path / "enrolled")
    return tmp_path / "enrolled"


def key_of(tmp_path: Path, name: str) -> str:
    return load_public(tmp_path / f"{name}.key").decode()


def states(folder: Path) -> dict[str, str]:
    return {one.name: one.state for one in listing(folder)}


# Listing


def test_the_listing_has_everyone_with_a_key_a_fingerprint_and_since_when(tmp_path: Path) -> None:
    folder = enrolled(tmp_path, "b", "a")
    os.utime(folder / "a.key", (1_000.0, 1_000.0))
    first, second = listing(folder)
    assert (first.name, first.state, first.since_at, first.problem) == ("a", "enrolled", 1_000.0, "")
    assert (first.key, second.key) == (key_of(tmp_path, "a"), key_of(tmp_path, "b"))
    assert first.fingerprint == fingerprint(first.key.encode()) != second.fingerprint
    assert len(first.fingerprint) == len("0123-4567-89ab-cdef")


def test_a_file_that_is_no_key_is_listed_as_unusable_with_the_reason(tmp_path: Path) -> None:
    folder = enrolled(tmp_path, "a")
    (folder / "b.key").write_text("nonsense")
    (folder / "c.key").mkdir()
    assert states(folder) == {"a": "enrolled", "b": "unusable", "c": "unusable"}
    assert all("is not a key file" in one.problem for one in listing(folder) if one.state == "unusable")


def test_nobody_is_listed_where_nobody_was_ever_enrolled(tmp_path: Path) -> None:
    assert listing(tmp_path / "nowhere") == []


# Revoking


@pytest.mark.parametrize("by", ["name", "key", "fingerprint", "file"])
def test_a_node_is_revoked_by_its_name_its_key_or_its_fingerprint(tmp_path: Path, by: str) -> None:
    folder = enrolled(tmp_path, "a", "b")
    key = key_of(tmp_path, "a")
    words = {"name": "a", "key": key, "fingerprint": fingerprint(key.encode()), "file": "a.key"}
    found, changed = revoke(words[by], folder)
    assert ([(one.name, one.state, one.key) for one in found], changed) == ([("a", "revoked", key)], True)
    assert Enrolled(folder).look() == {key_of(tmp_path, "b")}


def test_revoking_twice_is_once_and_says_so(tmp_path: Path) -> None:
    folder = enrolled(tmp_path, "a")
    first, second = revoke("a", folder), revoke("a", folder)
    assert (first[1], second[1], first[0]) == (True, False, second[0])


def test_a_mistyped_name_revokes_nobody_and_names_who_is_enrolled(tmp_path: Path) -> None:
    folder = enrolled(tmp_path, "edge-1", "edge-2", "edge-3")
    revoke("edge-3", folder)
    with pytest.raises(KeyUnusable, match=r"edge-4 is not enrolled in .*; enrolled: edge-1, edge-2$"):
        revoke("edge-4", folder)
    assert len(Enrolled(folder).look()) == 2


def test_a_key_that_was_enrolled_under_two_names_loses_both(tmp_path: Path) -> None:
    folder = enrolled(tmp_path, "a", "b")
    (folder / "again.key").write_bytes((folder / "a.key").read_bytes())
    found, changed = revoke("a", folder)
    assert ([one.name for one in found], changed) == (["a", "again"], True)
    assert Enrolled(folder).look() == {key_of(tmp_path, "b")}


def test_a_revoked_node_that_is_enrolled_again_is_in_and_can_be_revoked_again(tmp_path: Path) -> None:
    folder = enrolled(tmp_path, "a")
    revoke("a", folder)
    enrol(tmp_path / "a.key", folder)
    assert states(folder) == {"a": "enrolled"}
    assert revoke("a", folder)[1]
    assert states(folder) == {"a": "revoked"}


def test_a_file_that_is_no_key_can_be_revoked_by_its_name(tmp_path: Path) -> None:
    folder = enrolled(tmp_path, "a")
    (folder / "b.key").write_text("nonsense")
    assert revoke("b", folder)[1]
    assert states(folder) == {"a": "enrolled", "b": "revoked"}


# Noticing


def test_who_may_come_is_the_same_object_until_somebody_is_enrolled_or_revoked(tmp_path: Path) -> None:
    folder = enrolled(tmp_path, "a", "b")
    who = Enrolled(folder)
    both = who.now(0.0)
    assert both == {key_of(tmp_path, "a"), key_of(tmp_path, "b")}
    (folder / "note.txt").touch()
    assert who.now(1.0) is who.now(100.0) is both
    revoke("a", folder)
    assert who.now(100.0) == {key_of(tmp_path, "b")}


def test_a_file_that_is_edited_in_place_is_noticed_after_a_while(tmp_path: Path) -> None:
    folder = enrolled(tmp_path, "a")
    who = Enrolled(folder)
    both = who.now(10.0)
    with (folder / "a.key").open("w") as file:
        file.write("nonsense")
    assert who.now(10.0 + LOOK_S) is both
    assert who.now(10.1 + LOOK_S) == frozenset()


def test_a_folder_that_disappears_lets_nobody_in(tmp_path: Path) -> None:
    folder = enrolled(tmp_path, "a")
    who = Enrolled(folder)
    assert len(who.now(0.0)) == 1
    folder.rename(tmp_path / "elsewhere")
    assert who.now(0.0) == frozenset()
