"""Own heads, and version 0 from another run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedmq.delta import Params, gather
from fedmq.errors import ConfigInvalid
from fedmq.ledger import Keeping, Ledger
from fedmq.plan import CAVEAT, Job
from fedmq.record import LEDGER
from fedmq.stats.heads import SHARPNESS, ridge
from fedmq.stats.layout import BIAS, HEAD, Layout, count
from fedmq.stats.sums import Sum
from fedmq_models.examples import Examples
from fedmq_models.head import solved
from fedmq_models.methods import logits, method
from fedmq_nodes.begin import from_run
from fedmq_nodes.own_head import PULLS, head
from ledgers import META, opened

CLASSES, DIM = 3, 10


def shifted(number: int, seed: int, turn: int) -> Examples:
    """Examples of a node whose labels are turned by so much: what one calls 0, the next calls 1."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, CLASSES, number)
    values = (3 * np.eye(CLASSES, DIM)[kinds] + rng.normal(0, 0.5, (number, DIM))).astype(np.float32)
    values[:, CLASSES + turn] += 2  # what tells a node's features from another's
    return Examples(values, np.arange(number), (kinds + turn) % CLASSES)


def shared(nodes: list[Examples]) -> dict[str, np.ndarray]:
    total = Sum(Layout(CLASSES, DIM))
    for node in nodes:
        total.add(count([(node.features, node.labels)], Layout(CLASSES, DIM)))
    weights = ridge(total.totals(), np.eye(CLASSES, DIM), 1.0, 1.0)
    return {HEAD: (SHARPNESS * weights).astype(np.float32), BIAS: np.zeros(CLASSES, np.float32)}


def accuracy(params: dict[str, np.ndarray], examples: Examples) -> float:
    return float((solved(params, examples.features).argmax(axis=1) == examples.labels).mean())


def test_where_nodes_mean_different_things_an_own_head_is_better_than_the_shared_one_on_each() -> None:
    nodes = [shifted(120, seed, seed) for seed in range(3)]
    tests = [shifted(200, 10 + seed, seed) for seed in range(3)]
    found = shared(nodes)
    for node, test in zip(nodes, tests, strict=True):
        assert accuracy(head(found, node), test) > accuracy(found, test) + 0.1


@pytest.mark.parametrize("number", [DIM - 2, 40 * DIM], ids=["fewer examples than dimensions", "more"])
def test_an_own_head_is_least_squares_on_a_nodes_own_features_drawn_to_the_head_of_all(number: int) -> None:
    found, node = shared([shifted(120, seed, seed) for seed in range(3)]), shifted(number, 5, 1)
    own = Sum(Layout(CLASSES, DIM))
    own.add(count([(node.features, node.labels)], Layout(CLASSES, DIM)))
    drawn = [ridge(own.totals(), found[HEAD].astype(np.float64) / SHARPNESS, pull, 1.0) for pull in PULLS]
    errors = [np.abs(head(found, node)[HEAD] - SHARPNESS * rows).max() for rows in drawn]
    assert min(errors) < 1e-4 < sorted(errors)[1]


def test_a_node_with_next_to_no_examples_keeps_the_shared_head() -> None:
    found = shared([shifted(120, 0, 0)])
    assert head(found, shifted(4, 1, 0)) == found


def run_of(folder: Path, params: Params) -> Path:
    folder.mkdir()
    Ledger.open(folder / LEDGER, META, {}, params, Keeping(), 0.0, 1.0).close()
    return folder


def job_of(params: Params, method: str = "linear") -> Job:
    return Job(META["feature_space"], DIM, method, {}, b"", params)


def test_a_run_begins_with_what_it_shares_with_another_and_draws_the_rest(tmp_path: Path) -> None:
    statistics = gather({HEAD: np.full((2, 3), 5.0, np.float32), BIAS: np.zeros(2, np.float32)})
    run = run_of(tmp_path / "run", statistics)
    own = gather({HEAD: np.zeros((2, 3), np.float32), "adapter": np.ones(4, np.float32)})
    begun = from_run(job_of(own), run).params.named()
    assert (begun[HEAD] == 5.0).all()
    assert (begun["adapter"] == 1.0).all()


@pytest.mark.parametrize(
    ("has", "wants", "why"),
    [
        ({HEAD: (2, 3)}, {"other": (2, 3)}, "has head.weight 2x3; linear has other 2x3"),
        ({HEAD: (2, 3), BIAS: (2,)}, {HEAD: (2, 3)}, "has head.weight 2x3, head.bias 2; linear has"),
        ({HEAD: (2, 3)}, {HEAD: (3, 3)}, "head.weight has shape (2, 3)"),
    ],
)
def test_a_run_whose_params_do_not_fit_is_refused_with_both_schemas(
    has: dict[str, tuple[int, ...]], wants: dict[str, tuple[int, ...]], why: str, tmp_path: Path
) -> None:
    run = run_of(tmp_path / "run", gather({name: np.ones(shape, np.float32) for name, shape in has.items()}))
    own = gather({name: np.zeros(shape, np.float32) for name, shape in wants.items()})
    with pytest.raises(ConfigInvalid) as refusal:
        from_run(job_of(own), run)
    assert why in str(refusal.value)


def test_statistics_begin_at_the_text_and_another_feature_space_is_refused(tmp_path: Path) -> None:
    params = gather({HEAD: np.ones((2, 3), np.float32)})
    run = run_of(tmp_path / "run", params)
    with pytest.raises(ConfigInvalid, match="begins at the text features"):
        from_run(job_of(params, "statistics"), run)
    with pytest.raises(ConfigInvalid, match="features of space aaaa"):
        from_run(replace(job_of(params), feature_space="b" * 64), run)


def test_rounds_that_go_on_from_a_head_that_was_solved_begin_with_its_own_logits(tmp_path: Path) -> None:
    rng, text = np.random.default_rng(0), np.eye(2, 3, dtype=np.float32)
    head_ = {HEAD: rng.normal(0, 5, (2, 3)).astype(np.float32), BIAS: np.zeros(2, np.float32)}
    (tmp_path / "run").mkdir()
    opened(tmp_path / "run" / LEDGER, {"method": "statistics"}, start=gather(head_)).close()
    job = replace(job_of(gather({HEAD: text})), task={"logit_scale": 20.0})
    begun = from_run(job, tmp_path / "run").params.named()
    features = rng.normal(size=(9, 3)).astype(np.float32)
    found = logits(method("linear"), begun, features, text, 20.0)
    np.testing.assert_allclose(found, solved(head_, features), rtol=1e-5)


def test_who_begins_with_a_transductive_run_carries_its_caveat(tmp_path: Path) -> None:
    params = gather({HEAD: np.ones((2, 3), np.float32)})
    (tmp_path / "run").mkdir()
    opened(tmp_path / "run" / LEDGER, start=params, notes={CAVEAT: "has seen the tests"}).close()
    assert from_run(job_of(params), tmp_path / "run").notes[CAVEAT] == "has seen the tests"
    assert CAVEAT not in from_run(job_of(params), run_of(tmp_path / "plain", params)).notes
