"""Rice's code: bit by bit as its docstring says, close to the entropy, and what is not a coding at all."""

import math
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmq.compress.rice import decode, encode, most_bytes
from fedmq.errors import BadPayload
from strategies import tries

Indices = NDArray[np.int64]
chosen = st.integers(1, 400).flatmap(
    lambda size: st.tuples(st.sets(st.integers(0, size - 1), max_size=60).map(sorted), st.just(size))
)


def indices(*found: int) -> Indices:
    return np.array(found, np.int64)


def spread(count: int, size: int, seed: int = 0) -> Indices:
    return np.sort(np.random.default_rng(seed).choice(size, count, replace=False))


def strings(bits: str) -> bytes:
    """Return a string of bits as bytes, the first bit of each byte its least significant one."""
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))


def written(found: list[int], b: int) -> bytes:
    """Write every gap by itself, with b low bits."""
    low = unary = ""
    for before, index in zip([-1, *found], found, strict=False):
        gap = index - before - 1
        low += "".join(str(gap >> place & 1) for place in range(b))
        unary += "0" * (gap >> b) + "1"
    return bytes([b]) + strings(low) + strings(unary)


@tries(300)
@given(chosen)
def test_it_writes_the_shortest_of_what_its_docstring_says_and_reads_it_back(drawn: tuple[list[int], int]) -> None:
    found, size = drawn
    payload = encode(np.array(found, np.int64), size)
    if not found:
        assert payload == b""
    else:
        assert payload == min((written(found, b) for b in range(size.bit_length())), key=len)
    assert decode("x", payload, len(found), size).tolist() == found
    assert len(payload) <= most_bytes(len(found), size)


@pytest.mark.parametrize(("share", "percent"), [(0.001, 1.5), (0.01, 0.6), (0.03, 2), (0.05, 1.5)])
def test_it_comes_within_a_few_percent_of_the_number_of_choices(share: float, percent: float) -> None:
    size = 2 * 512 * 512
    count = math.ceil(share * size)
    least_bits = (math.lgamma(size + 1) - math.lgamma(count + 1) - math.lgamma(size - count + 1)) / math.log(2)
    for seed in range(3):
        taken = len(encode(spread(count, size, seed), size))
        assert least_bits / 8 < taken < least_bits / 8 * (1 + percent / 100)


@pytest.mark.parametrize("found", [range(100), range(9_900, 10_000), range(0, 10_000, 100), [*range(99), 9_999]])
def test_however_they_lie_they_take_no_more_than_the_most(found: range | list[int]) -> None:
    payload = encode(np.array(found, np.int64), 10_000)
    assert len(payload) <= most_bytes(100, 10_000)
    assert decode("x", payload, 100, 10_000).tolist() == list(found)


def test_the_most_is_taken_by_some() -> None:
    """One index at the very end: the gap is nearly the size, and any b must write it."""
    assert len(encode(indices(511), 512)) == most_bytes(1, 512) == 3


def test_all_of_them_take_a_bit_each() -> None:
    assert encode(np.arange(64, dtype=np.int64), 64) == b"\0" + b"\xff" * 8
    assert encode(indices(), 64) == encode(indices(), 0) == b""
    assert encode(indices(0), 1) == b"\0\x01"


@pytest.mark.parametrize(
    ("payload", "count", "text"),
    [
        (b"\1", 0, "1 bytes for 0 indices"),
        (b"", 3, "0 bytes for 3 indices, more than 1 are needed"),
        (b"\2", 5, "1 bytes for 5 indices, more than 3 are needed"),
        (b"\7\0\0\0\0", 3, "gaps below 100 with 7 low bits, the most is 6"),
        (b"\xff\0\0\0\0", 3, "255 low bits"),
        (b"\0\0\0\0", 3, "0 gaps in 3 bytes, not 3"),
        (b"\0\x03", 3, "2 gaps in 1 bytes, not 3"),
        (b"\0\x0f", 3, "4 gaps in 1 bytes, not 3"),
        (b"\0\x07\0", 3, "3 gaps in 2 bytes, not 3"),
        (b"\0\x03" + bytes(12) + b"\x10", 3, "index of 108, the schema has 100 values"),
        (b"\6\xff\xff\xff\x07", 3, "index of 191, the schema has 100 values"),
    ],
)
def test_what_is_not_a_coding_is_refused_with_both_numbers(payload: bytes, count: int, text: str) -> None:
    with pytest.raises(BadPayload, match=f"^x .*{text}"):
        decode("x", payload, count, 100)


def test_every_truncation_is_refused() -> None:
    payload = encode(spread(200, 10_000), 10_000)
    for length in range(len(payload)):
        with pytest.raises(BadPayload):
            decode("x", payload[:length], 200, 10_000)


@tries(300)
@given(st.binary(max_size=40), st.integers(1, 12), st.integers(1, 300))
def test_bytes_of_any_kind_are_rising_indices_or_refused(payload: bytes, count: int, size: int) -> None:
    with suppress(BadPayload):
        found = decode("x", payload, count, size)
        assert len(found) == count
        assert found[0] >= 0
        assert found[-1] < size
        assert (np.diff(found) > 0).all()
