"""Top k: against its formula in plain Python, and against theory on Gaussian data."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fedmq.compress import codec, rice
from fedmq.compress.topk import STRIDE, Fp16Values, TopK, TwoBits, largest, two_magnitudes
from fedmq.delta import Arrays, Schema
from fedmq.errors import BadPayload
from strategies import tries

Array = NDArray[np.float32]
FORMS: list[TwoBits | Fp16Values] = [TwoBits(), Fp16Values()]
ADAPTER = Schema((("a", (512, 512)), ("a_bias", (512,)), ("b", (512, 512)), ("b_bias", (512,))))
forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
whole = st.integers(-4, 4).map(float)  # many ties
vectors = hnp.arrays(
    np.float32, st.integers(1, 60), elements=st.one_of(whole, st.floats(-(2.0**100), 2.0**100, width=32))
)


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def through(found: TopK, *matrices: Array) -> list[Array]:
    back = [np.full_like(matrix, np.nan) for matrix in matrices]
    found.unpack(found.pack(matrices, 0), back)
    return back


def first_of_the_largest(flat: Array, count: int) -> list[int]:
    return sorted(sorted(range(len(flat)), key=lambda i: (-abs(float(flat[i])), i))[:count])


def spoilt(form: TwoBits | Fp16Values, scales: list[float]) -> bytes:
    """Return a payload of one value in a hundred with these scales."""
    return (
        np.array(scales, "<f4").tobytes()
        + bytes(form.size_bytes(1) - 4 * len(scales))
        + rice.encode(np.array([7], np.int64), 100)
    )


# What is chosen


@tries(300)
@given(vectors, st.data())
def test_the_largest_are_chosen_and_of_equal_ones_the_first(flat: Array, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(flat)))
    assert largest(flat, count).tolist() == first_of_the_largest(flat, count)


@pytest.mark.parametrize("count", [1, 40, 400, 3999, 4000])
@pytest.mark.parametrize(
    "way", ["spread", "rising", "in one place", "equal", "few", "out of the sample", "in the sample"]
)
def test_however_the_large_ones_lie_they_are_found(way: str, count: int) -> None:
    flat = drawn(4000)
    if way == "rising":
        flat = np.sort(flat)
    elif way == "in one place":
        flat[100:150] *= 100
    elif way == "equal":
        flat[:] = -2.0
    elif way == "few":
        flat = np.round(flat)
    elif way == "out of the sample":
        flat[::STRIDE] = 0.0
    elif way == "in the sample":
        flat[::STRIDE] *= 100
    assert largest(flat, count).tolist() == first_of_the_largest(flat, count)


def test_they_are_chosen_over_all_matrices_at_once() -> None:
    small, large = 0.01 * drawn(20, 10), drawn(30, 10, seed=1)
    back = through(TopK(5, Fp16Values()), small, np.zeros((0, 3), np.float32), large)
    assert not back[0].any()
    assert np.flatnonzero(back[2]).tolist() == first_of_the_largest(large.ravel(), 25)
    np.testing.assert_allclose(back[2][back[2] != 0], large[back[2] != 0], rtol=2.0**-11)


@pytest.mark.parametrize(("size", "count"), [(1, 1), (99, 1), (100, 1), (101, 2), (250, 3)])
def test_one_percent_is_rounded_up(size: int, count: int) -> None:
    (back,) = through(TopK(1, Fp16Values()), np.arange(1, size + 1, dtype=np.float32).reshape(1, -1))
    assert np.flatnonzero(back).tolist() == list(range(size - count, size))


# What becomes of the values


@tries(200)
@given(vectors)
def test_the_two_magnitudes_are_the_nearest_of_all(flat: Array) -> None:
    """Against every way to cut the sorted magnitudes in two."""
    magnitudes = np.sort(np.abs(flat)).astype(np.float64)

    def error(*parts: NDArray[np.float64]) -> float:
        return sum(float(((part - part.mean()) ** 2).sum()) for part in parts if len(part))

    low, high, edge = two_magnitudes(np.abs(flat))
    nearest = min(error(magnitudes[:cut], magnitudes[cut:]) for cut in range(len(magnitudes) + 1))
    found = float(((magnitudes - np.where(magnitudes > edge, high, low)) ** 2).sum())
    assert found == pytest.approx(nearest, rel=1e-6, abs=1e-9 * float((magnitudes**2).sum()))
    assert 0 <= low <= high * (1 + 1e-12)


def test_two_bits_are_a_sign_and_a_magnitude() -> None:
    values = np.array([3, -1, -3, 1, 5], np.float32)
    payload = TwoBits().pack(values)
    assert payload == np.array([1, 11 / 3], "<f4").tobytes() + bytes([0b00_11_01_10, 0b10])
    np.testing.assert_allclose(TwoBits().unpack("x", payload, 5), [11 / 3, -1, -11 / 3, 1, 11 / 3])


@tries(200)
@given(hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_halves_keep_eleven_bits_of_the_largest_value_and_of_those_near_it(values: Array) -> None:
    back = Fp16Values().unpack("x", Fp16Values().pack(values), len(values))
    peak = float(np.abs(values).max())
    error = np.abs(back.astype(np.float64) - values)
    assert (error <= np.maximum(2.0**-11 * np.abs(values), 2.0**-24 * peak) * (1 + 1e-6) + 1e-37).all()


@forms
@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e20])
def test_a_delta_of_any_size_keeps_its_shape(form: TwoBits | Fp16Values, scale: float) -> None:
    found = drawn(40, 50)
    (one,), (other,) = through(TopK(5, form), found), through(TopK(5, form), found * np.float32(scale))
    np.testing.assert_allclose(other, one * np.float32(scale), rtol=1e-3)


# How good it is, and what it costs


@pytest.mark.parametrize("percent", [1, 5])
def test_the_error_on_gaussian_data_is_that_of_theory(percent: int) -> None:
    """The tails beyond z hold p + 2 z phi(z) of the energy; two magnitudes take some of that again."""
    found, p = drawn(700, 700), percent / 100
    z = NormalDist().inv_cdf(1 - p / 2)
    expected = 1 - p - 2 * z * NormalDist().pdf(z)
    errors = {form.name: float(((through(TopK(percent, form), found)[0] - found) ** 2).mean()) for form in FORMS}
    assert errors["fp16"] == pytest.approx(expected * float((found**2).mean()), rel=2e-3)
    assert errors["fp16"] < errors["2bit"] < errors["fp16"] + 0.05 * (1 - expected)


@pytest.mark.parametrize(("name", "least", "most"), [("top1-2bit", 8_600, 8_720), ("top1-fp16", 17_700, 17_890)])
def test_an_adapter_takes_so_many_bytes(name: str, least: int, most: int) -> None:
    flat = np.random.default_rng(0).standard_normal(ADAPTER.size).astype(np.float32)
    assert least < len(codec(name).pack(Arrays(ADAPTER, flat), 0)) < most


# What is refused


@forms
@pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf, -1.0])
def test_a_scale_that_no_value_has_is_refused(form: TwoBits | Fp16Values, scale: float) -> None:
    scales = [scale, 1.0] if form.name == "2bit" else [scale]
    found = TopK(1, form)
    with pytest.raises(BadPayload, match=f"{found.name} scales from .*; a scale is finite and not negative"):
        found.unpack(spoilt(form, scales), [np.zeros((10, 10), np.float32)])


def test_a_half_beyond_one_is_refused() -> None:
    payload = np.array(1.0, "<f4").tobytes() + np.array(1.5, "<f2").tobytes() + b"\0" + bytes(12) + b"\1"
    with pytest.raises(BadPayload, match="top1-fp16 values from 1.5 to 1.5; they lie between -1 and 1"):
        TopK(1, Fp16Values()).unpack(payload, [np.zeros((10, 10), np.float32)])


@forms
def test_a_payload_without_its_values_is_refused_with_both_numbers(form: TwoBits | Fp16Values) -> None:
    needed = form.size_bytes(1)
    with pytest.raises(BadPayload, match=f"payload with {needed - 1} bytes of matrices, 1 values need {needed}"):
        TopK(1, form).unpack(bytes(needed - 1), [np.zeros((10, 10), np.float32)])


@forms
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("count", [1, 99, 100])
def test_what_is_not_finite_is_chosen_and_refused(form: TwoBits | Fp16Values, bad: float, count: int) -> None:
    found = drawn(10, 10)
    found.ravel()[-count:] = bad
    with pytest.raises(BadPayload, match="scales from"):
        through(TopK(5, form), found)
