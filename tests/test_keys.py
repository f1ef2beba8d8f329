"""Keys: who may come, who may read what, and what is no key at all."""

import stat
from pathlib import Path

import pytest
import zmq

from fedmq.errors import EXIT_INPUT, KeyUnusable
from fedmq.keys import AggregatorKeys, enrol, load, load_public, new


def secret_of(public: Path) -> Path:
    return public.with_suffix(".key_secret")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refusal(path: Path) -> str:
    with pytest.raises(KeyUnusable) as refused:
        load(path)
    assert (refused.value.reason, refused.value.exit_code) == ("key_unusable", EXIT_INPUT)
    return str(refused.value)


# Making


def test_a_new_pair_belongs_together_and_its_secret_half_to_its_owner(tmp_path: Path) -> None:
    public = new(tmp_path / "keys", "edge-1")
    pair = load(secret_of(public))
    assert public == tmp_path / "keys" / "edge-1.key"
    assert (len(pair.public), len(pair.secret), zmq.curve_public(pair.secret)) == (40, 40, pair.public)
    assert (load_public(public), mode(secret_of(public))) == (pair.public, 0o600)
    assert pair.secret not in public.read_bytes()


def test_two_pairs_are_different(tmp_path: Path) -> None:
    assert load_public(new(tmp_path, "a")) != load_public(new(tmp_path, "b"))


def test_a_secret_is_not_told_to_whoever_logs_the_pair(tmp_path: Path) -> None:
    pair = load(secret_of(new(tmp_path, "a")))
    assert pair.secret.decode() not in repr(pair)


def test_an_identity_is_not_overwritten_by_half_or_whole(tmp_path: Path) -> None:
    public = new(tmp_path, "a")
    before = [public.read_bytes(), secret_of(public).read_bytes()]
    with pytest.raises(KeyUnusable, match=r"a\.key_secret exists already; a new key is a new identity"):
        new(tmp_path, "a")
    assert [public.read_bytes(), secret_of(public).read_bytes()] == before
    secret_of(public).unlink()
    with pytest.raises(KeyUnusable, match=r"a\.key exists already"):
        new(tmp_path, "a")
    assert public.read_bytes() == before[0]


def test_keys_that_cannot_be_written_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, name in ((tmp_path / "file", "a"), (tmp_path / "file" / "below", "a"), (tmp_path, "no/such/a")):
        with pytest.raises(KeyUnusable, match=f"cannot write keys to {folder}: "):
            new(folder, name)


# Reading


def test_a_secret_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    secret = secret_of(new(tmp_path, "a"))
    for open_to in (0o640, 0o604, 0o610, 0o666):
        secret.chmod(open_to)
        assert (
            refusal(secret) == f"{secret} can be read by others; chmod 600 it, or make a new key if others could log in"
        )
    secret.chmod(0o400)
    assert load(secret).public == load_public(tmp_path / "a.key")


def test_a_public_key_is_not_taken_for_a_secret_one(tmp_path: Path) -> None:
    public = new(tmp_path, "a")
    assert refusal(public) == f"{public} holds no secret key; name the file that ends in .key_secret"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\xff\xfe\x00",
        b'public-key = "short"',
        b'public-key = ""',
        b'public-key = "' + b"x" * 39 + b'"',
        b'public-key = "' + b"x" * 41 + b'"',
        b'public-key = "' + b"~" * 40 + b'"',
        b'public-key = "' + b"\xff" * 40 + b'"',
        b'public-key = "' + b"x" * 40 + b'"\nsecret-key = "short"',
    ],
)
def test_a_file_that_is_no_key_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.key_secret"
    path.write_bytes(content)
    path.chmod(0o600)
    assert refusal(path).startswith(f"{path} is not a key file: ")


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "none.key", tmp_path):
        assert refusal(path).startswith(f"{path} is not a key file: ")


# Enrolling


def test_an_enrolled_node_may_come_at_once_and_nobody_else(tmp_path: Path) -> None:
    keys = AggregatorKeys(load(secret_of(new(tmp_path, "aggregator"))), tmp_path / "enrolled")
    friend, stranger = new(tmp_path, "friend"), new(tmp_path, "stranger")
    assert not keys.admits(load_public(friend))
    assert enrol(friend, keys.folder) == keys.folder / "friend.key"
    assert [keys.admits(load_public(public)) for public in (friend, stranger)] == [True, False]
    assert not keys.admits(keys.own.public)
    (keys.folder / "friend.key").unlink()
    assert not keys.admits(load_public(friend))


def test_one_unreadable_file_keeps_nobody_else_out_and_lets_nobody_in(tmp_path: Path) -> None:
    keys = AggregatorKeys(load(secret_of(new(tmp_path, "aggregator"))), tmp_path / "enrolled")
    enrol(new(tmp_path, "zoe"), keys.folder)
    for name, content in (("a.key", b"garbage"), ("b.key", b""), ("c.key", b'public-key = ""')):
        (keys.folder / name).write_bytes(content)
    (keys.folder / "d.key").mkdir()
    assert [keys.admits(key) for key in (load_public(tmp_path / "zoe.key"), b"", b"garbage")] == [True, False, False]


def test_a_secret_key_is_not_enrolled_and_not_copied(tmp_path: Path) -> None:
    secret = secret_of(new(tmp_path, "a"))
    with pytest.raises(KeyUnusable, match=r"holds a secret key, which stays where it was made; enrol its \.key"):
        enrol(secret, tmp_path / "enrolled")
    assert not (tmp_path / "enrolled").exists()


def test_a_public_key_is_admitted_whatever_its_file_was_called(tmp_path: Path) -> None:
    keys = AggregatorKeys(load(secret_of(new(tmp_path, "aggregator"))), tmp_path / "enrolled")
    public = new(tmp_path, "edge.7").rename(tmp_path / "edge.7.pub")
    assert enrol(public, keys.folder) == keys.folder / "edge.7.key"
    assert keys.admits(load_public(public))


def test_enrolling_twice_is_once_and_another_key_of_that_name_is_refused(tmp_path: Path) -> None:
    public, folder = new(tmp_path, "a"), tmp_path / "enrolled"
    first = enrol(public, folder)
    assert [enrol(public, folder), enrol(first, folder)] == [first, first]
    other = new(tmp_path / "elsewhere", "a")
    with pytest.raises(KeyUnusable, match="is another key of the same name; rename the file to enrol both"):
        enrol(other, folder)
    assert load_public(first) == load_public(public)


def test_a_key_that_cannot_be_enrolled_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeyUnusable, match="cannot write "):
        enrol(new(tmp_path, "a"), tmp_path / "file")
