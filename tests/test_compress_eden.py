"""EDEN: against its formula block by block, the error that theory gives it, and the same bits from whoever decodes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fedmq.compress.eden import BLOCK, LARGE_FROM, LEVELS, RUN, Eden
from fedmq.compress.hadamard import matrix as hadamard
from fedmq.compress.scales import SMALLEST
from fedmq.errors import BadPayload
from strategies import tries

ONE, TWO = Eden(1), Eden(2)
BOTH = pytest.mark.parametrize("codec", [ONE, TWO], ids=["eden1", "eden2"])
H = hadamard(BLOCK)
odd_matrices = hnp.arrays(
    np.float32,
    st.one_of(
        st.tuples(st.integers(0, 5), st.integers(0, 9)),
        st.tuples(st.just(1), st.integers(500, 520)),
        st.tuples(st.integers(1020, 1030), st.just(1)),
    ),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
    fill=st.nothing(),
)

Float = NDArray[np.float32]


def through(codec: Eden, matrix: Float, seed: int = 0) -> Float:
    back = np.full_like(matrix, np.nan)
    codec.unpack(codec.pack([matrix], seed), [back])
    return back


def normal(rows: int = 64, columns: int = 512, seed: int = 0) -> Float:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def nmse(found: NDArray[np.floating], true: Float) -> float:
    return float(((found - true) ** 2).sum() / (true.astype(np.float64) ** 2).sum())


def group(bits: int) -> int:
    return 8 // bits


def runs(size: int) -> list[slice]:
    return [slice(start, min(start + RUN, size)) for start in range(0, size, RUN)]


def counts(size: int) -> list[int]:
    """Return the blocks of every run."""
    return [math.ceil((run.stop - run.start) / BLOCK) for run in runs(size)]


def blocks(matrix: Float, bits: int) -> NDArray[np.float64]:
    """Return (blocks, 512): in every run, value i of group k of a block is its value 8 (or 4) k + i."""
    found = [np.zeros((0, BLOCK))]
    for run, count in zip(runs(matrix.size), counts(matrix.size), strict=True):
        flat = np.zeros(count * BLOCK)
        flat[: run.stop - run.start] = matrix.ravel()[run]
        found.append(flat.reshape(BLOCK // group(bits), count, group(bits)).transpose(1, 0, 2).reshape(count, BLOCK))
    return np.concatenate(found)


def laid_out(found: NDArray[np.floating], bits: int, shape: tuple[int, int]) -> NDArray[np.floating]:
    """Return the matrix that has these blocks."""
    size, start, flat = math.prod(shape), 0, [np.zeros(0, found.dtype)]
    for run, count in zip(runs(size), counts(size), strict=True):
        own = found[start : start + count].reshape(count, BLOCK // group(bits), group(bits))
        flat.append(own.transpose(1, 0, 2).ravel()[: run.stop - run.start])
        start += count
    return np.concatenate(flat).reshape(shape)


def read(payload: bytes, bits: int, size: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return scales (blocks,), levels and flips (blocks, 512) of a payload with one matrix, bit by bit."""
    per, total, block = group(bits), sum(counts(size)), 0
    halves = np.frombuffer(payload[8:], "<u2", total)
    scales = np.array([np.array([0, half], "<u2").view("<f4")[0] for half in halves], np.float64)
    stored = payload[8 + 2 * total :]
    stream = np.random.PCG64(int.from_bytes(payload[:8], "little")).random_raw(8 * total * bits).astype("<u8").tobytes()
    levels, flips = np.zeros((total, BLOCK), np.int64), np.zeros((total, BLOCK), np.int64)
    for count in counts(size):
        for k in range(BLOCK // per):
            for b in range(count):
                place = BLOCK // per * block + k * count + b
                for i in range(per):
                    large = stored[place] >> 4 + i & 1 if bits == 2 else 0
                    positive = stored[place] >> i & 1
                    levels[block + b, per * k + i] = LEVELS[bits][large] * (1 if positive else -1)
                    flips[block + b, per * k + i] = -1 if stream[place] >> i & 1 else 1
        block += count
    return scales, levels, flips


# Its formula


@BOTH
@tries(60)
@given(matrix=odd_matrices, seed=st.integers(0, 2**64 - 1))
def test_what_is_decoded_is_the_formula_to_the_bit(codec: Eden, matrix: Float, seed: int) -> None:
    bits, payload = int(codec.name[-1]), bytes(codec.pack([matrix], seed))
    scales, levels, flips = read(payload, bits, matrix.size)
    whole = (flips * (levels @ H)).astype(np.float32)
    expected = laid_out(whole * scales.astype(np.float32)[:, None], bits, matrix.shape)
    assert (through(codec, matrix, seed) == expected).all()


@BOTH
def test_what_is_sent_is_the_formula(codec: Eden) -> None:
    bits, matrix = int(codec.name[-1]), np.float32(1e-3) * normal(7, 300)
    x = blocks(matrix, bits)
    scales, levels, flips = read(bytes(codec.pack([matrix], 5)), bits, matrix.size)
    y = (flips * x) @ H
    unit = np.linalg.norm(x, axis=1, keepdims=True)
    size = np.where(np.abs(y) > LARGE_FROM * unit, LEVELS[bits][-1], LEVELS[bits][0])
    sure = (np.abs(y) > 1e-4 * unit) & (np.abs(np.abs(y) / unit - LARGE_FROM) > 1e-4)
    assert sure.mean() > 0.99
    assert (levels == np.sign(y) * size)[sure].all()
    np.testing.assert_allclose(scales, (x**2).sum(axis=1) / (y * levels).sum(axis=1), rtol=2.0**-8)


def test_the_levels_are_those_that_suit_a_normal_variable_best() -> None:
    """Lloyd 1982: levels are means of their cells, cells end halfway between levels."""

    def density(x: float) -> float:
        return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    def below(x: float) -> float:
        return (1 + math.erf(x / math.sqrt(2))) / 2

    edge = 1.0
    for _ in range(200):
        small = (density(0) - density(edge)) / (below(edge) - 0.5)
        large = density(edge) / (1 - below(edge))
        edge = (small + large) / 2
    assert edge == pytest.approx(LARGE_FROM, abs=1e-4)
    assert large / small == pytest.approx(LEVELS[2][1] / LEVELS[2][0], rel=2e-3)

    def error(low: float, high: float, edge: float) -> float:
        """What EDEN adds to the squared norm: E[level^2] / E[y level]^2 - 1."""
        inner = below(edge) - 0.5
        square = 2 * (low**2 * inner + high**2 * (0.5 - inner))
        product = 2 * (low * (density(0) - density(edge)) + high * density(edge))
        return square / product**2 - 1

    assert error(3, 10, LARGE_FROM) == pytest.approx(error(small, large, edge), rel=1e-5)
    assert error(3, 10, LARGE_FROM) == pytest.approx(0.1331, abs=1e-4)
    assert error(1, 1, 0.5) == pytest.approx(math.pi / 2 - 1)


# Its error


@pytest.mark.parametrize(("codec", "theory"), [(ONE, math.pi / 2 - 1), (TWO, 0.1331)], ids=["eden1", "eden2"])
@pytest.mark.parametrize("kind", ["normal", "laplace", "uniform", "signs", "one row of ten"])
def test_the_error_is_what_theory_says_whatever_the_values_look_like(codec: Eden, theory: float, kind: str) -> None:
    rng, shape = np.random.default_rng(3), (128, 512)
    draws = {
        "normal": rng.standard_normal(shape),
        "laplace": rng.laplace(size=shape),
        "uniform": rng.uniform(-1, 1, shape),
        "signs": rng.choice([-1.0, 1.0], shape) + 0.1 * rng.standard_normal(shape),
        "one row of ten": rng.standard_normal(shape) * (np.arange(128) % 10 == 0)[:, None],
    }
    matrix = (1e-4 * draws[kind]).astype(np.float32)
    assert nmse(through(codec, matrix), matrix) == pytest.approx(theory, rel=0.06 if kind == "one row of ten" else 0.02)


@BOTH
@pytest.mark.parametrize("kind", ["normal", "laplace", "rank one"])
def test_it_is_unbiased_so_the_error_of_a_mean_over_nodes_falls_with_their_number(codec: Eden, kind: str) -> None:
    n, rng = 400, np.random.default_rng(4)
    draws = {
        "normal": rng.standard_normal((16, 512)),
        "laplace": rng.laplace(size=(16, 512)),
        "rank one": rng.standard_normal((16, 1)) * rng.standard_normal((1, 512)),
    }
    matrix = draws[kind].astype(np.float32)
    total, single = np.zeros(matrix.shape), 0.0
    for seed in range(n):
        back = through(codec, matrix, seed)
        total += back
        single += nmse(back, matrix) / n
    assert nmse(total / n, matrix) == pytest.approx(single / n, rel=0.1)


def test_where_one_value_outweighs_a_block_the_others_are_not_kept_on_average() -> None:
    """The limit that the docstring names: every sign of y is that of the larger value, whatever the rotation."""
    matrix = np.array([[1.0, 0.5]], np.float32)
    assert {tuple(through(ONE, matrix, seed)[0].tolist()) for seed in range(20)} <= {(1.25, 0.0)}


@BOTH
@tries(60)
@given(matrix=odd_matrices, seed=st.integers(0, 2**32))
def test_the_scale_keeps_what_lies_along_the_block_itself(codec: Eden, matrix: Float, seed: int) -> None:
    """<decoded, x> = |x|^2 for every block, which is what makes the scale unbiased."""
    bits = int(codec.name[-1])
    scales, levels, flips = read(bytes(codec.pack([matrix], seed)), bits, matrix.size)
    for x, scale, level, flip in zip(blocks(matrix, bits), scales, levels, flips, strict=True):
        if np.abs(x).max() > 1e-30:
            peak = np.abs(x).max()
            inner = float((scale / peak * flip * (level @ H) * (x / peak)).sum())
            assert inner == pytest.approx(float(((x / peak) ** 2).sum()), rel=0.01)


@BOTH
@pytest.mark.parametrize("value", [1.0, 1e-6, 1e-30, -3e38])
def test_a_value_alone_comes_back_as_itself(codec: Eden, value: float) -> None:
    matrix = np.zeros((3, 5), np.float32)
    matrix[1, 2] = value
    if codec is ONE:
        np.testing.assert_allclose(through(codec, matrix), matrix, rtol=2.0**-8)
    assert through(codec, matrix)[1, 2] == pytest.approx(value, rel=2.0**-8)


@BOTH
@pytest.mark.parametrize("scale", [1e-6, 1e-12, 1e-30, 1e30])
def test_a_delta_of_any_size_survives(codec: Eden, scale: float) -> None:
    matrix = np.float32(scale) * normal(8, 512)
    np.testing.assert_allclose(through(codec, matrix) / np.float32(scale), through(codec, normal(8, 512)), rtol=0.01)


@BOTH
def test_a_block_that_is_nearly_nothing_is_sent_as_zeros(codec: Eden) -> None:
    for value in (0.0, -0.0, 1e-45, 1e-38):
        assert not through(codec, np.full((3, 5), value, np.float32)).any()
    assert SMALLEST > 1e-38


# Blocks and matrices


@BOTH
def test_every_block_has_a_scale_of_its_own(codec: Eden) -> None:
    """Blocks are made of groups that are far apart: with g values in a group, value p of a matrix is in block p / g."""
    bits, count = int(codec.name[-1]), 4
    scale = np.float32(10.0) ** np.arange(count)
    matrix = (normal(1, BLOCK * count).reshape(-1, count, group(bits)) * scale[:, None]).reshape(4, -1)
    back = blocks(through(codec, matrix.astype(np.float32)), bits)
    for x, y in zip(blocks(matrix.astype(np.float32), bits), back, strict=True):
        assert nmse(y, x.astype(np.float32)) < 0.8


@BOTH
def test_matrices_do_not_share_blocks(codec: Eden) -> None:
    small, large = normal(3, 5), np.float32(1e6) * normal(4, 700, seed=1)
    into = [np.empty_like(small), np.empty_like(large)]
    codec.unpack(codec.pack([small, large], 1), into)
    assert nmse(into[0], small) < 2
    assert nmse(into[1], large) < 0.7


@BOTH
def test_a_matrix_of_more_than_a_run_is_no_different(codec: Eden) -> None:
    bits, matrix = int(codec.name[-1]), normal(600, 450)
    assert counts(matrix.size) == [512, 16]
    scales, levels, flips = read(bytes(codec.pack([matrix], 9)), bits, matrix.size)
    whole = (flips * (levels @ H)).astype(np.float32)
    expected = laid_out(whole * scales.astype(np.float32)[:, None], bits, matrix.shape)
    assert (through(codec, matrix, 9) == expected).all()
    assert nmse(expected, matrix) < 0.6


@BOTH
def test_a_matrix_that_is_not_contiguous_is_packed_like_one_that_is(codec: Eden) -> None:
    wide = normal(16, 128)
    assert codec.pack([wide[:, ::2]], 3) == codec.pack([wide[:, ::2].copy()], 3)


@BOTH
def test_two_seeds_give_two_rotations_and_their_errors_are_independent(codec: Eden) -> None:
    matrix = normal()
    one, other = (through(codec, matrix, seed) - matrix for seed in (1, 2))
    assert abs(float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))) < 0.02


# What is refused


@BOTH
@pytest.mark.parametrize("place", [0, 1, 4])
@pytest.mark.parametrize("scale", [0x7F80, 0x7FC0, 0xFF80, 0xBF80, 0x8001])
def test_a_scale_that_no_block_has_is_refused(codec: Eden, place: int, scale: int) -> None:
    matrix = normal(5, 512)
    payload = bytearray(codec.pack([matrix], 0))
    payload[8 + 2 * place : 10 + 2 * place] = np.array([scale], "<u2").tobytes()
    with pytest.raises(BadPayload, match=f"{codec.name} scales from .*; a scale is finite and not negative"):
        codec.unpack(bytes(payload), [np.empty_like(matrix)])


@BOTH
def test_levels_times_a_huge_scale_are_infinite_without_a_warning(codec: Eden) -> None:
    payload = bytearray(codec.pack([normal(1, 512)], 0))
    payload[8:10] = np.array([0x7F7F], "<u2").tobytes()
    back = np.zeros((1, 512), np.float32)
    codec.unpack(bytes(payload), [back])
    assert np.isinf(back).any()
