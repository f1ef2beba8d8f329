"""int4: against its formula in plain Python, unbiased, and off by one step at most."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fedmq.compress.int4 import Int4
from fedmq.errors import BadPayload
from strategies import tries

CODEC = Int4()
odd_matrices = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 5), st.integers(0, 9)),
    elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False),
)


def through(matrix: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    back = np.full_like(matrix, np.nan)
    CODEC.unpack(CODEC.pack([matrix], seed), [back])
    return back


def up(value: float) -> float:
    """Return the smallest number with 8 significant bits that is not below."""
    fraction, exponent = math.frexp(value)
    return math.ldexp(math.ceil(fraction * 256), exponent - 8)


def read(payload: bytes, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Decode one matrix value by value, as the docstring says."""
    rows, columns = shape
    scales = [np.array([0, half], "<u2").view("<f4")[0] for half in np.frombuffer(payload[: 2 * rows], "<u2")]
    levels = [half - 8 for byte in payload[2 * rows :] for half in (byte & 15, byte >> 4)]
    return np.array([[levels[r * columns + c] * float(scales[r]) for c in range(columns)] for r in range(rows)])


def steps(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.array([[up(float(np.abs(row).max(initial=0.0) / np.float32(7)))] for row in matrix]).reshape(-1, 1)


@tries(150)
@given(odd_matrices, st.integers(0, 2**64 - 1))
def test_it_is_off_by_less_than_a_step_and_reads_as_its_docstring_says(matrix: NDArray[np.float32], seed: int) -> None:
    back, step = through(matrix, seed), steps(matrix)
    error = np.abs(back.astype(np.float64) - matrix)
    assert (error <= np.where(step < np.finfo(np.float32).tiny, 7.1 * np.finfo(np.float32).tiny, step)).all()
    if matrix.size:
        np.testing.assert_array_equal(read(bytes(CODEC.pack([matrix], seed)), matrix.shape).astype(np.float32), back)


def test_what_it_can_express_comes_back_exactly_for_any_seed() -> None:
    matrix = np.arange(-7, 8, dtype=np.float32).reshape(1, 15) * np.array([[1.0], [2.0**-20], [2.0**20]], np.float32)
    assert [through(matrix, seed).tolist() for seed in range(20)] == [matrix.tolist()] * 20


def test_it_is_unbiased_and_its_error_is_that_of_stochastic_rounding() -> None:
    """The mean of n is off by a normal variable of variance step^2 p (1 - p) / n, p the fraction of a step."""
    n, matrix = 400, np.random.default_rng(1).standard_normal((4, 300)).astype(np.float32)
    step = steps(matrix)
    p = matrix / step % 1.0
    total, square = np.zeros(matrix.shape), 0.0
    for seed in range(n):
        back = through(matrix, seed)
        total += back
        square += float(((back - matrix) ** 2).sum())
    expected = (step**2 * p * (1 - p)).sum()
    assert square / n == pytest.approx(expected, rel=0.02)
    random = (p > 0.05) & (p < 0.95)
    z = ((total / n - matrix) / (step * np.sqrt(p * (1 - p) / n)))[random]
    assert len(z) > 1000
    assert 0.8 < np.mean(z**2) < 1.2
    assert abs(np.mean(z)) < 4 / math.sqrt(len(z))


def test_the_largest_value_of_a_row_is_never_clipped() -> None:
    matrix = np.random.default_rng(2).standard_normal((2000, 1)).astype(np.float32)
    mean = np.mean([through(matrix, seed) for seed in range(300)], axis=0)
    assert float(np.mean(mean / matrix)) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("value", [1e-6, 1e-12, 1e-30])
def test_a_tiny_delta_survives(value: float) -> None:
    assert through(np.array([[value, -value]], np.float32)) == pytest.approx(np.array([[value, -value]]), rel=0.01)


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45, -1e-40, 1e-38])
def test_a_row_of_nothing_is_sent_as_zeros(value: float) -> None:
    assert through(np.array([[value, 0.0]], np.float32)).tolist() == [[0.0, 0.0]]


def test_values_near_the_largest_float_come_back_near_it() -> None:
    matrix = np.array([[3.3e38, -3.3e38, 0.0]], np.float32)
    np.testing.assert_allclose(
        np.mean([through(matrix, seed) for seed in range(200)], axis=0, dtype=np.float64), matrix, rtol=0.01
    )


def test_an_odd_number_of_values_ends_in_a_half_of_nothing_and_rows_share_bytes() -> None:
    matrix = np.array([[7, -7, 1], [7, 0, -1], [7, 2, 3]], np.float32)
    levels = [0xF, 0x1, 0x9, 0xF, 0x8, 0x7, 0xF, 0xA, 0xB, 0x8]
    packed = bytes(low | high << 4 for low, high in zip(levels[::2], levels[1::2], strict=True))
    assert bytes(CODEC.pack([matrix], 0)) == np.array([0x3F80] * 3, "<u2").tobytes() + packed


def test_levels_times_a_huge_scale_are_infinite_without_a_warning() -> None:
    payload = np.array([0x7F7F], "<u2").tobytes() + bytes([0x0F])
    back = np.zeros((1, 2), np.float32)
    CODEC.unpack(payload, [back])
    assert back.tolist() == [[math.inf, -math.inf]]


@pytest.mark.parametrize("scale", [0x7F80, 0x7FC0, 0xFF80, 0xBF80, 0x8001])
def test_a_scale_that_no_row_has_is_refused(scale: int) -> None:
    payload = np.array([scale], "<u2").tobytes() + bytes([0x88])
    with pytest.raises(BadPayload, match="int4 scales from .*; a scale is finite and not negative"):
        CODEC.unpack(payload, [np.zeros((1, 2), np.float32)])
