"""Products with a thin matrix, in pieces so small that BLAS does not share them out among threads.

OpenBLAS does so from 2^18 multiplications on. For a millisecond's work that wins little on an idle machine, and on a
busy one each product then waits for the slowest thread: 0.1 ms became 100. It also keeps the order of every sum, and so
the bits of the result, from depending on how many cores there are.
"""

import numpy as np
from numpy.typing import NDArray

PIECE = 2**18


def times(wide: NDArray[np.floating], thin: NDArray[np.floating], out: NDArray[np.floating]) -> None:
    """Write wide @ thin into `out`, of their type or rounded to a shorter one."""
    rows = max(1, PIECE // max(1, thin.size))
    piece = np.empty((min(rows, len(out)), out.shape[1]), wide.dtype) if out.dtype != wide.dtype else None
    for start in range(0, len(out), rows):
        into = out[start : start + rows]
        if piece is None:
            np.matmul(wide[start : start + rows], thin, out=into)
        else:
            into[...] = np.matmul(wide[start : start + rows], thin, out=piece[: len(into)])
