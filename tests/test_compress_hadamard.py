"""The Walsh-Hadamard transform: against the matrix, in floats and in whole numbers."""

import numpy as np
import pytest

from fedmq.compress.hadamard import matrix, transform, transform_levels

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
@pytest.mark.parametrize("largest", [1, 8, 40, 63])
def test_whole_numbers_are_exact_however_large_their_sums(points: int, largest: int) -> None:
    rng = np.random.default_rng(points)
    levels = rng.integers(-largest, largest + 1, (points, 50)).astype(np.int8)
    levels[:, 0], levels[:, 1] = largest, -largest
    levels[:, 2] = largest * matrix(points)[-1]
    assert (transform_levels(levels.copy(), largest) == matrix(points) @ levels.astype(np.int64)).all()
