"""Two-byte floats: against torch, which rounds by itself, and at the edges of the range."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fedmq.compress.halves import BF16_MAX, from_bf16, from_fp16, to_bf16, to_fp16, up_to_bf16
from fedmq.compress.scales import SMALLEST, read_scales
from fedmq.errors import BadPayload
from strategies import tries

EVERY_HALF = np.arange(2**16, dtype=np.uint16)

floats = hnp.arrays(np.float32, 20, elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


def bf16_of_torch(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    return torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)


def test_every_bf16_there_is_comes_back_as_itself_and_nan_as_nan() -> None:
    values = from_bf16(EVERY_HALF)
    whole = np.isfinite(values)
    assert (to_bf16(values)[whole] == EVERY_HALF[whole]).all()
    assert (up_to_bf16(values)[whole & (values > 0)] == EVERY_HALF[whole & (values > 0)]).all()
    assert np.array_equal(np.isnan(from_bf16(to_bf16(values))), np.isnan(values))
    assert np.array_equal(np.isinf(from_bf16(to_bf16(values))), np.isinf(values))


@tries(300)
@given(floats)
def test_bf16_rounds_to_nearest_as_torch_does_but_saturates(values: NDArray[np.float32]) -> None:
    within = np.clip(values, -BF16_MAX, BF16_MAX)
    assert (to_bf16(values) == bf16_of_torch(within)).all()


def test_bf16_rounds_a_tie_to_the_even_one() -> None:
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, -1 - 3 * 2**-8], np.float32)
    assert from_bf16(to_bf16(ties)).tolist() == [1, 1 + 2**-6, -1, -1 - 2**-6]


@tries(300)
@given(floats)
def test_rounding_upward_gives_the_smallest_bf16_that_is_not_below(values: NDArray[np.float32]) -> None:
    values = np.minimum(np.abs(values), np.float32(BF16_MAX))
    up = up_to_bf16(values)
    assert (from_bf16(up) >= values).all()
    assert (from_bf16(up - np.uint16(1))[up > 0] < values[up > 0]).all()


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800001, 0x7FFFFFFF, 0xFFC00000, 0xFF800001, 0xFFFFFFFF])
def test_no_nan_becomes_a_number_by_rounding(bits: int) -> None:
    value = np.array([bits], np.uint32).view(np.float32)
    for halves in (to_bf16(value), up_to_bf16(value)):
        assert np.isnan(from_bf16(halves)).all()
    assert np.isnan(from_fp16(np.frombuffer(to_fp16(value), np.uint16))).all()


def test_what_is_beyond_the_range_saturates_and_infinity_stays() -> None:
    values = np.array([3.4e38, -3.4e38, math.inf, -math.inf], np.float32)
    assert from_bf16(to_bf16(values)).tolist() == [BF16_MAX, -BF16_MAX, math.inf, -math.inf]
    assert from_bf16(up_to_bf16(values[[0, 2]])).tolist() == [BF16_MAX, math.inf]
    assert from_fp16(np.frombuffer(to_fp16(values), np.uint16)).tolist() == [65504, -65504, math.inf, -math.inf]


def test_scales_that_no_row_has_are_refused_and_all_others_are_read() -> None:
    scales = from_bf16(EVERY_HALF)
    for half, scale in zip(EVERY_HALF, scales, strict=True):
        if math.isfinite(scale) and scale >= 0:
            assert read_scales("int4", half.tobytes(), 1) == scale
        else:
            with pytest.raises(BadPayload, match=r"int4 scales from .* to .*; a scale is finite and not negative"):
                read_scales("int4", half.tobytes(), 1)
    assert scales[scales >= SMALLEST].min() == SMALLEST
