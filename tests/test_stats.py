"""Statistics: forms and their sizes, exact sums, closed forms against independent references."""

import itertools
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmq.delta import Params, gather
from fedmq.errors import BadPayload, ConfigInvalid, Rejection
from fedmq.stats.bounds import require_sound
from fedmq.stats.choice import PENALTIES, UNCHOSEN, penalty
from fedmq.stats.forms import FORMS
from fedmq.stats.heads import SHARPNESS, discriminant, even, head, means, ridge
from fedmq.stats.layout import BIAS, HEAD, Layout, Statistics, count, square, triangle
from fedmq.stats.settings import Statistics as Settings
from fedmq.stats.solve import solve
from fedmq.stats.sums import MOST, Sum, Totals
from pair import SCHEMA

DIM, CLASSES = 12, 3
LAYOUT = Layout(CLASSES, DIM)
TEXT = np.eye(CLASSES, DIM)
EXACT = FORMS["stats-fp32"]
Rows = tuple[NDArray[np.float32], NDArray[np.int64]]


def examples(number: int, seed: int, classes: int = CLASSES, dim: int = DIM) -> Rows:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, number)
    values = 2 * np.eye(classes, dim)[labels] + rng.normal(0.3, 0.6, (number, dim)) * rng.uniform(1, 9, (number, 1))
    return values.astype(np.float32), labels


def unit(rows: Iterable[Rows]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return all features as unit rows of float64, and all labels."""
    found = list(rows)
    values = np.concatenate([values for values, _ in found]).astype(np.float64)
    return values / np.linalg.norm(values, axis=1, keepdims=True), np.concatenate([labels for _, labels in found])


def summed(nodes: Iterable[Statistics], layout: Layout = LAYOUT) -> Sum:
    total = Sum(layout)
    for found in nodes:
        total.add(found)
    return total


def beginning(scale: float = 20.0) -> Params:
    return gather({HEAD: (scale * TEXT).astype(np.float32), BIAS: np.zeros(CLASSES, np.float32)})


def bits(total: Sum) -> bytes:
    found = total.totals()
    return found.counts.tobytes() + found.sums.tobytes() + found.gram.tobytes()


NODES = [examples(40 + 10 * seed, seed) for seed in range(5)]
FOUND = [count([rows], LAYOUT) for rows in NODES]


def test_counting_in_batches_gives_what_counting_at_once_gives_and_leaves_out_what_has_no_direction() -> None:
    values, labels = NODES[0]
    values, labels = np.concatenate([values, np.zeros((2, DIM), np.float32)]), np.append(labels, [0, 1])
    whole = count([(values, labels)], LAYOUT)
    parts = count([(values[:7], labels[:7]), (values[7:], labels[7:])], LAYOUT)
    unit_rows, kept = unit([NODES[0]])
    assert (whole.counts.tolist(), whole.examples) == (np.bincount(kept).tolist(), 40)
    np.testing.assert_allclose(square(whole.gram, DIM), unit_rows.T @ unit_rows, atol=1e-12)
    np.testing.assert_allclose(whole.sums, np.eye(CLASSES)[kept].T @ unit_rows, atol=1e-12)
    np.testing.assert_allclose(parts.gram, whole.gram, atol=1e-12)


def test_a_triangle_holds_a_symmetric_matrix() -> None:
    matrix = np.arange(16.0).reshape(4, 4)
    matrix = matrix + matrix.T
    np.testing.assert_array_equal(square(triangle(matrix), 4), matrix)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("stats-fp32", 539_676),
        ("stats-fp16", 269_852),
        ("stats-rank2", 9_244),
        ("stats-rank4", 11_292),
        ("stats-rank8", 15_388),
        ("stats-rank16", 23_580),
        ("stats-rank64", 72_732),
    ],
)
def test_seven_classes_at_dim_512_take_so_many_bytes(name: str, size: int) -> None:
    layout = Layout(7, 512)
    found = count([examples(30, 1, 7, 512)], layout)
    assert (FORMS[name].size_bytes(layout), len(FORMS[name].pack(found))) == (size, size)


@pytest.mark.parametrize("name", FORMS)
def test_a_form_gives_back_what_it_was_given_within_its_rounding_and_always_the_same(name: str) -> None:
    found, form = FOUND[0], FORMS[name]
    payload = form.pack(found)
    read = form.unpack(payload, LAYOUT)
    rounding = 1e-6 if name == "stats-fp32" else 1e-3
    np.testing.assert_array_equal(read.counts, found.counts)
    np.testing.assert_allclose(read.sums, found.sums, atol=rounding * found.examples)
    if not name.startswith("stats-rank") or int(name.removeprefix("stats-rank")) >= DIM:
        np.testing.assert_allclose(read.gram, found.gram, atol=rounding * found.examples)
    assert np.trace(square(read.gram, DIM)) == pytest.approx(found.examples, rel=1e-3)
    again = form.unpack(payload, LAYOUT)
    assert again.gram.tobytes() + again.sums.tobytes() == read.gram.tobytes() + read.sums.tobytes()


@pytest.mark.parametrize("rank", [2, 4, 8])
def test_rank_r_is_the_largest_eigenpairs_and_an_isotropic_remainder(rank: int) -> None:
    gram = square(FOUND[1].gram, DIM)
    values, vectors = np.linalg.eigh(gram)
    values[: DIM - rank] = values[: DIM - rank].mean()
    form = FORMS[f"stats-rank{rank}"]
    read = square(form.unpack(form.pack(FOUND[1]), LAYOUT).gram, DIM)
    np.testing.assert_allclose(read, vectors @ np.diag(values) @ vectors.T, atol=2e-3 * FOUND[1].examples)


@pytest.mark.parametrize("name", FORMS)
def test_every_truncation_of_a_payload_is_refused(name: str) -> None:
    payload = bytes(FORMS[name].pack(FOUND[0]))
    for end in [*range(len(payload)), -1]:
        with pytest.raises(BadPayload, match="payload of"):
            FORMS[name].unpack(payload[:end] if end >= 0 else payload + b"\0", LAYOUT)


@pytest.mark.parametrize("name", FORMS)
def test_a_sum_has_the_same_bits_in_any_order_and_what_is_subtracted_was_never_there(name: str) -> None:
    form = FORMS[name]
    nodes = [form.unpack(form.pack(found), LAYOUT) for found in FOUND]
    wanted = bits(summed(nodes))
    assert {bits(summed(order)) for order in itertools.permutations(nodes)} == {wanted}
    total = summed(nodes)
    total.subtract(nodes[2])
    without = [*nodes[:2], *nodes[3:]]
    assert bits(total) == bits(summed(without)) == bits(summed(nodes) - summed([nodes[2]]))


def test_ten_thousand_nodes_are_summed_without_rounding() -> None:
    """In floating point they would not be: 1/3 is not added up the same from both ends."""
    one = Statistics(np.full(1, 1000), np.full((1, 1), 1000 / 3), np.full(1, 1000.0))
    total = summed([one] * 10_000, Layout(1, 1))
    assert total.totals().sums[0, 0] == 10_000 * round(1000 / 3 * 2**32) / 2**32


def test_a_sum_refuses_more_examples_than_it_has_bits_for() -> None:
    total = summed([Statistics(np.full(1, 2**24), np.zeros((1, 1)), np.zeros(1))] * (MOST // 2**24), Layout(1, 1))
    with pytest.raises(Rejection, match=f"limit is {MOST}") as refusal:
        total.add(Statistics(np.full(1, 1), np.zeros((1, 1)), np.zeros(1)))
    assert refusal.value.reason == "too_large"


def test_solving_agrees_with_lapack_and_says_when_it_had_to_lift_more() -> None:
    rng = np.random.default_rng(0)
    root, right = rng.standard_normal((30, 30)), rng.standard_normal((30, 4))
    matrix = root @ root.T
    found, lift = solve(matrix, right, 0.5)
    np.testing.assert_allclose(found, np.linalg.solve(matrix + 0.5 * np.eye(30), right), rtol=1e-9, atol=1e-9)
    indefinite = matrix - (np.linalg.eigvalsh(matrix)[0] + 1.5) * np.eye(30)
    assert (lift, solve(indefinite, right, 0.5)[1]) == (0.5, 2.0)


def test_ridge_is_least_squares_with_the_text_as_rows_of_its_own() -> None:
    values, labels = unit(NODES)
    drawn = np.sqrt(0.7)
    rows = np.concatenate([values, drawn * np.eye(DIM)])
    wanted = np.concatenate([np.eye(CLASSES)[labels], drawn * 3.0 * TEXT.T])
    reference = np.linalg.lstsq(rows, wanted, rcond=None)[0].T
    np.testing.assert_allclose(ridge(summed(FOUND).totals(), TEXT, 0.7, 3.0), reference, atol=1e-6)


def test_even_rows_have_the_directions_of_ridge_and_one_length_which_is_their_mean() -> None:
    rows = ridge(summed(FOUND).totals(), TEXT, 0.7, 3.0)
    lengths = np.linalg.norm(rows, axis=1)
    assert lengths.std() > 0.01
    np.testing.assert_allclose(even(rows), lengths.mean() * rows / lengths[:, None], rtol=1e-12)
    made = head(Settings("even", text_weight=3.0), 0.7, summed(FOUND).totals(), beginning()).named()
    np.testing.assert_allclose(made[HEAD], SHARPNESS * even(rows), rtol=1e-6)
    assert not made[BIAS].any()


def test_the_discriminant_is_that_of_gaussians_with_one_covariance() -> None:
    """By definition: the log-densities of the classes, of which what they share is left out."""
    values, labels = unit(NODES)
    numbers = np.bincount(labels)
    centres = np.stack([values[labels == c].mean(axis=0) for c in range(CLASSES)])
    centred = values - centres[labels]
    within = (centred.T @ centred + 0.5 * np.eye(DIM)) / len(values)
    shares = (numbers + 1) / (len(values) + CLASSES)

    def log_density(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array(
            [np.log(s) - (x - m) @ np.linalg.inv(within) @ (x - m) / 2 for s, m in zip(shares, centres, strict=True)]
        )

    rows, bias = discriminant(summed(FOUND).totals(), 0.5)
    for x in values[:20]:
        ours, reference = rows @ x + bias, log_density(x)
        np.testing.assert_allclose(ours - ours[0], reference - reference[0], atol=1e-5)


def test_class_means_are_directions_and_a_class_that_nobody_has_keeps_its_text() -> None:
    values, labels = unit(NODES)
    has = labels != 2
    found = summed([count([(values[has].astype(np.float32), labels[has])], LAYOUT)]).totals()
    reference = [values[labels == c].mean(axis=0) for c in range(2)]
    wanted = np.stack([*(mean / np.linalg.norm(mean) for mean in reference), TEXT[2]])
    np.testing.assert_allclose(means(found, TEXT), wanted, atol=1e-6)


@pytest.mark.parametrize("which", ["ridge", "discriminant"])
def test_a_class_that_nobody_has_does_not_break_a_head(which: str) -> None:
    values, labels = NODES[0]
    found = summed([count([(values[labels == 1], labels[labels == 1])], LAYOUT)]).totals()
    made = head(Settings(which), 1.0, found, beginning()).named()  # type: ignore[arg-type]
    unit_rows, kept = unit([(values[labels == 1], labels[labels == 1])])
    assert ((unit_rows @ made[HEAD].T + made[BIAS]).argmax(axis=1) == kept).all()


def test_an_infinite_penalty_gives_the_text_and_so_the_frozen_model() -> None:
    made = head(Settings(), 1e12, summed(FOUND).totals(), beginning()).named()[HEAD]
    np.testing.assert_allclose(made, SHARPNESS * 3.0 * TEXT, rtol=1e-6, atol=1e-6)


def test_leaving_each_node_out_chooses_what_measuring_on_its_examples_would_choose() -> None:
    """The reference has the examples: it solves with lstsq, and measures squared errors one by one."""
    errors = []
    for each in PENALTIES:
        total = 0.0
        for out, rows in enumerate(NODES):
            values, labels = unit(NODES[:out] + NODES[out + 1 :])
            extended = np.concatenate([values, np.sqrt(each) * np.eye(DIM)])
            wanted = np.concatenate([np.eye(CLASSES)[labels], np.sqrt(each) * 3.0 * TEXT.T])
            fitted = np.linalg.lstsq(extended, wanted, rcond=None)[0]
            left, right = unit([rows])
            total += float(np.sum((left @ fitted - np.eye(CLASSES)[right]) ** 2)) / len(left)
        errors.append(total)
    chosen = penalty(Settings(), summed(FOUND), [summed([found]) for found in FOUND], beginning())
    assert chosen == PENALTIES[int(np.argmin(errors))]
    assert PENALTIES[0] < chosen < PENALTIES[-1]


def test_the_discriminants_penalty_is_the_likeliest_for_the_node_left_out() -> None:
    errors = []
    for each in PENALTIES:
        total = 0.0
        for out, rows in enumerate(NODES):
            values, labels = unit(NODES[:out] + NODES[out + 1 :])
            centres = np.stack([values[labels == c].mean(axis=0) for c in range(CLASSES)])
            centred = values - centres[labels]
            within = (centred.T @ centred + each * np.eye(DIM)) / len(values)
            left, right = unit([rows])
            apart = left - centres[right]
            quadratic = float(np.einsum("ni,ij,nj->", apart, np.linalg.inv(within), apart))
            total += quadratic / len(left) + float(np.linalg.slogdet(within)[1])
        errors.append(total)
    folds = [summed([found]) for found in FOUND]
    assert penalty(Settings("discriminant"), summed(FOUND), folds, beginning()) == PENALTIES[int(np.argmin(errors))]


def test_a_penalty_that_is_set_is_taken_and_one_node_has_nobody_to_be_left_out() -> None:
    folds = [summed([found]) for found in FOUND]
    assert penalty(Settings(penalty=0.25), summed(FOUND), folds, beginning()) == 0.25
    assert penalty(Settings(), folds[0], folds[:1], beginning()) == UNCHOSEN


@pytest.mark.parametrize("name", FORMS)
def test_honest_statistics_are_sound_in_every_form(name: str) -> None:
    form = FORMS[name]
    for number in (1, 2, 5, 500):
        found = count([examples(number, number)], LAYOUT)
        require_sound(form.unpack(form.pack(found), LAYOUT), LAYOUT, form, number)


def spoilt(code: str) -> Statistics:
    found = FOUND[0]
    gram = square(found.gram, DIM)
    match code:
        case "wrong_counts":
            return replace(found, counts=found.counts + 1)
        case "wrong_sums":
            return replace(found, sums=found.sums * 50)
        case "wrong_trace":
            return replace(found, gram=found.gram * 1.1)
        case "not_positive":
            gram[0, 1] = gram[1, 0] = found.examples
            return replace(found, gram=triangle(gram))
    return replace(found, sums=found.sums * np.nan)


@pytest.mark.parametrize("code", ["wrong_counts", "wrong_sums", "wrong_trace", "not_positive", "not_finite"])
def test_what_cannot_be_the_statistics_of_unit_features_is_refused_by_name(code: str) -> None:
    with pytest.raises(Rejection) as refusal:
        require_sound(EXACT.unpack(EXACT.pack(spoilt(code)), LAYOUT), LAYOUT, EXACT, FOUND[0].examples)
    assert refusal.value.reason == code


def test_vectors_that_say_more_than_the_trace_are_refused() -> None:
    form = FORMS["stats-rank2"]
    payload = bytearray(form.pack(FOUND[0]))
    payload[-4 * DIM :] = np.full(2 * DIM, 0.9, "<f2").tobytes()
    with pytest.raises(BadPayload, match=r"make up 19.4\d of the trace, limit is 1"):
        form.unpack(bytes(payload), LAYOUT)


def test_only_a_heads_params_have_statistics() -> None:
    assert Layout.of(beginning().schema) == LAYOUT
    with pytest.raises(ConfigInvalid, match="need the method 'statistics'"):
        Layout.of(SCHEMA)


def test_totals_know_how_many_examples_are_in_them() -> None:
    assert Totals(np.array([2, 3]), np.zeros((2, 1)), np.zeros((1, 1))).examples == 5
