"""Params and deltas: one vector, read through a schema."""

import hashlib
import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given

from fedmq.delta import (
    Arrays,
    Delta,
    Params,
    Schema,
    Vector,
    add,
    digest,
    digest_of,
    gather,
    norm,
    require_same,
    subtract,
)
from fedmq.errors import ShapeMismatch
from strategies import arrays, tries

SCHEMA = Schema((("weight", (2, 3)), ("bias", (2,)), ("scale", ())))


def params(*flat: float) -> Params:
    return Params(Arrays(Schema((("w", (len(flat),)),)), np.array(flat, np.float32)))


def vector(*flat: float) -> Delta:
    return Delta(params(*flat))


def test_a_schema_counts_its_floats_and_its_rows() -> None:
    schema = Schema((("matrix", (3, 4)), ("vector", (5,)), ("scalar", ()), ("cube", (2, 3, 4)), ("none", (0, 7))))
    assert (schema.size, schema.rows) == (12 + 5 + 1 + 24 + 0, ((3, 4), (1, 5), (1, 1), (2, 12), (0, 7)))


def test_a_schema_reads_as_a_person_would_say_it() -> None:
    assert str(SCHEMA) == "weight 2x3, bias 2, scale "


@tries(100)
@given(arrays())
def test_arrays_are_taken_apart_by_name_and_gathered_again_to_the_bit(found: Arrays) -> None:
    named = found.named()
    assert [(name, array.shape) for name, array in named.items()] == list(found.schema.entries)
    if named:
        again = gather(named)
        assert (again.schema, again.flat.tobytes()) == (found.schema, found.flat.tobytes())


def test_named_arrays_are_views_and_gathered_ones_are_copies() -> None:
    found = gather({"a": np.ones((2, 2), np.float32), "b": np.zeros(3, np.float32)})
    assert np.shares_memory(found.named()["b"], found.flat)
    assert not np.shares_memory(gather(found.named()).flat, found.flat)


@pytest.mark.parametrize("flat", [np.zeros(8, np.float32), np.zeros(9, np.float64), np.zeros((9, 1), np.float32)])
def test_values_that_do_not_fit_their_schema_are_refused_with_both_numbers(flat: Vector) -> None:
    with pytest.raises(ShapeMismatch, match=f"{flat.size} values of {flat.dtype} for a schema of 9 float32"):
        Arrays(SCHEMA, flat)


def test_a_delta_is_after_minus_before_and_is_added() -> None:
    before, after = params(1, -2, 3), params(4, -2, 0.5)
    delta = subtract(after, before)
    assert delta.flat.tolist() == [3, 0, -2.5]
    assert add(before, delta).flat.tolist() == after.flat.tolist()


def test_adding_and_subtracting_leave_their_arguments_alone() -> None:
    before, after = params(1, 2), params(3, 5)
    add(before, subtract(after, before))
    assert (before.flat.tolist(), after.flat.tolist()) == ([1, 2], [3, 5])


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (Schema((("weight", (2, 4)), ("bias", (2,)), ("scale", ()))), r"weight \(2, 3\) here, weight \(2, 4\) there"),
        (Schema((("weight", (2, 3)), ("gain", (2,)), ("scale", ()))), r"bias \(2,\) here, gain \(2,\) there"),
        (Schema((("weight", (2, 3)),)), "3 arrays here, 1 there"),
        (Schema((*SCHEMA.entries, ("more", (1,)))), "3 arrays here, 4 there"),
    ],
)
def test_schemas_that_differ_are_refused_with_the_first_difference(other: Schema, difference: str) -> None:
    with pytest.raises(ShapeMismatch, match=difference):
        require_same(SCHEMA, other)
    ours, theirs = (Params(Arrays(s, np.zeros(s.size, np.float32))) for s in (SCHEMA, other))
    with pytest.raises(ShapeMismatch):
        subtract(ours, theirs)
    with pytest.raises(ShapeMismatch):
        add(ours, Delta(theirs))


@tries(200)
@given(arrays(largest=3.4e38))
def test_the_norm_of_a_finite_delta_is_finite_and_right(found: Arrays) -> None:
    # Squares below float32's range are lost, which only a vector shorter than anybody cares about can notice.
    expected = float(np.linalg.norm(found.flat.astype(np.float64)))
    assert norm(Delta(found)) == pytest.approx(expected, rel=1e-4, abs=1e-18)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 500, 999])
def test_one_value_that_is_not_finite_makes_the_norm_not_finite(bad: float, place: int) -> None:
    flat = np.full(1000, 0.5, np.float32)
    flat[place] = bad
    assert not math.isfinite(norm(vector(*flat)))


def test_two_infinities_do_not_cancel_in_the_norm() -> None:
    assert not math.isfinite(norm(vector(math.inf, -math.inf)))


def test_a_finite_delta_whose_square_overflows_is_still_measured() -> None:
    assert norm(vector(3e38, 3e38, 3e38, 3e38)) == pytest.approx(6e38)


def test_equal_digests_are_equal_to_the_bit() -> None:
    base = params(1, 2, 3)
    values = {
        digest_of(found)
        for found in (
            base,
            params(1, 2, float(np.nextafter(np.float32(3), np.float32(4)))),
            params(1, 3, 2),
            params(0, 0, 0),
            params(0, 0, -0.0),
            Arrays(Schema((("v", (3,)),)), base.flat),
            Arrays(Schema((("w", (3, 1)),)), base.flat),
            Arrays(Schema((("w", (1,)), ("x", (2,)))), base.flat),
        )
    }
    assert len(values) == 8
    assert digest_of(base) == digest_of(gather(base.named()))


def test_a_digest_can_be_computed_by_someone_else() -> None:
    schema = hashlib.sha256(json.dumps([["w", [3]]]).encode()).digest()
    assert digest_of(params(1, 2, 3)) == hashlib.sha256(schema + struct.pack("<3f", 1, 2, 3)).hexdigest()


def test_a_digest_of_parts_is_that_of_the_whole() -> None:
    assert digest([b"ab", memoryview(b"c"), b""]) == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize("size", [0, 1])
def test_params_of_no_or_one_value_have_a_norm_and_a_digest(size: int) -> None:
    found = Arrays(Schema((("w", (size,)),)), np.ones(size, np.float32))
    assert (norm(Delta(found)), len(digest_of(found))) == (float(size), 64)


def test_the_repr_of_half_a_million_values_is_short() -> None:
    assert repr(params(3, 4)) == "<2 float32, norm 5>"
