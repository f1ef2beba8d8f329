"""Factors: a matrix as the product of two thin ones, nearly the best of their rank.

PowerSGD (Vogels et al. 2019, arXiv:1905.13727) makes one step of power iteration per update and starts it from the
factors of the last one. A start that is remembered would have to survive the process, and is worth little after a
refusal; here it is random, which takes a second step, and a few more columns while iterating, of which the best are
kept (Halko et al. 2011, arXiv:0909.4061, Algorithms 4.4 and 5.1).
"""

import numpy as np
from numpy.random import Generator

from fedmq.compress.layers import Matrix
from fedmq.compress.thin import times

SPARE = 4  # columns beyond the rank while iterating


def factors(matrix: Matrix, rank: int, rng: Generator) -> tuple[Matrix, Matrix]:
    """Return left (rows, r) and right (columns, r): the matrix is nearly left @ right.T.

    matrix     finite, no value beyond 1, at least one row and one column
    rank       r, at most the rows or columns that there are
    left       the largest magnitude of each column is 1
    """
    width = min(rank + SPARE, *matrix.shape)
    left = _basis(matrix, rng.standard_normal((matrix.shape[1], width), dtype=np.float32))
    left = _basis(matrix, _basis(matrix.T, left))
    right = _product(matrix.T, left)
    # The best r directions within those found are the leading eigenvectors of right.T @ right, which come last.
    wide = right.astype(np.float64)
    turn = np.linalg.eigh(wide.T @ wide)[1][:, ::-1][:, :rank].astype(np.float32)
    left, right = left @ turn, right @ turn
    peaks = np.abs(left).max(axis=0)
    return left / peaks, right * peaks


def _basis(matrix: Matrix, thin: Matrix) -> Matrix:
    return np.linalg.qr(_product(matrix, thin))[0]


def _product(matrix: Matrix, thin: Matrix) -> Matrix:
    out = np.empty((len(matrix), thin.shape[1]), np.float32)
    times(matrix, thin, out)
    return out
