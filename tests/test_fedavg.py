"""Sync rounds are FedAvg (McMahan et al. 2017, arXiv:1602.05629): beside a loop that knows no rounds."""

from dataclasses import replace

import numpy as np
import pytest

from fedmq.rounds import PRESETS
from fedmq.seeds import seed
from fedmq.weight import Weighting
from fedmq_models.training import Training, fit, terms_of
from learners import EXACT, SCALE, School, domain, halves, text

COUNTS = {"a": 60, "bb": 120, "ccc": 40}
DATA = {name: halves(domain(count, at, turn=0.3)) for at, (name, count) in enumerate(COUNTS.items())}


@pytest.mark.parametrize("by", ["examples", "updates"])
@pytest.mark.parametrize("training", [Training(method="linear", lr=0.1), Training(prox=0.1), Training(moon=1.0)])
def test_a_sync_federation_is_fedavg_of_its_local_runs(training: Training, by: str) -> None:
    settings = replace(EXACT, rounds=PRESETS["sync"], weight=Weighting(by=by))  # type: ignore[arg-type]
    school = School(training, DATA, settings).run(versions=3)
    params, terms = dict(school.task.fresh), {name: terms_of(training) for name in DATA}
    counts = {name: len(data.train) if by == "examples" else 1 for name, data in DATA.items()}
    for version in range(3):
        runs = {
            name: fit(training, params, data.train, text(), SCALE, seed(at, version), terms=terms[name]).params
            for at, (name, data) in enumerate(DATA.items())
        }
        weights = [counts[name] for name in runs]
        params = {
            key: np.average([run[key] for run in runs.values()], axis=0, weights=weights).astype(np.float32)
            for key in params
        }
    found = school.versions()[-1].params.named()
    assert max(float(np.abs(found[key] - params[key]).max()) for key in params) <= 1e-5
    assert {entry.staleness for entry in school.updates()} == {0}
