"""The table of accuracy: rows of folds and seeds as one line, which hides nobody who loses."""

from typing import Any

import pytest

from fedmq_bench.accuracy import table
from fedmq_bench.accuracy.table import Figure

ROW: dict[str, Any] = {
    "case": "accuracy", "dataset": "pacs", "encoder": "MobileNetV2", "stand_in": True, "method": "linear",
    "split": "domains", "alpha": None, "nodes": 3, "transductive": False, "personal": None, "worst_node": 0.5,
    "bytes_up": 2_101_248, "bytes_total": 9_000_000, "rounds": 3, "seconds": 1.0, "failing": [],
}  # fmt: skip


def row(seed: int, fold: str, held_out: float, **more: Any) -> dict[str, Any]:
    return {**ROW, "seeds": [seed], "fold": fold, "held_out": held_out, "participants": 0.8, **more}


ROWS = [row(0, "art", 0.4), row(0, "photo", 0.6, failing=["art"]), row(1, "art", 0.6), row(1, "photo", 0.8)]


def test_a_line_has_the_mean_over_folds_and_the_spread_over_seeds() -> None:
    ((part, (line,)),) = table.parts(ROWS).items()
    assert part == ("pacs", "MobileNetV2", True, "domains", None)
    figure = line.figures["held_out"]
    assert (figure.mean, figure.spread) == pytest.approx((0.6, 0.2 / 2**0.5))
    assert line.figures["personal"] == Figure(None, None)
    assert (line.seeds, line.runs, line.less, line.failing) == (2, 4, 200, {"art": 1})
    assert str(Figure(0.5)) == "50.0"


def test_of_a_run_that_was_measured_again_the_newest_row_counts() -> None:
    ((_, (line,)),) = table.parts([row(0, "art", 0.1), row(0, "art", 0.9)]).items()
    assert (line.figures["held_out"], line.runs) == (Figure(0.9), 1)


def test_a_seed_of_which_folds_are_missing_is_left_out() -> None:
    ((_, (line,)),) = table.parts(ROWS[:3]).items()
    assert (line.figures["held_out"].mean, line.seeds, line.runs) == (0.5, 1, 2)


def test_a_page_calls_a_stand_in_one_and_names_who_ends_below_zero_shot() -> None:
    text = table.markdown(ROWS)
    assert text.startswith("**pacs, a node per domain, features of MobileNetV2 (a stand-in, not CLIP)**")
    assert "| linear | 60.0 ± 14.1 | 80.0 ± 0.0 | - | 50.0 ± 0.0 | 2.1 MB | 200 | 9.0 MB | 3 | 1 |" in text
    assert "- linear ends below zero-shot, in so many of 4 runs, on art (1)" in text


def test_ways_stand_in_their_order_and_a_transductive_one_is_told_apart() -> None:
    rows = [row(0, "art", 0.5, method=name) for name in ("even", "faaclip", "zero-shot")]
    rows.append(row(0, "art", 0.9, method="faaclip", transductive=True))
    ((_, lines),) = table.parts(rows).items()
    assert [line.method for line in lines] == ["zero-shot", "faaclip", "faaclip", "even"]
    assert "| faaclip, transductive | 90.0 |" in table.markdown(rows)
