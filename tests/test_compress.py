"""Codecs: what comes back, how far off it may be, how many bytes it takes, and what is not a payload at all."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmq.compress import CODECS, codec
from fedmq.delta import Arrays, Schema
from fedmq.errors import BadPayload, ConfigInvalid
from strategies import arrays, schemas, tries

NAMES = list(CODECS)
RANKS = {name for name in NAMES if name.startswith("rank")}
TOPS = {name for name in NAMES if name.startswith("top")}  # whose payloads vary in size
SEEDED = {"int8", "int4", "eden2", "eden1"} | RANKS  # the others have no use for chance
EXACT = {"fp32", "fp16", "bf16"}  # these send an infinity as one
TINY = float(np.finfo(np.float32).tiny)
MATRIX = Schema((("matrix", (3, 4)), ("vector", (5,)), ("scalar", ())))
ROWS = 3 + 1 + 1


def matrix(seed: int, scale: float = 1.0) -> Arrays:
    return Arrays(MATRIX, (scale * np.random.default_rng(seed).standard_normal(MATRIX.size)).astype(np.float32))


def row(*values: float) -> Arrays:
    return Arrays(Schema((("row", (1, len(values))),)), np.array(values, np.float32))


def through(name: str, found: Arrays, seed: int = 0) -> NDArray[np.float32]:
    return codec(name).unpack(codec(name).pack(found, seed), found.schema).flat


def steps(found: Arrays) -> NDArray[np.float32]:
    """Return, value by value, the width of an int8 step: the row's largest magnitude / 127."""
    widths, start = [], 0
    for rows, columns in found.schema.rows:
        block = np.abs(found.flat[start : start + rows * columns]).reshape(rows, columns)
        widths.append(np.repeat(block.max(axis=1, initial=0.0) / np.float32(127), columns))
        start += rows * columns
    return np.concatenate([np.zeros(0, np.float32), *widths])


# What it costs


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fp32", 4 * 18),
        ("fp16", 2 * 18),
        ("bf16", 2 * 18),
        ("int8", 18 + 4 * ROWS),
        ("int4", 2 * 6 + 2 * 3 + 6),
        ("eden2", 2 * 6 + 8 + 2 + 128),
        ("eden1", 2 * 6 + 8 + 2 + 64),
    ],
)
def test_a_codec_takes_the_bytes_that_its_docstring_says(name: str, expected: int) -> None:
    assert (codec(name).size_bytes(MATRIX), len(codec(name).pack(matrix(0), 0))) == (expected, expected)


@pytest.mark.parametrize("name", NAMES)
@tries(60)
@given(found=arrays(), seed=st.integers(0, 2**64 - 1))
def test_the_size_is_exact_for_any_schema_or_the_most_that_it_can_be(name: str, found: Arrays, seed: int) -> None:
    payload = codec(name).pack(found, seed)
    size = codec(name).size_bytes(found.schema)
    assert len(payload) <= size if name in TOPS else len(payload) == size
    assert codec(name).unpack(payload, found.schema).schema == found.schema


def test_a_fedclip_adapter_takes_a_known_number_of_bytes() -> None:
    schema = Schema((("a", (512, 512)), ("a_bias", (512,)), ("b", (512, 512)), ("b_bias", (512,))))
    assert {name: codec(name).size_bytes(schema) for name in NAMES} == {
        "fp32": 2_101_248,
        "fp16": 1_050_624,
        "bf16": 1_050_624,
        "int8": 529_416,
        "int4": 266_240,
        "eden2": 135_176,
        "eden1": 69_640,
        "rank2-fp16": 2_048 + 2 * (2 + 2 * 2 * 1024),
        "rank2-int8": 2_048 + 2 * (4 + 2 * 1024),
        "rank4-fp16": 18_436,
        "rank4-int8": 10_256,
        "rank8-fp16": 2_048 + 2 * (2 + 2 * 8 * 1024),
        "rank8-int8": 2_048 + 2 * (16 + 8 * 1024),
        # At the most: indices 7 bits each and 524,288 / 64 more, or 5 bits and 524,288 / 16 more.
        "top1-2bit": 8_971,
        "top1-fp16": 18_142,
        "top5-2bit": 28_887,
    }


# What comes back


@tries(100)
@given(arrays(largest=3.4e38))
def test_fp32_is_exact_to_the_bit(found: Arrays) -> None:
    assert through("fp32", found).tobytes() == found.flat.tobytes()


def test_fp32_copies_nothing_in_either_direction() -> None:
    found = matrix(0)
    payload = codec("fp32").pack(found, 0)
    assert np.shares_memory(np.frombuffer(payload, np.uint8), found.flat)
    assert np.shares_memory(codec("fp32").unpack(payload, MATRIX).flat, found.flat)


@tries(100)
@given(arrays(largest=65504))
def test_fp16_rounds_each_value_to_the_nearest_half(found: Arrays) -> None:
    error = np.abs(through("fp16", found).astype(np.float64) - found.flat)
    assert (error <= np.maximum(2.0**-11 * np.abs(found.flat), 2.0**-25)).all()


def test_fp16_saturates_and_never_makes_an_infinity_of_a_finite_value() -> None:
    found = row(65504, 65519, 65520, 1e30, -1e30, 3.4e38, -65504)
    assert through("fp16", found).tolist() == [65504, 65504, 65504, 65504, -65504, 65504, -65504]


@tries(150)
@given(arrays(), st.integers(0, 2**64 - 1))
def test_int8_is_off_by_one_step_at_most(found: Arrays, seed: int) -> None:
    step = steps(found).astype(np.float64)
    error = np.abs(through("int8", found, seed).astype(np.float64) - found.flat)
    # A row whose step would be subnormal comes back as zeros, and is off by its own size.
    assert (error <= np.where(step < TINY, 127 * TINY, step * (1 + 1e-6))).all()


def test_int8_keeps_what_it_can_express_exactly() -> None:
    found = row(*range(-127, 128))
    assert [through("int8", found, seed).tolist() for seed in range(20)] == [found.flat.tolist()] * 20


def test_int8_gives_each_row_its_own_step() -> None:
    found = Arrays(Schema((("w", (2, 2)), ("b", (2,)))), np.array([127, 1, 1.27, 0.01, 0.0127, 0.0001], np.float32))
    np.testing.assert_allclose(through("int8", found), found.flat, rtol=1e-6)


def test_int8_is_unbiased() -> None:
    """The mean over n seeds is off by a normal variable of variance step^2 p (1 - p) / n, p the fraction of a step."""
    n, found = 600, matrix(1)
    step = steps(found).astype(np.float64)
    total = np.zeros(MATRIX.size)
    for seed in range(n):
        total += through("int8", found, seed)
    p = (found.flat / step) % 1.0
    random = (p > 0.02) & (p < 0.98)
    z = ((total / n - found.flat) / (step * np.sqrt(p * (1 - p) / n)))[random]
    assert len(z) >= 12
    assert np.abs(z).max() < 4.5
    assert 0.2 < np.mean(z**2) < 2.5


def test_int8_rounds_up_as_often_as_the_fraction_says() -> None:
    """Rounding to nearest, or always down, would give one level alone."""
    flat = np.full(20_000, 0.25, np.float32)
    flat[0] = 127.0
    levels = through("int8", row(*flat))[1:]
    assert set(levels.tolist()) == {0.0, 1.0}
    assert levels.mean() == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / 20_000))


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45, -1e-40, TINY])
def test_int8_sends_a_row_of_nothing_as_zeros(value: float) -> None:
    assert through("int8", row(value, value, 0.0)).tolist() == [0.0, 0.0, 0.0]


def test_int8_takes_values_near_the_largest_float() -> None:
    np.testing.assert_allclose(through("int8", row(3.4e38, -3.4e38, 0.0)), [3.4e38, -3.4e38, 0.0], rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_payload_depends_on_the_seed_alone(name: str) -> None:
    flat = np.random.default_rng(0).standard_normal(30 * 40).astype(np.float32)
    found = Arrays(Schema((("matrix", (30, 40)),)), flat)
    payloads = [bytes(codec(name).pack(found, seed)) for seed in (1, 2, 1)]
    assert payloads[0] == payloads[2]
    assert (payloads[0] == payloads[1]) == (name not in SEEDED)


@pytest.mark.parametrize("name", NAMES)
def test_packing_and_unpacking_leave_what_they_are_given_alone(name: str) -> None:
    found = matrix(0)
    before = found.flat.tobytes()
    found.flat.flags.writeable = False
    payload = bytes(codec(name).pack(found, 0))
    copy = bytearray(payload)
    codec(name).unpack(memoryview(copy), MATRIX)
    assert (found.flat.tobytes(), bytes(copy)) == (before, payload)


@pytest.mark.parametrize("name", NAMES)
def test_a_payload_need_not_be_aligned(name: str) -> None:
    payload = b"x" + bytes(codec(name).pack(matrix(0), 0))
    np.testing.assert_array_equal(codec(name).unpack(memoryview(payload)[1:], MATRIX).flat, through(name, matrix(0)))


def test_only_a_codec_that_loses_nothing_says_so() -> None:
    exact = {name: through(name, matrix(0)).tobytes() == matrix(0).flat.tobytes() for name in NAMES}
    assert {name: codec(name).lossless for name in NAMES} == exact
    assert [codec(name).name for name in NAMES] == NAMES


# What is refused


@pytest.mark.parametrize("name", sorted(set(NAMES) - TOPS))
@tries(40)
@given(schema=schemas(), off=st.integers(-40, 40).filter(bool))
def test_a_payload_of_another_size_is_refused_with_both_numbers(name: str, schema: Schema, off: int) -> None:
    size = codec(name).size_bytes(schema)
    given_bytes = max(0, size + off)
    if given_bytes == size:
        return
    with pytest.raises(
        BadPayload, match=f"{name} payload (of {given_bytes} bytes|with .* matrices), the schema needs "
    ):
        codec(name).unpack(bytes(given_bytes), schema)


@pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf, -1.0, -1e-45])
@pytest.mark.parametrize("place", range(ROWS))
def test_an_int8_scale_that_no_row_has_is_refused(scale: float, place: int) -> None:
    payload = bytearray(codec("int8").pack(matrix(0), 0))
    payload[4 * place : 4 * place + 4] = np.array([scale], "<f4").tobytes()
    with pytest.raises(BadPayload, match="a scale is finite and not negative"):
        codec("int8").unpack(bytes(payload), MATRIX)


def test_int8_levels_times_a_huge_scale_are_infinite_without_a_warning() -> None:
    """The guard refuses them; the codec only has to get there."""
    payload = np.array([3e38], "<f4").tobytes() + np.array([127, -128, 0], np.int8).tobytes()
    flat = codec("int8").unpack(payload, Schema((("row", (1, 3)),))).flat
    assert flat.tolist() == [math.inf, -math.inf, 0.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_a_value_that_is_not_finite_is_never_sent_as_one_that_is(name: str, bad: float) -> None:
    found = matrix(0)
    found.flat[5] = bad
    payload = codec(name).pack(found, 0)
    if name not in EXACT:
        with pytest.raises(BadPayload, match=f"{name} (scales|exponents) from"):
            codec(name).unpack(payload, MATRIX)
    else:
        np.testing.assert_equal(codec(name).unpack(payload, MATRIX).flat[5], bad)


def test_a_codec_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigInvalid, match=f"no codec named 'zip'; there are {', '.join(NAMES)}"):
        codec("zip")
