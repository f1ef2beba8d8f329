"""The layer-wise choice: vectors stay halves whatever the codec, matrices take any shape, and what is not a payload."""

import math
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmq.compress import CODECS
from fedmq.compress.layers import Layered
from fedmq.delta import Arrays, Schema
from fedmq.errors import BadPayload
from strategies import arrays, schemas, tries, values

LAYERED = {name: codec for name, codec in CODECS.items() if isinstance(codec, Layered)}
NAMES = list(LAYERED)
MIXED = Schema((("bias", (3,)), ("w", (3, 5)), ("one", ()), ("row", (1, 7)), ("column", (9, 1)), ("kernel", (2, 3, 2))))
# Rows of nothing, one row, one column, more axes, and sizes on both sides of a block of 512.
MATRICES = st.one_of(
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
    st.tuples(st.just(1), st.integers(0, 1100)),
    st.tuples(st.integers(0, 1100), st.just(1)),
    st.tuples(st.integers(20, 26), st.integers(20, 26)),
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)),
)


def drawn(schema: Schema, seed: int = 0, scale: float = 1.0) -> Arrays:
    return Arrays(schema, (scale * np.random.default_rng(seed).standard_normal(schema.size)).astype(np.float32))


def vectors(found: Arrays) -> list[float]:
    return [float(x) for array in found.named().values() if array.ndim < 2 for x in array.ravel()]


def test_there_are_layered_codecs() -> None:
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
@tries(40)
@given(found=arrays(largest=65504), seed=st.integers(0, 2**64 - 1))
def test_vectors_come_back_as_halves(name: str, found: Arrays, seed: int) -> None:
    back = LAYERED[name].unpack(LAYERED[name].pack(found, seed), found.schema)
    assert vectors(back) == [float(np.float16(x)) for x in vectors(found)]


@pytest.mark.parametrize("name", NAMES)
def test_vectors_stand_first_in_the_order_of_the_schema(name: str) -> None:
    found = drawn(MIXED)
    payload = bytes(LAYERED[name].pack(found, 0))
    assert payload[:8] == np.array(vectors(found), "<f2").tobytes()


@pytest.mark.parametrize("name", NAMES)
@tries(60)
@given(schema=schemas(MATRICES), seed=st.integers(0, 2**32))
def test_matrices_of_any_shape_come_back_in_no_more_bytes_than_promised(name: str, schema: Schema, seed: int) -> None:
    found = drawn(schema, seed, scale=1e-3)
    payload = LAYERED[name].pack(found, seed)
    back = LAYERED[name].unpack(payload, schema)
    assert len(payload) <= LAYERED[name].size_bytes(schema)
    assert back.schema == schema
    assert np.isfinite(back.flat).all()


@pytest.mark.parametrize("name", NAMES)
@tries(60)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_a_matrix_of_zeros_comes_back_as_zeros_and_values_of_any_size_as_numbers(
    name: str, data: st.DataObject, seed: int
) -> None:
    nothing = Arrays(MIXED, np.zeros(MIXED.size, np.float32))
    assert not LAYERED[name].unpack(LAYERED[name].pack(nothing, seed), MIXED).flat.any()
    found = data.draw(values(MIXED, largest=1e30))
    assert np.isfinite(LAYERED[name].unpack(LAYERED[name].pack(found, seed), MIXED).flat).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_seen_wherever_it_is(name: str, bad: float) -> None:
    for place in range(MIXED.size):
        found = drawn(MIXED)
        found.flat[place] = bad
        payload = LAYERED[name].pack(found, 0)
        with suppress(BadPayload):
            assert not np.isfinite(LAYERED[name].unpack(payload, MIXED).flat).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_is_refused(name: str) -> None:
    payload = bytes(LAYERED[name].pack(drawn(MIXED), 0))
    for length in range(len(payload)):
        with pytest.raises(BadPayload, match=f"^{name} "):
            LAYERED[name].unpack(payload[:length], MIXED)


@pytest.mark.parametrize("name", NAMES)
def test_a_payload_that_is_too_long_is_refused_with_both_numbers(name: str) -> None:
    most = LAYERED[name].size_bytes(MIXED)
    with pytest.raises(BadPayload, match=f"{name} payload of {most + 1} bytes, the schema needs [0-9]+ to {most}"):
        LAYERED[name].unpack(bytes(most + 1), MIXED)


@pytest.mark.parametrize("name", NAMES)
@tries(300)
@given(data=st.data())
def test_mutated_bytes_are_a_payload_or_refused_and_nothing_else(name: str, data: st.DataObject) -> None:
    payload = bytearray(LAYERED[name].pack(drawn(MIXED), 0))
    for _ in range(data.draw(st.integers(1, 6))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BadPayload):
        assert LAYERED[name].unpack(bytes(payload), MIXED).schema == MIXED


@pytest.mark.parametrize("name", NAMES)
@tries(300)
@given(payload=st.binary(max_size=200))
def test_bytes_of_any_kind_are_a_payload_or_refused_and_nothing_else(name: str, payload: bytes) -> None:
    with suppress(BadPayload):
        assert LAYERED[name].unpack(payload, MIXED).schema == MIXED
