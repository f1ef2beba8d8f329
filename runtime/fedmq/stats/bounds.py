"""Bounds: what must be true of statistics, whoever sends them, so that a node's influence is bounded by its count.

Of n unit features: the counts add up to n; the sum of a class is no longer than its count; the Gram matrix has trace n
and no negative eigenvalue. Each is checked within what rounding to the form may do to an honest node.
"""

import numpy as np

from fedmq.errors import Rejection
from fedmq.messages import Code
from fedmq.stats.forms import Form
from fedmq.stats.layout import Float, Layout, Statistics, square

ROUNDING = 1e-3  # of a sum or a trace, in any form
MOST_EXAMPLES = 2**24  # of one node: float32 counts no further


def require_sound(found: Statistics, layout: Layout, form: Form, examples: int) -> None:
    """Raise Rejection, with both numbers, unless these can be the statistics of so many unit features."""
    counted = found.examples
    if counted != examples or examples > MOST_EXAMPLES:
        raise Rejection(
            Code.WRONG_COUNTS, f"the counts add up to {counted} examples, said were {examples}, at most {MOST_EXAMPLES}"
        )
    lengths = np.linalg.norm(found.sums, axis=1)
    excess = lengths - found.counts * (1 + ROUNDING)
    if excess.max(initial=0.0) > 0:
        worst = int(excess.argmax())
        raise Rejection(
            Code.WRONG_SUMS,
            f"the sum of class {worst} is {lengths[worst]:.6g} long, of {found.counts[worst]} unit features it is no "
            "longer than that",
        )
    gram = square(found.gram, layout.dim)
    trace = float(np.trace(gram))
    if abs(trace - counted) > ROUNDING * counted:
        raise Rejection(
            Code.WRONG_TRACE, f"the Gram matrix has trace {trace:.6g}, that of {counted} unit features is their count"
        )
    if form.slack:
        _require_positive(gram, form.slack * counted)


def _require_positive(gram: Float, slack: float) -> None:
    """Raise Rejection if an eigenvalue is below -slack: then, and only then, the factors do not exist."""
    lifted = gram.copy()
    lifted[np.diag_indices(len(gram))] += slack
    try:
        np.linalg.cholesky(lifted)
    except np.linalg.LinAlgError:
        smallest = float(np.linalg.eigvalsh(gram)[0])
        raise Rejection(
            Code.NOT_POSITIVE,
            f"the Gram matrix has an eigenvalue of {smallest:.4g}, that of a sum of x x' is at least 0 (rounding: "
            f"{-slack:.4g})",
        ) from None
