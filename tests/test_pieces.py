"""Frames come whole out of their pieces, whatever a broker does to these, and in bounded memory."""

import numpy as np
import pytest

from fedmq.codec import Frame
from fedmq.transports.pieces import HEAD, Assembly, split

FRAME: Frame = (b"head", bytes(range(256)) * 5)
WHOLE = b"".join(FRAME)


def pieces(number: int = 7, most: int = 100) -> list[bytes]:
    return list(split(FRAME, number, most))


def assembled(assembly: Assembly, sender: str, came: list[bytes]) -> list[bytes]:
    found = [assembly.add(sender, piece) for piece in came]
    return [b"".join(frame) for frame in found if frame is not None]


@pytest.mark.parametrize("most", [HEAD.size + 1, 100, len(WHOLE) + HEAD.size - 1, len(WHOLE) + HEAD.size, 10_000])
def test_pieces_are_no_larger_than_asked_for_and_give_the_frame_back(most: int) -> None:
    found = pieces(most=most)
    assert max(map(len, found)) <= most
    assert len(found) == -(-len(WHOLE) // (most - HEAD.size))
    assert assembled(Assembly(10_000, 2_000_000), "edge", found) == [WHOLE]


def test_pieces_that_come_twice_and_in_any_order_give_the_frame_once() -> None:
    rng = np.random.default_rng(1)
    found = pieces()
    for _ in range(100):
        order = rng.permutation(np.repeat(np.arange(len(found)), rng.integers(1, 3, len(found))))
        last = max(int(np.flatnonzero(order == i)[0]) for i in range(len(found)))
        assembly = Assembly(10_000, 10_000)
        came = [found[i] for i in order[: last + 1]]
        assert assembled(assembly, "edge", came) == [WHOLE]
        assert assembly.open_bytes == 0


def test_frames_of_different_senders_do_not_mix_and_a_new_one_ends_an_unfinished_one() -> None:
    assembly = Assembly(10_000, 10_000)
    first, second = pieces(1), pieces(2)
    assert assembled(assembly, "a", first[:-1]) == []
    assert assembled(assembly, "b", first) == [WHOLE]
    assert assembled(assembly, "a", second) == [WHOLE]
    assert assembled(assembly, "a", first[-1:]) == []


def test_what_is_declared_takes_no_memory_and_what_is_too_large_is_handed_on_to_be_refused() -> None:
    assembly = Assembly(1_000, 10_000)
    large = HEAD.pack(1, 0, 2**32 - 1) + b"x"
    assert assembly.add("edge", large) == (large,)
    assert assembly.add("edge", HEAD.pack(1, 50, 2**32 - 1) + b"x") is None
    assert assembly.add("edge", b"short") == (b"short",)
    assert assembly.add("edge", HEAD.pack(1, 999, 1_000) + b"xx") is None
    assert assembly.open_bytes == 0


def test_unfinished_frames_take_bounded_memory_and_the_oldest_is_given_up() -> None:
    assembly = Assembly(10_000, 30_000)
    for n in range(100):
        assert assembled(assembly, f"edge-{n}", pieces()[:-1]) == []
        assert assembly.open_bytes <= 30_000
    assert assembled(assembly, "edge-99", pieces()[-1:]) == [WHOLE]
    assert assembled(assembly, "edge-0", pieces()[-1:]) == []


def test_a_frame_in_pieces_of_one_byte_is_given_up_before_their_number_takes_the_memory() -> None:
    assembly = Assembly(10_000, 30_000)
    assert assembled(assembly, "edge", pieces(most=HEAD.size + 1)) == []
    assert assembly.open_bytes <= 30_000
