"""What hypothesis draws for several tests: schemas, values, and how many examples are worth their time."""

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedmq.delta import Arrays, Schema

SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)


def tries(count: int) -> settings:
    """The same examples in every run, whatever the machine is doing meanwhile."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


def schemas(shapes: st.SearchStrategy[tuple[int, ...]] = SHAPES) -> st.SearchStrategy[Schema]:
    return st.lists(shapes, max_size=4).map(
        lambda drawn: Schema(tuple((f"array{i}", shape) for i, shape in enumerate(drawn)))
    )


def values(schema: Schema, largest: float = 1e30) -> st.SearchStrategy[Arrays]:
    """Finite float32, subnormals and zeros of both signs included."""
    bound = float(np.float32(largest))
    return hnp.arrays(
        np.float32, schema.size, elements=st.floats(-bound, bound, width=32, allow_nan=False, allow_infinity=False)
    ).map(lambda flat: Arrays(schema, flat))


def arrays(largest: float = 1e30) -> st.SearchStrategy[Arrays]:
    return schemas().flatmap(lambda schema: values(schema, largest))
