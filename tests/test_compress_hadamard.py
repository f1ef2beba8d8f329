"""The Walsh-Hadamard transform: against the matrix, in floats and in whole numbers."""

import numpy as np
import pytest

from fedmq.compress.hadamard import Levels, matrix, transform

POINTS = [1, 2, 4, 8, 64, 128, 512]


def by_bits(points: int) -> list[list[int]]:
    """Return the matrix by its definition: -1 to the number of bits that row and column share."""
    return [[(-1) ** (row & column).bit_count() for column in range(points)] for row in range(points)]


@pytest.mark.parametrize("points", POINTS)
def test_the_matrix_is_that_of_its_definition_and_its_own_inverse(points: int) -> None:
    found = matrix(points)
    assert found.tolist() == by_bits(points)
    assert (found @ found == points * np.eye(points)).all()


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("width", [0, 1, 3, 40])
def test_butterflies_give_what_the_matrix_gives(points: int, width: int) -> None:
    values = np.random.default_rng(points + width).standard_normal((points, width)).astype(np.float32)
    expected = matrix(points) @ values.astype(np.float64)
    np.testing.assert_allclose(transform(values.copy()), expected, atol=1e-5 * points)


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize(("group", "largest"), [(1, 63), (2, 40), (4, 8), (8, 1)])
def test_whole_numbers_are_exact_however_large_their_sums(points: int, group: int, largest: int) -> None:
    rng = np.random.default_rng(points)
    table = rng.integers(-largest, largest + 1, (256, group)).astype(np.int8)
    table[0], table[1] = largest, -largest
    indices = rng.integers(0, 256, (points, 50), dtype=np.uint8)
    indices[:, 0], indices[:, 1] = 0, 1
    indices[:, 2] = matrix(points)[-1] < 0
    levels = table[indices].reshape(points, 50 * group)
    room = Levels(levels.size + 100)
    assert (room.look_up(table, indices) == levels).all()
    assert (room.transform(table, indices, largest) == matrix(points) @ levels.astype(np.int64)).all()


def test_memory_is_used_again_for_fewer() -> None:
    room, table = Levels(64), np.arange(-128, 128, dtype=np.int8).reshape(256, 1) // 4
    for points, width in ((64, 1), (4, 3), (1, 0), (8, 8)):
        indices = np.random.default_rng(points).integers(0, 256, (points, width), dtype=np.uint8)
        expected = matrix(points) @ table[indices, 0].astype(np.int64)
        assert (room.transform(table, indices, 32) == expected).all()
