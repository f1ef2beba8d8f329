"""The fedmq before this one, and the one after it: what either sends is read, or refused with both numbers.

`tests/neighbours` has frames as a newer sender of the same protocol would send them, with fields that this fedmq does
not know, and as an older one did, without those that came later. `python tests/test_neighbours.py` writes them anew.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

from desk import HELLO, Desk, kinds, update
from fedmq import codec
from fedmq.codec import MAGIC, PRELUDE, PROTOCOL
from fedmq.errors import BadFrame
from fedmq.messages import Code, Model, Ready, Refuse, Task, Update, Verdict, Welcome
from golden import MESSAGES

FOLDER = Path(__file__).parent / "neighbours"
# What came after the first fedmq that had protocol 1, and what those who do not say it mean.
LATER: dict[str, dict[str, Any]] = {
    "hello": {"protocols": (1, 1), "software": "", "proof": b""},
    "welcome": {"protocol": 1, "disowned": -1, "trained": -1, "evaluate_every": 1},
    "verdict": {"retry_after_s": 0.0, "weight": 0.0},
    "update": {"loss": 0.0, "train_s": 0.0, "steps": 0},
    "model-since": {"digest": b""},
    "report-personal": {"loss": 0.0, "personal": None},
    "ping": {"done": 0, "total": 0},
}
UNKNOWN = {"priority": 3, "shard": [1, 2], "sealed": {"key": b"\x00" * 32, "nested": [None, True]}, "": "empty"}


def rewritten(name: str, less: set[str], more: dict[str, Any]) -> bytes:
    head, *sections = codec.encode(MESSAGES[name])
    kind, values, lengths = msgpack.unpackb(head[PRELUDE.size :])
    values = {key: value for key, value in values.items() if key not in less} | more
    envelope = msgpack.packb([kind, values, lengths])
    return b"".join([PRELUDE.pack(MAGIC, PROTOCOL, len(envelope)), envelope, *sections])


def frames() -> Iterator[tuple[str, bytes]]:
    for name in MESSAGES:
        yield f"newer-{name}", rewritten(name, set(), UNKNOWN)
    for name, fields in LATER.items():
        yield f"older-{name}", rewritten(name, set(fields), {})


def golden(name: str) -> bytes:
    return (FOLDER / f"{name}.fmq").read_bytes()


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_what_a_newer_sender_says_is_read_as_far_as_it_is_known(name: str) -> None:
    assert codec.decode([golden(f"newer-{name}")]) == MESSAGES[name]


@pytest.mark.parametrize("name", sorted(LATER))
def test_what_an_older_sender_does_not_say_has_the_meaning_that_it_had_then(name: str) -> None:
    assert codec.decode([golden(f"older-{name}")]) == replace(MESSAGES[name], **LATER[name])


def test_the_frames_are_those_of_the_neighbours_and_no_others() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(name for name, _ in frames())


def test_an_older_node_takes_part_in_a_whole_round() -> None:
    """As it would: no proof, no protocols, an update without its loss; and what it is told has nothing that it needs
    to know."""
    desk = Desk()
    hello = replace(HELLO, proof=b"", software="", protocols=(1, 1))
    assert b"protocols" not in codec.encode(hello)[0]
    said = desk.say("edge", hello, Ready(1, 10, 0), update(1))
    assert kinds(said) == [Welcome, Model, Task, Verdict, Model, Task]
    assert all(b"protocol" not in codec.encode(message)[0] for _, message in said)


@pytest.mark.parametrize(
    ("ours", "theirs", "both"),
    [
        ((1, 1), (1, 1), 1),
        ((1, 2), (1, 1), 1),
        ((1, 2), (2, 3), 2),
        ((2, 3), (1, 2), 2),
        ((2, 3), (1, 1), None),
        ((1, 1), (2, 3), None),
        ((1, 1), (3, 2), None),
    ],
)
def test_both_ends_agree_on_the_newest_protocol_that_both_read_or_the_node_is_refused_with_both(
    ours: tuple[int, int], theirs: tuple[int, int], both: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk()
    monkeypatch.setattr(codec, "OLDEST", ours[0])
    monkeypatch.setattr(codec, "PROTOCOL", ours[1])
    ((_, answer),) = desk.say("edge", replace(HELLO, protocols=theirs))
    if both is None:
        words = str(ours[0]) if ours[0] == ours[1] else f"{ours[0]} to {ours[1]}"
        assert isinstance(answer, Refuse)
        assert (answer.reason, answer.text) == (
            "protocol_mismatch",
            f"the node reads protocols {theirs[0]} to {theirs[1]}, this end {words}; upgrade the older",
        )
    else:
        assert isinstance(answer, Welcome)
        assert answer.protocol == both


def test_frames_of_protocols_before_the_oldest_and_after_the_newest_are_refused_with_both() -> None:
    data = bytearray(golden("newer-update"))
    for number in (0, 2, 255):
        data[3] = number
        with pytest.raises(BadFrame, match=f"the peer speaks protocol {number}, this end 1; upgrade the older"):
            codec.decode([bytes(data)])


def test_frames_of_every_protocol_in_the_range_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "PROTOCOL", 2)
    data = bytearray(golden("newer-update"))
    assert codec.decode([bytes(data)]) == MESSAGES["update"]
    data[3] = 2
    assert codec.decode([bytes(data)]) == MESSAGES["update"]
    data[3] = 3
    with pytest.raises(BadFrame, match="the peer speaks protocol 3, this end 1 to 2; upgrade the older"):
        codec.decode([bytes(data)])


def test_a_verdict_that_an_older_node_does_not_know_costs_it_a_question_and_not_its_update() -> None:
    """To a node without "busy" that frame is no message: it keeps its update, and asks after a while."""
    frame = codec.encode(Verdict(7, 3, Code.BUSY, "full", retry_after_s=1.0))
    older = bytes(frame[0]).replace(b"busy", b"zzzz")
    with pytest.raises(BadFrame, match=r"verdict\.code: "):
        codec.decode([older])
    assert isinstance(codec.decode([golden("older-update")]), Update)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for stem, data in frames():
        (FOLDER / f"{stem}.fmq").write_bytes(data)
