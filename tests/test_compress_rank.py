"""Rank r: against its formula in exact arithmetic, and against the best that there is."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmq.compress.factors import factors
from fedmq.compress.rank import LEAST, MOST, MOST_RANK, Fp16Factors, Int8Factors, Rank
from fedmq.compress.thin import PIECE, times
from fedmq.errors import BadPayload
from strategies import tries

Array = NDArray[np.float32]
FORMS: list[Fp16Factors | Int8Factors] = [Fp16Factors(), Int8Factors()]
SHAPES = st.sampled_from([(0, 4), (4, 0), (1, 1), (1, 9), (9, 1), (3, 5), (12, 7), (16, 33)])
forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)


def drawn(shape: tuple[int, int], seed: int = 0, scale: float = 1.0) -> Array:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def falling(size: int, ratio: float, seed: int = 0) -> Array:
    """Return a square matrix whose singular values fall by this ratio."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((size, size)))[0] for _ in range(2))
    found: Array = (left * ratio ** np.arange(size) @ right).astype(np.float32)
    return found


def through(codec: Rank, *matrices: Array, seed: int = 0) -> list[Array]:
    back = [np.full_like(matrix, np.nan) for matrix in matrices]
    codec.unpack(codec.pack(matrices, seed), back)
    return back


def read(codec: Rank, payload: bytes, rows: int, columns: int, rank: int) -> list[list[Fraction]]:
    """Decode one matrix number by number, as the docstring says, without rounding."""
    half = codec.name.endswith("fp16")
    count = 1 if half else rank
    powers = [int(x) for x in np.frombuffer(payload, "<i2", count)] * (rank // count)
    numbers = [Fraction(float(x)) for x in np.frombuffer(payload[2 * count :], "<f2" if half else "i1")]
    left, right = numbers[: rows * rank], numbers[rows * rank :]
    return [
        [
            sum(
                (left[i * rank + k] * right[j * rank + k] * Fraction(2) ** powers[k] for k in range(rank)),
                start=Fraction(),
            )
            for j in range(columns)
        ]
        for i in range(rows)
    ]


def missed(matrix: Array, back: Array) -> float:
    return float(((matrix.astype(np.float64) - back) ** 2).sum() / (matrix.astype(np.float64) ** 2).sum())


def best(matrix: Array, rank: int) -> float:
    """Return what the best matrix of this rank misses (Eckart and Young 1936)."""
    energies = np.linalg.svd(matrix.astype(np.float64), compute_uv=False) ** 2
    return float(energies[rank:].sum() / energies.sum())


# What is sent


@forms
@tries(60)
@given(shape=SHAPES, rank=st.sampled_from([2, 4, 8]), seed=st.integers(0, 2**64 - 1), power=st.integers(-60, 60))
def test_a_payload_decodes_to_exactly_what_its_docstring_says(
    form: Fp16Factors | Int8Factors, shape: tuple[int, int], rank: int, seed: int, power: int
) -> None:
    codec, found = Rank(rank, form), drawn(shape, seed % 100, scale=2.0**power)
    payload = bytes(codec.pack([found], seed))
    assert len(payload) == codec.most_bytes([shape])
    (back,) = through(codec, found, seed=seed)
    if found.size:
        expected = read(codec, payload, *shape, min(rank, *shape))
        assert back.tolist() == [[float(np.float32(float(x))) for x in row] for row in expected]


@forms
def test_the_products_of_the_largest_numbers_are_exact_in_any_order(form: Fp16Factors | Int8Factors) -> None:
    """Everything that a sum could round: all signs, the smallest numbers and the largest, and exponents 7 apart."""
    rank, rows = MOST_RANK, 64
    rng, codec = np.random.default_rng(0), Rank(MOST_RANK, form)
    powers = np.array([0, -7, 0, -7, -3, 0, -7, -1][: form.exponents(rank)], "<i2")
    if form.name == "int8":
        numbers = rng.choice(np.array([-128, -127, -1, 0, 1, 127], np.int8), 2 * rows * rank)
    else:
        numbers = rng.choice(np.array([1, -1, 2**-24, -(2**-24), 0.9995, 2**-14], "<f2"), 2 * rows * rank)
    payload = powers.tobytes() + numbers.tobytes()
    back = np.zeros((rows, rows), np.float32)
    codec.unpack(payload, [back])
    exact = read(codec, payload, rows, rows, rank)
    assert back.tolist() == [[float(np.float32(float(x))) for x in row] for row in exact]
    if form.name == "int8":
        assert [[Fraction(float(x)) for x in row] for row in back] == exact


@forms
def test_matrices_follow_one_another_and_do_not_mix(form: Fp16Factors | Int8Factors) -> None:
    codec, matrices = Rank(2, form), [drawn((8, 6), 1), drawn((0, 6)), drawn((5, 9), 2, 1e-6), np.zeros((3, 3), "f4")]
    back = through(codec, *matrices)
    assert not back[3].any()
    for number, matrix in enumerate(matrices):
        others = [one if at == number else np.ones_like(one) for at, one in enumerate(matrices)]
        if matrix.any():
            assert missed(matrix, through(codec, *others)[number]) == pytest.approx(
                missed(matrix, back[number]), rel=0.2
            )
        else:
            assert not back[number].any()


@forms
def test_scaling_by_a_power_of_two_scales_what_comes_back_and_changes_nothing_else(
    form: Fp16Factors | Int8Factors,
) -> None:
    codec, found = Rank(4, form), drawn((20, 30))
    (back,) = through(codec, found)
    for power in (-80, -20, 1, 60):
        scale = np.float32(2.0**power)
        np.testing.assert_array_equal(through(codec, found * scale)[0], back * scale)


@forms
@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45, 1e-38, 2.0**-115])
def test_what_is_too_small_for_an_exponent_is_sent_as_zeros(form: Fp16Factors | Int8Factors, value: float) -> None:
    (back,) = through(Rank(4, form), np.full((6, 5), value, np.float32))
    assert not back.any()


# How good it is


@pytest.mark.parametrize("rank", [2, 4, 8])
@pytest.mark.parametrize(("ratio", "off"), [(0.5, 1e-3), (0.7, 1e-2), (0.9, 0.06)])
def test_where_singular_values_fall_the_factors_miss_hardly_more_than_the_best(
    rank: int, ratio: float, off: float
) -> None:
    for seed in range(5):
        found = falling(128, ratio, seed)
        left, right = factors(found, rank, np.random.default_rng(seed))
        assert best(found, rank) * (1 - 1e-4) <= missed(found, left @ right.T) <= (1 + off) * best(found, rank) + 1e-6


def test_where_they_do_not_fall_the_factors_hold_two_thirds_of_what_the_best_would() -> None:
    for seed in range(5):
        found = drawn((256, 256), seed, scale=0.2)
        left, right = factors(found, 4, np.random.default_rng(seed))
        assert 1 - missed(found, left @ right.T) > 0.67 * (1 - best(found, 4))


def test_the_largest_magnitude_of_each_column_on_the_left_is_one() -> None:
    left, _ = factors(falling(40, 0.7), 4, np.random.default_rng(0))
    assert np.abs(left).max(axis=0) == pytest.approx([1.0] * 4)


@forms
@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (3, 5), (2, 2), (4, 64)])
def test_a_matrix_of_no_more_rows_or_columns_than_the_rank_comes_back_whole(
    form: Fp16Factors | Int8Factors, shape: tuple[int, int]
) -> None:
    """As nearly as the numbers of the factors have bits: 11, or 6 to 7."""
    found = drawn(shape)
    (back,) = through(Rank(4, form), found)
    assert missed(found, back) < {"fp16": 1e-6, "int8": 1e-3}[form.name]


def test_int8_costs_next_to_nothing_beside_what_the_rank_does() -> None:
    found = falling(256, 0.9)
    halves, levels = (missed(found, through(Rank(4, form), found)[0]) for form in FORMS)
    assert halves == pytest.approx(best(found, 4), rel=0.02)
    assert levels == pytest.approx(halves, rel=1e-2)


def test_a_lesser_column_keeps_its_levels() -> None:
    """One step for all columns would leave the last of these one level."""
    left, right = (np.linalg.qr(drawn((64, 4), seed))[0] for seed in (1, 2))
    found = (left * 2.0 ** (-2.0 * np.arange(4)) @ right.T).astype(np.float32)
    (back,) = through(Rank(4, Int8Factors()), found)
    last = np.outer(left[:, 3], right[:, 3])
    assert float((back * last).sum()) == pytest.approx(2.0**-6, rel=0.05)


# What is refused


def test_no_rank_is_beyond_what_is_exact() -> None:
    with pytest.raises(AssertionError):
        Rank(MOST_RANK + 1, Int8Factors())


@pytest.mark.parametrize(
    ("exponents", "text"),
    [
        ((MOST + 1, MOST), f"from {MOST} to {MOST + 1}"),
        ((LEAST, LEAST - 1), f"from {LEAST - 1} to {LEAST}"),
        ((0, 8), "from 0 to 8; they lie between -110 and 110, at most 7 apart"),
        ((-(2**15), 2**15 - 1), "from -32768 to 32767"),
    ],
)
def test_an_exponent_that_is_out_of_range_is_refused_with_both_numbers(exponents: tuple[int, int], text: str) -> None:
    payload = np.array(exponents, "<i2").tobytes() + bytes(2 * 5)
    with pytest.raises(BadPayload, match=f"rank2-int8 exponents {text}"):
        Rank(2, Int8Factors()).unpack(payload, [np.zeros((2, 3), np.float32)])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.001, -2.0])
def test_a_half_beyond_one_is_refused(bad: float) -> None:
    payload = np.zeros(1, "<i2").tobytes() + np.array([0.5, 0.5, 0.25, bad, 0.5], "<f2").tobytes()
    with pytest.raises(BadPayload, match="rank2-fp16 values from .* they lie between -1 and 1"):
        Rank(2, Fp16Factors()).unpack(payload, [np.zeros((1, 4), np.float32)])


def test_the_largest_payload_there_is_decodes_to_something_finite() -> None:
    matrix = np.zeros((9, 9), np.float32)
    for form, numbers in ((FORMS[0], np.ones(144, "<f2").tobytes()), (FORMS[1], np.full(144, -128, "i1").tobytes())):
        Rank(8, form).unpack(np.full(form.exponents(8), MOST, "<i2").tobytes() + numbers, [matrix])
        assert np.isfinite(matrix).all()
        assert (matrix > 0).all()


# Thin products


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(0, 3, 2), (1, 1, 1), (300, 700, 9), (3, PIECE + 5, 1), (17, 0, 4)])
def test_a_product_in_pieces_is_the_product(kind: type, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    rows, inner, columns = shape
    wide: NDArray[np.floating] = rng.integers(-3, 4, (rows, inner)).astype(kind)
    thin: NDArray[np.floating] = rng.integers(-3, 4, (inner, columns)).astype(kind)
    out = np.full((rows, columns), np.nan, np.float32)
    times(wide, thin, out)
    np.testing.assert_array_equal(out, wide.astype(np.int64) @ thin.astype(np.int64))
